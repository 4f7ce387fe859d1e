"""Cluster engines as executors of a build: Ray and Spark.

Each class is a `concurrent.futures.Executor` for ``executor=``. The library of the engine is loaded when an executor is
made, never by the import. The names are loaded when they are first used: workers of an engine load neither another one
nor torch.
"""

from typing import TYPE_CHECKING, Any

from memxlnet._lazy import lazy_names

if TYPE_CHECKING:
    from memxlnet.engines.ray_executor import RayExecutor as RayExecutor
    from memxlnet.engines.spark_dataframe import build_dataframe as build_dataframe
    from memxlnet.engines.spark_executor import SparkExecutor as SparkExecutor

_NAMES = {
    "RayExecutor": "memxlnet.engines.ray_executor",
    "SparkExecutor": "memxlnet.engines.spark_executor",
    "build_dataframe": "memxlnet.engines.spark_dataframe",
}


def __getattr__(name: str) -> Any:
    return lazy_names(__name__, _NAMES, name)

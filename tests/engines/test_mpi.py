"""The ranks of an MPI job as the executor of a build."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builder.processes import build, content
from tests.builder.scripts.injected import chunk_files, environment
from tests.support import ROOT, WAIT_SECONDS

pytestmark = pytest.mark.slow


def mpi_build(folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Build in two ranks, driven by a third."""
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install mpi4py")
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("needs MPI with mpirun, such as the package openmpi-bin of Debian")
    # Names of Open MPI, which otherwise refuses root and more ranks than cores; others do not know them.
    allowed = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    script = [sys.executable, "-m", "mpi4py.futures", "-m", "tests.engines.mpi_build"]
    command = [mpirun, "-n", "3", *script, folder / "cache", folder / "notes", *arguments]
    return subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=environment(**allowed),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def test_the_ranks_of_mpi_change_no_byte(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    done = mpi_build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "cache") == undisturbed
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["runs"] == [0, 1, 2, 3]
    assert answer["driver"] not in answer["processes"]


def test_a_killed_rank_of_mpi_ends_the_job_and_the_next_build_resumes(
    tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    done = mpi_build(tmp_path, 1)
    assert done.returncode != 0
    finished = len(chunk_files(tmp_path / "cache"))
    assert finished >= 2
    with caplog.at_level("INFO", "memxlnet"):
        build(tmp_path / "cache", num_workers=0)
    assert f"resuming with {finished} finished chunks" in caplog.text
    assert content(tmp_path / "cache") == undisturbed

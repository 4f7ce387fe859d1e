"""Run by `mpirun` under `mpi4py.futures`: build in the ranks from 1 on.

Usage: CACHE_DIR NOTES [KILLED]; the last is the number of the call whose rank is killed.
"""

import json
import os
import sys
from pathlib import Path

from mpi4py.futures import MPIPoolExecutor

from tests.builder.processes import build
from tests.engines.killing import Noting

if __name__ == "__main__":
    cache_dir, notes = map(Path, sys.argv[1:3])
    killed = int(sys.argv[3]) if sys.argv[3:] else None
    with MPIPoolExecutor() as executor:
        noting = Noting(executor, notes, cache_dir, killed)
        build(cache_dir, executor=noting)
        answer = {"runs": noting.runs(), "processes": sorted(noting.processes()), "driver": os.getpid()}
        (cache_dir.parent / "answer.json").write_text(json.dumps(answer))

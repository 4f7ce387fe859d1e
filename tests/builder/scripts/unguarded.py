"""A script as users write it, without a main guard.

Usage: unguarded.py CACHE_DIR HOW START_METHOD. HOW is ``workers`` or ``executor``; START_METHOD is set as the default
unless it is ``default``.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.builder.processes import build

cache_dir, how, method = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if method != "default":
    multiprocessing.set_start_method(method, force=True)
if how == "workers":
    sys.stdout.write(f"{build(cache_dir, num_workers=2)}\n")
else:
    with ProcessPoolExecutor(1) as executor:
        sys.stdout.write(f"{build(cache_dir, executor=executor)}\n")

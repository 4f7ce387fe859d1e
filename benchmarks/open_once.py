"""Opens a cache once in a fresh process, torch already loaded; prints the seconds as JSON."""

import json
import sys
import time

from memxlnet.load.datasets import CacheDataset


def main() -> None:
    started = time.perf_counter()
    CacheDataset(sys.argv[1])
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()

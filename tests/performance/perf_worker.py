"""Runs one benchmark of the revision it is started in, each time it is asked to: `perf_compare` starts one per revision.

Reads lines from stdin; answers each with the seconds of one run. The first answer comes unasked when all is ready.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).parents[2]
sys.path[:0] = [str(TREE), str(TREE / "tests")]


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the benchmark prints is no answer
    import harness
    from tests.performance.benchmarks import BENCHMARKS

    if not Path(harness.__file__).is_relative_to(TREE):
        raise SystemExit(f"Expected the code of {TREE}, found {harness.__file__}.")
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        run = BENCHMARKS[name](Path(folder))
        run()  # caches, compiled loops, lazy imports
        print("ready", file=answers)
        for _ in sys.stdin:
            began = time.perf_counter()
            run()
            print(time.perf_counter() - began, file=answers)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1])

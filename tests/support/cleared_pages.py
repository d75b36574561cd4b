"""Which large blocks lie in memory that the system had to clear, in a process of its own.

A process of its own, because what other tests left free in the heap would be taken first.

    python -m tests.support.cleared_pages DEVICE [--error]

prints as JSON what was seen before, inside and after `memory_kept`; `--error` ends it by an exception.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from harness.hardware import memory_kept

# Bytes: glibc keeps smaller blocks than 32 MiB by itself.
BLOCK = 33 * 2**20
BLOCKS = 24
_PR_SET_THP_DISABLE = 41


class Seen(TypedDict):
    """Counts of `BLOCKS` blocks, each freed before the next is taken, and bytes in use beyond those at the start.

    `taken_again` and `taken_again_before` count blocks in memory of earlier ones, inside `memory_kept` and before it.
    `resident` is at its end, `resident_at_the_end` right after it, and `resident_later` after `BLOCKS` blocks were held
    at once and freed.
    """

    taken_again_before: int
    taken_again: int
    resident: int
    resident_at_the_end: int
    resident_later: int


def watch(device: str, *, error: bool = False) -> Seen:
    """What a new process sees."""
    command = [sys.executable, "-m", "tests.support.cleared_pages", device, *(["--error"] if error else [])]
    seen: Seen = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return seen


def _main(device: str, error: bool) -> None:
    # Huge pages are cleared in one fault each: counted, they would look like pages taken again.
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    before, began = _taken_again(), _resident()
    with contextlib.suppress(ValueError), memory_kept(device):
        inside, resident = _taken_again(), _resident()
        if error:
            raise ValueError
    at_the_end = _resident()
    held = [_block() for _ in range(BLOCKS)]
    held.clear()
    seen = Seen(
        taken_again_before=before,
        taken_again=inside,
        resident=resident - began,
        resident_at_the_end=at_the_end - began,
        resident_later=_resident() - began,
    )
    print(json.dumps(seen))


def _taken_again() -> int:
    taken, faults = 0, _faults()
    for _ in range(BLOCKS):
        _block()
        before, faults = faults, _faults()
        taken += faults - before < BLOCK // resource.getpagesize() // 2
    return taken


def _block() -> bytes:
    return b"1" * BLOCK


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    _main(sys.argv[1], "--error" in sys.argv[2:])

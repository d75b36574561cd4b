"""Reads and recomputes submissions in a process of their own, whose memory is bounded: none of them can end the build."""

from __future__ import annotations

import contextlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from harness.data.dataset import Dataset
from harness.submissions.layout import Refused, Submission
from harness.submissions.reading import read_submission
from harness.submissions.verifying import check_data, recompute

MEMORY = 6 << 30
"""Bytes that reading one submission may take beyond what the process had at its start."""


@dataclass(frozen=True)
class Verdict:
    """What became of one file.

    Attributes:
        state: `verified`: every number was computed here, from its masks; `unverified`: sound, and taken at its word.
        reason: why it was refused, or why it is unverified.
        submission: without its masks; None where refused.
    """

    state: Literal["verified", "unverified", "refused"]
    reason: str = ""
    submission: Submission | None = None


def judge(path: Path, data: Path | None) -> Verdict:
    """Reads the submission at `path` and, where `data` is given, compares it with them.

    Args:
        data: the verifier's own copy of the dataset, with its masks.
    """
    try:
        submission = read_submission(path)
        if data is None:
            return _unverified(submission, "nobody recomputed its numbers: this site was built without the data")
        dataset = _dataset(data)
        check_data(submission, dataset)
        if submission.predictions is None:
            return _unverified(submission, "it has no masks, so that nobody could recompute its numbers")
        found = recompute(submission, dataset)
        return Verdict("verified", submission=replace(found, predictions=None))
    except Refused as error:
        return Verdict("refused", str(error))
    except MemoryError:
        return Verdict("refused", f"reading it took more than {MEMORY >> 30} GiB of memory.")


@lru_cache(maxsize=1)
def _dataset(root: Path) -> Dataset:
    return Dataset.open(root)


def _unverified(submission: Submission, reason: str) -> Verdict:
    return Verdict("unverified", reason, replace(submission, predictions=None))


class Judges:
    """`judge` in another process. One that dies of a file is replaced, and the file refused."""

    def __init__(self, data: Path | None) -> None:
        self.data = data
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def judge(self, path: Path) -> Verdict:
        if self._pool is None:
            # Not forked: threads of this process don't survive that.
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=bound_memory)
        try:
            return self._pool.submit(judge, path, self.data).result()
        except BrokenProcessPool:
            self._pool = None
            return Verdict("refused", "the process that read it died, probably for want of memory.")


def bound_memory() -> None:
    """Bounds the memory of this process, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

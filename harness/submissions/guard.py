"""Works on what strangers sent in a process of its own, whose memory is bounded: no submission can end the build."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.submissions.layout import Refused, Submission
from harness.submissions.reading import read_submission
from harness.submissions.verifying import check_data, recompute

_P = ParamSpec("_P")
_T = TypeVar("_T")
MEMORY = 6 << 30
"""Bytes that the process may take beyond what it had at its start."""
_LONGEST_REASON = 600
logger = logging.getLogger(__name__)


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
        return Verdict("refused", _one_line(str(error)))
    except MemoryError:
        return Verdict("refused", f"reading it took more than {MEMORY >> 30} GiB of memory.")
    except UserError:
        raise  # the verifier's own data can't be used
    except Exception as error:  # a file that can't be opened, or a hole in the checks: one file never ends the build
        logger.warning("%r can't be read: %r", path.name, error)
        return Verdict("refused", f"it can't be read ({type(error).__name__}).")


def _one_line(reason: str) -> str:
    """Short, and without ends of lines: a log may take what begins a line for a command."""
    words = " ".join(reason.split())
    return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}..."


@lru_cache(maxsize=1)
def _dataset(root: Path) -> Dataset:
    return Dataset.open(root)


def _unverified(submission: Submission, reason: str) -> Verdict:
    return Verdict("unverified", reason, replace(submission, predictions=None))


class ProcessDied(Exception):
    """The process that did the work was killed or crashed."""


class Guarded:
    """Calls functions in another process, whose memory is bounded. One that dies is replaced when the next function is called."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What `function(*args)` gives or raises; it and its arguments are pickled.

        Raises:
            ProcessDied: the process ended before it gave a result.
        """
        if self._pool is None:
            # Not forked: threads of this process don't survive that.
            self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=bound_memory)
        try:
            return self._pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            self._pool = None
            raise ProcessDied(str(error)) from error

    def judge(self, path: Path, data: Path | None) -> Verdict:
        """As `judge`; a file that the process dies of is refused."""
        try:
            return self.call(judge, path, data)
        except ProcessDied:
            return Verdict("refused", "the process that read it died, probably for want of memory.")


def bound_memory() -> None:
    """Bounds the memory of this process, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

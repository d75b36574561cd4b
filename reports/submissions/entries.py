"""The files in a folder of submissions: when each came, and what became of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import UserError, found_at, kinds_of
from harness.submissions.guard import Verdict, judge
from harness.submissions.layout import Submission


@dataclass(frozen=True)
class Entry:
    """One file of the folder.

    Attributes:
        file: its name, as it can be shown.
        received: "2026-11-29 19:30 UTC": when git got its content or, outside a checkout, when the file was last written.
    """

    file: str
    received: str
    verdict: Verdict

    @property
    def submission(self) -> Submission:
        assert self.verdict.submission is not None
        return self.verdict.submission

    @property
    def submitter(self) -> dict[str, str]:
        found = self.submission.manifest["submitter"]
        assert isinstance(found, dict)
        return {str(key): str(value) for key, value in found.items()}

    def facts(self) -> dict[str, Any]:
        """What the site and its JSON both say of the file."""
        return {
            "file": self.file,
            "received": self.received,
            "state": self.verdict.state,
            "reason": self.verdict.reason,
            "submitter": self.submitter if self.verdict.submission else None,
        }


def read_entries(
    folder: Path,
    data: Path | None,
    judge_file: Callable[[Path, Path | None], Verdict] = judge,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Entry]:
    """Judges every `*.zip` in the folder; the oldest come first, whatever became of them.

    Args:
        data: the verifier's own copy of the dataset, if there is one.
        judge_file: `judge`, or that of a guarded process.

    Raises:
        UserError: no such folder, or no submission in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of submissions (*.zip), found {found_at(folder)}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip")
    if not paths:
        there = kinds_of(path.name for path in folder.iterdir())
        raise UserError(f"{folder}: expected submissions (*.zip), found {there}. `python -m harness submit` makes one.")
    entries, seen = [], dict[str, str]()
    # By time, so that of two equal files the one that came first counts.
    for done, (received, path) in enumerate(sorted((_received(path), path) for path in paths), start=1):
        name, verdict = shown_name(path), judge_file(path, data)
        if verdict.submission is not None:
            # By digest, not by name: two names may look the same.
            first = seen.get(verdict.submission.digest)
            seen.setdefault(verdict.submission.digest, name)
            if first is not None:
                verdict = Verdict("refused", f"it is the same file as {first}.")
        entries.append(Entry(name, received, verdict))
        progress(done, len(paths))
    return entries


def shown_name(path: Path) -> str:
    """The file's name without what can't be shown: bytes that are no text, control characters."""
    text = os.fsencode(path.name).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)[:120]


def _received(path: Path) -> str:
    moment = _last_commit(path) or datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _last_commit(path: Path) -> datetime | None:
    """When git got the file as it is; None outside a checkout, for a file that is not committed, or where there is no git.

    Of a merge its own date counts: those of the commits in it were written by the submitter. So it is for a file that was
    replaced: the old date is that of other numbers.
    """
    command = [
        # The settings of a folder that others filled could name a program.
        "git", "-c", "safe.bareRepository=explicit", "-c", "log.showSignature=false", "--literal-pathspecs", "-C", str(path.parent),
        "log", "--first-parent", "-m", "--max-count=1", "--diff-filter=AM", "--format=%cI", "--", path.name,
    ]  # fmt: skip
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        return datetime.fromisoformat(found[0]) if found else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

"""Remembers that a dataset was found sound, so that its files are hashed and decoded once and not before every trial.

A verdict holds for one state of the folder: the manifest's content, and name, size and modification time of every file.
It lies in the dataset's folder or, where that can't or must not be written to, in the user's cache folder. Losing it
costs a check, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.data.folder.paths import canonical_files
from harness.data.folder.sample import MANIFEST, Pair, Problem
from harness.errors import UserError
from harness.files import atomic_write_json, sha256_file, sha256_json

VERDICT = ".verified.json"
VERSION = 3
"""Raised when the checks become stricter: old verdicts then count for nothing."""

logger = logging.getLogger(__name__)


def state(root: Path, pairs: Iterable[Pair]) -> str:
    """The hash that names the present state of the dataset's files; opens only the manifest."""
    files = set(canonical_files(root)) | {file for pair in pairs for file in (pair.image, pair.mask)}
    listing = []
    for file in sorted(files):
        status = file.stat()
        listing.append([file.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns])
    path = root / MANIFEST
    return sha256_json(
        {"version": VERSION, "manifest": sha256_file(path) if path.is_file() else None, "files": listing}
    )


def load_verified(root: Path, pairs: Iterable[Pair]) -> dict[str, Any] | None:
    """The verdict on the present state of the dataset, when there is one."""
    expected = state(root, pairs)
    for path in (root / VERDICT, user_cache_path(root)):
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and found.get("state") == expected:
            return found
    return None


def save_verified(
    root: Path, pairs: Iterable[Pair], manifest: str | None = None, warnings: Iterable[Problem] = ()
) -> None:
    """Keeps the verdict "sound".

    Args:
        manifest: the text of the whole manifest where the folder holds none, or less of it.
        warnings: to be said again whenever the dataset is opened.
    """
    said = [vars(warning) for warning in warnings]
    value = {"schema_version": VERSION, "state": state(root, pairs), "manifest": manifest, "warnings": said}
    try:
        if is_writable(root):
            atomic_write_json(root / VERDICT, value)
            return
    except UserError:
        pass  # permissions said yes, the file system no: the user's cache folder is the place
    try:
        atomic_write_json(user_cache_path(root), value)
    except (UserError, OSError, RuntimeError) as error:  # RuntimeError: there is no home
        logger.warning("The verdict on %s can't be kept, so it is checked again next time: %s", root, error)


def is_writable(folder: Path) -> bool:
    """Whether files may be put into `folder`. A folder without any write bit is left alone even when we are root."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def user_cache_path(root: Path) -> Path:
    """The verdict's place outside the dataset: `$XDG_CACHE_HOME` or `~/.cache`, by the dataset's path."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]
    return base / "delightsam-bench" / "verified" / f"{name}.json"

"""Files that are either whole or not there, and hashes that name content.

A file is written to a temporary name beside its target, flushed to the disk and renamed: a reader, or a run after a
crash, never meets half a file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import UserError

_DISK_TROUBLE = {
    errno.ENOSPC: "the disk is full. Free some space and run the same command again: finished trials are kept",
    errno.EDQUOT: "the disk quota is used up. Free some space and run the same command again: finished trials are kept",
    errno.EROFS: "the file system is read-only. Choose a writable folder, for example store.root=/path/to/runs",
    errno.EACCES: "permission denied. Choose a writable folder, for example store.root=/path/to/runs",
    errno.ENAMETOOLONG: "the name is too long for this file system. Shorten the image's id, or the path of store.root",
    errno.EPERM: "operation not permitted. Choose a writable folder, for example store.root=/path/to/runs",
}


def files_below(folder: Path) -> list[Path]:
    """Everything below `folder` that is no folder, sorted; links to folders are followed, but not in circles."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        # By the absolute path: of `images/..` the parents would name a folder that lies below.
        above = {here.resolve(), *(parent.resolve() for parent in Path(os.path.abspath(here)).parents)}  # noqa: PTH100
        for name in list(folders):
            if (here / name).resolve() in above:
                folders.remove(name)
        found += [here / name for name in names]
    return sorted(found)


@contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk, a read-only file system or a missing permission into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_TROUBLE:
            raise UserError(f"Could not write {path}: {_DISK_TROUBLE[error.errno]}.") from error
        if isinstance(error, IsADirectoryError) and path.is_dir():
            raise UserError(
                f"Could not write {path}: expected the name of a file, found a folder. Give another."
            ) from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise UserError(
                f"Could not write {path}: a file stands where a folder is needed ({error.filename})."
            ) from error
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what the block writes there replaces `path` in one step at its end.

    When the block fails, the temporary file is removed and `path` stays as it was.

    Raises:
        UserError: the disk is full or can't be written to.
    """
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: Path, content: str) -> None:
    atomic_write_bytes(path, _encoded(content))


def atomic_write_json(path: Path, value: Any) -> None:
    """Writes indented JSON. NaN and infinity are refused: they are no JSON, and other readers choke on them."""
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} was expected and is not there.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid JSON ({error}). Restore it, or move it away and run again.") from error


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that is hashed: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def sha256_json(value: Any) -> str:
    return hashlib.sha256(_encoded(canonical_json(value))).hexdigest()


def _encoded(text: str) -> bytes:
    """The text in UTF-8. Python keeps other bytes of a path as lone surrogates, which JSON and YAML files can't hold."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text[text.rfind("\n", 0, error.start) + 1 :].partition("\n")[0].strip()
        raise UserError(
            f"Expected names in UTF-8, found other bytes in {line[:300]!r}. Rename that file or folder."
        ) from error


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

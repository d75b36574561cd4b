"""A folder that is whole or does not count: `result.json` is written last and holds the SHA-256 of the other files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import atomic_write_json, read_json, sha256_file, sha256_json

SCHEMA_VERSION = 2
RESULT = "result.json"


def seal(folder: Path, files: Iterable[str], content: dict[str, Any]) -> None:
    """Writes `result.json`: `content`, and the checksums of `files` (paths below `folder`)."""
    result = {
        "schema_version": SCHEMA_VERSION,
        **content,
        "files": {name: sha256_file(folder / name) for name in files},
    }
    atomic_write_json(folder / RESULT, {**result, "checksum": sha256_json(result)})


def read_sealed(folder: Path) -> dict[str, Any] | None:
    """What was sealed; None where the folder is not whole: see `fault` for the reason."""
    if not (folder / RESULT).exists() or fault(folder) is not None:
        return None
    return dict(read_json(folder / RESULT))


def fault(folder: Path) -> str | None:
    """What is wrong with a sealed folder's files, or None.

    Raises:
        UserError: another version of the bench wrote it.
    """
    try:
        result = json.loads((folder / RESULT).read_text("utf-8"))
        checksum = result.pop("checksum", None)
    except (OSError, ValueError, AttributeError) as error:
        return f"result.json can't be read: {error}"
    if isinstance(result.get("schema_version"), int):
        check_version(folder / RESULT, result["schema_version"])
    if checksum != sha256_json(result):
        return "result.json does not match its checksum"
    for name, expected in result["files"].items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if sha256_file(path) != expected:
            return f"{name} does not match its checksum"
    return None


def read_versioned(path: Path) -> dict[str, Any]:
    """A JSON file of the store.

    Raises:
        UserError: no such file, no JSON, or another version of the bench wrote it.
    """
    value = read_json(path)
    check_version(path, value.get("schema_version") if isinstance(value, dict) else None)
    return dict(value)


def check_version(path: Path, version: object) -> None:
    """Raises UserError where the file at `path` was not written by this version of the store."""
    if version == SCHEMA_VERSION:
        return
    if isinstance(version, int) and version < SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema_version {version}; this version of the bench reads {SCHEMA_VERSION}: ids and the layout of a"
            " store have changed since. Give a new store.root and run there, or read this store with the version that wrote"
            " it. Nothing in it was changed."
        )
    raise UserError(
        f"{path} has schema_version {version}; this version of the bench reads {SCHEMA_VERSION}."
        " Update delightsam-bench, or give another store.root."
    )

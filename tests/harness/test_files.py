"""Files are complete or absent; a disk error names the file and the remedy; hashes name content."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.files import (
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    canonical_json,
    explain_disk_errors,
    files_below,
    read_json,
    sha256_file,
    sha256_json,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    atomic_write_text(path, "größer")
    atomic_write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_meets_the_old_content_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_the_content_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("replace"), replace(self, target))[1])
    atomic_write_text(tmp_path / "a.txt", "x")
    assert order == ["fsync", "replace"]


def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def onto_full_device(dir: Path, prefix: str, suffix: str) -> tuple[int, str]:
        temporary = Path(dir) / f"{prefix}x{suffix}"
        temporary.symlink_to("/dev/full")
        return os.open(temporary, os.O_RDONLY), str(temporary)

    path = tmp_path / "result.json"
    path.write_text("old")
    monkeypatch.setattr(tempfile, "mkstemp", onto_full_device)
    with pytest.raises(UserError, match=r"result\.json: the disk is full.*Free some space"):
        atomic_write_json(path, {"a": 1})
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "not permitted"),
    ],
)
def test_trouble_with_the_disk_names_the_file_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(UserError, match=words) as caught:
        atomic_write_text(tmp_path / "status.json", "x")
    assert str(tmp_path / "status.json") in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    for error in (OSError(errno.EIO, "I/O error"), ValueError("x"), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught, explain_disk_errors(tmp_path):
            raise error
        assert caught.value is error


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("I am a file")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        atomic_write_text(tmp_path / "runs" / "trials" / "x", "x")
    with pytest.raises(UserError, match="a file stands where a folder is needed"), explain_disk_errors(tmp_path):
        (tmp_path / "runs").mkdir()


@settings(max_examples=25, deadline=None)
@given(json_values)
def test_json_round_trip(value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "value.json"
        atomic_write_json(path, value)
        assert read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic_write_json(tmp_path / "a.json", {"x": value})
    with pytest.raises(ValueError, match="JSON"):
        sha256_json(value)
    assert names(tmp_path) == []


def test_missing_and_damaged_json_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json was expected and is not there"):
        read_json(tmp_path / "none.json")
    for content in (b"{half", b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.json is no valid JSON"):
            read_json(tmp_path / "bad.json")


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_the_hash_of_a_json_value_ignores_the_order_of_keys(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert sha256_json(turned) == sha256_json(json.loads(json.dumps(value)))
    assert sha256_json({**value, "one more": 1}) != sha256_json({**value, "one more": 2})


def test_the_hash_of_a_json_value_is_fixed_for_ever() -> None:
    text = '{"a":[1,2.5,null],"ä":true}'
    assert canonical_json({"ä": True, "a": [1, 2.5, None]}) == text
    assert sha256_json({"ä": True, "a": [1, 2.5, None]}) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_below_a_path_with_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`images/..` names a folder of which `images` is a part."""
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/a.png").write_bytes(b"")
    (tmp_path / "set/images/circle").symlink_to(tmp_path / "set")
    for spelling in (tmp_path / "set", tmp_path / "set/images/..", Path(), Path("images/..")):
        monkeypatch.chdir(tmp_path / "set")
        assert [path.name for path in files_below(spelling)] == ["a.png"]


def test_a_folder_in_the_place_of_a_file_is_named_and_not_our_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"Could not write {tmp_path}: expected the name of a file, found a folder"):
        atomic_write_bytes(tmp_path, b"x")

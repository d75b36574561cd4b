"""Files that are no weights: each is named by its kind, and none of their code runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from delightsam import WeightsError
from delightsam.weights.weights_files import read_state_dict, whole_file


class Danger:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return os.putenv, ("DANGER_WAS_RUN", "1")


def truncated(path: Path, kept: float, legacy: bool = False) -> None:
    torch.save({"weight": torch.zeros(1000)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "there is none"),
    "folder": (lambda path: path.mkdir(), "found a folder"),
    "empty": (lambda path: path.touch(), "found an empty one"),
    "LFS pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        "git lfs pull",
    ),
    "web page": (lambda path: path.write_text("\n<!doctype html><html></html>"), "web page"),
    "text": (lambda path: path.write_text("hello"), "of another format"),
    "truncated": (lambda path: truncated(path, 0.5), "truncated"),
    "almost whole": (lambda path: truncated(path, 0.99), "truncated"),
    "old format, truncated": (lambda path: truncated(path, 0.5, legacy=True), "truncated"),
    "truncated safetensors": (
        lambda path: (save_file({"a": torch.zeros(1000)}, path), path.write_bytes(path.read_bytes()[:1000])),
        "truncated",
    ),
    "code beside tensors": (
        lambda path: torch.save({"a": torch.zeros(1), "b": Danger()}, path),
        r"pickled code \(posix\.putenv\)|pickled code \(nt\.putenv\)",
    ),
    "plain pickle": (lambda path: path.write_bytes(pickle.dumps(Danger())), "a pickle with code, which is never run"),
    "whole module": (lambda path: torch.save(torch.nn.Linear(1, 1), path), r"pickled code \(torch\.nn.*Linear\)"),
    "list": (lambda path: torch.save([torch.zeros(1)], path), "flat mapping of names to tensors; found a list"),
    "unknown nesting": (lambda path: torch.save({"net": {}, "epoch": 1}, path), r"found \['net', 'epoch'\]"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", BAD)
def test_each_kind_of_bad_file_has_its_own_message(name: str, tmp_path: Path) -> None:
    write, message = BAD[name]
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(WeightsError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)  # no advice to run the code after all
    assert "DANGER_WAS_RUN" not in os.environ


@pytest.mark.parametrize("legacy", [False, True])
def test_wrapped_and_prefixed_state_dicts_are_found(legacy: bool, tmp_path: Path) -> None:
    content = {"state_dict": {"module.weight": torch.arange(3.0)}, "epoch": 4, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    state = read_state_dict(tmp_path / "a.pth")
    assert state.keys() == {"weight"} and torch.equal(state["weight"], torch.arange(3.0))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@given(start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95"]), rest=st.binary(max_size=200))
def test_any_bytes_end_in_a_weights_error(start: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(start + rest)
    with pytest.raises(WeightsError):
        read_state_dict(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    with whole_file(target) as temporary:
        temporary.write_bytes(b"first")
    with pytest.raises(OSError, match="disk"), whole_file(target) as temporary:
        temporary.write_bytes(b"sec")
        raise OSError("disk full")
    assert [p.read_bytes() for p in target.parent.iterdir()] == [b"first"]

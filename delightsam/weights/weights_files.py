"""Reading weights files that come from anywhere: no code of theirs is run, and what is wrong with one is said plainly."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

# Training loops of the field save their weights inside a larger mapping under one of these names.
_NESTS = ("model", "state_dict")
_ZIP_START = b"PK\x03\x04"


class WeightsError(ValueError):
    """A weights file or state dict that does not fit: the message says what was expected and what was found."""


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` / `.pt` file, read without running any code of it.

    A state dict inside `{"model": ...}` or `{"state_dict": ...}` is found; `module.` prefixes (DataParallel) are taken off.

    Raises:
        WeightsError: no such file, an empty or damaged one, or one that holds more than tensors.
    """
    path = existing_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly any kind of error on bytes that it can't read
        raise WeightsError(f"{path} can't be read as plain weights: {looks_like(path, error)}") from error
    if isinstance(content, Mapping):
        content = next((content[name] for name in _NESTS if isinstance(content.get(name), Mapping)), content)
    return plain_state_dict(content, str(path))


def plain_state_dict(content: Any, source: str) -> dict[str, Tensor]:
    """A state dict with any `module.` prefix taken off; `source` names it in the error.

    Raises:
        WeightsError: anything but a flat mapping of names to tensors.
    """
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        found = list(content)[:5] if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise WeightsError(f"Expected {source} to be a flat mapping of names to tensors; found {found}.")
    if content and all(str(name).startswith("module.") for name in content):
        return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    return {str(name): tensor for name, tensor in content.items()}


def check_shapes(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Names every key that is missing, unexpected or of another shape.

    Raises:
        WeightsError: there is one.
    """
    lines = [f"missing '{k}', expected shape {expected[k]}" for k in expected if k not in found]
    lines += [f"unexpected '{k}' of shape {found[k]}" for k in found if k not in expected]
    lines += [
        f"'{k}' has shape {found[k]}, expected {expected[k]}"
        for k in expected
        if k in found and found[k] != expected[k]
    ]
    if lines:
        shown = "\n  ".join(lines[:10] + ([f"... and {len(lines) - 10} more"] if len(lines) > 10 else []))
        raise WeightsError(
            f"Nothing was loaded: {source} does not fit ({len(lines)} of {len(expected)} keys):\n  {shown}"
        )


def existing_file(path: str | Path) -> Path:
    """The path, if there is a file with something in it.

    Raises:
        WeightsError: nothing there, a folder, or an empty file.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"Expected a weights file at {path}; found a folder. Give the path of a file in it.")
    if not path.is_file():
        raise WeightsError(f"Expected a weights file at {path}; there is none. Give the path of a local file.")
    if path.stat().st_size == 0:
        raise WeightsError(f"Expected a weights file at {path}; found an empty one. Download or copy it again.")
    return path


def looks_like(path: Path, error: Exception) -> str:
    """A guess at what a file that can't be read is instead, and what to do. `error` is what its reader raised."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself. Fetch that with `git lfs pull`."
    if start.lstrip()[:1] == b"<":
        return "it is a web page. Download the weights again."
    # The reader's own text advises to load without `weights_only`: only the name that it met is worth passing on.
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return f"it holds pickled code ({code[1]}), which is never run. Get a file that holds the state dict alone."
    if "TorchScript" in str(error):
        return "it is a TorchScript program. Get a file that holds the state dict alone."
    if start.startswith(_ZIP_START) and isinstance(error, SafetensorError):
        return "it is a PyTorch file. from_authors_files and initialise_from read those of other people."
    if start.startswith(_ZIP_START) or start[8:10] == b'{"':
        return f"it is truncated or damaged ({type(error).__name__}). Download or copy it again."
    return "it is truncated, of another format, or a pickle with code, which is never run. Get it again."


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes `path` at the end if all went well, else it vanishes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

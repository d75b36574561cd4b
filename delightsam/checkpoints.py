"""Weights in and out: our own safetensors file, and the key layout of the authors' published checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from delightsam.authors import UNUSED_KEYS, authors_key_map
from delightsam.config import DeLightSAMConfig
from delightsam.model import DeLightSAM

FORMAT = "delightsam"
FORMAT_VERSION = 1
AUTHORS_QUERIES = 7


class WeightsError(ValueError):
    """A weights file or state dict that does not fit: the message says what was expected and what was found."""


def save(model: DeLightSAM, path: str | Path) -> None:
    """Writes the weights with their config as one safetensors file, whole or not at all.

    Raises:
        WeightsError: the model is fused; its original weights are gone.
    """
    if model.fused:
        raise WeightsError("A fused model can't be saved: save it before fuse().")
    path = Path(path)
    header = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=header)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load(path: str | Path, device: str | torch.device = "cpu") -> DeLightSAM:
    """The model of a file that `save` wrote, in eval mode.

    Raises:
        WeightsError: no such file, another format, a newer version, or keys and shapes that do not fit the config.
    """
    path = _existing(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict, has no iterator
    except SafetensorError as error:
        raise WeightsError(f"{path} is no whole safetensors file ({error}). {_looks_like(path)}") from error
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path} is a safetensors file, but not one of delightsam.save (its header names no format)."
        )
    if int(header.get("version", "0")) > FORMAT_VERSION:
        raise WeightsError(
            f"{path} has version {header['version']}; this code reads up to {FORMAT_VERSION}. Update it."
        )
    try:
        config = DeLightSAMConfig.from_dict(json.loads(header["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} holds a config that can't be read: {error}") from error
    model = DeLightSAM(config)
    _load_strictly(model, tensors, str(path))
    return model.to(device).eval()


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` / `.pt` file, read without running any code of it.

    Raises:
        WeightsError: no such file, a damaged one, or one that holds more than tensors.
    """
    path = _existing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} can't be read as plain weights ({reason}). {_looks_like(path)}") from error
    return _plain(content, str(path))


def from_authors(state_dicts: Mapping[int, Mapping[str, Tensor]], **fields: Any) -> DeLightSAM:
    """One model of the authors' checkpoints, which hold one modality each.

    Args:
        state_dicts: modality number -> the authors' state dict for it (`module.` prefixes are accepted).
        fields: further fields of the config (for example `image_size`).

    Returns:
        A model in eval mode that knows these modality numbers, with the authors' preprocessing.

    Raises:
        WeightsError: a key is missing, unknown or of another shape, or the shared parts of two dicts differ.
    """
    if not state_dicts:
        raise WeightsError("Expected at least one state dict, as {modality number: state dict}; found none.")
    numbers = sorted(state_dicts)
    values: dict[str, Any] = {"preprocessing": "authors", **fields}
    values |= {
        "modalities": tuple(numbers),
        "queries": max(AUTHORS_QUERIES, numbers[-1] + 1),
        "hypernetworks": "shared",
    }
    if values["queries"] != AUTHORS_QUERIES:
        raise WeightsError(f"Published weights have {AUTHORS_QUERIES} queries: numbers 0 to 6; found {numbers[-1]}.")
    model = DeLightSAM(DeLightSAMConfig(**values))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ours: dict[str, Tensor] = {}
    owner: dict[str, int] = {}
    for number in numbers:
        source = f"the state dict of modality {number}"
        theirs = _plain(state_dicts[number], source)
        names = authors_key_map(shapes, number)
        expected = {name: shapes[own] for name, own in names.items()} | UNUSED_KEYS
        _compare(expected, {name: tuple(t.shape) for name, t in theirs.items()}, source)
        for name, own in names.items():
            if own in ours and not torch.equal(ours[own], theirs[name]):
                difference = (ours[own].double() - theirs[name].double()).abs().max().item()
                raise WeightsError(
                    f"The shared part differs at '{name}' between modality {owner[own]} and modality {number} "
                    f"(largest difference {difference:.3g}): these checkpoints do not belong to one model."
                )
            ours.setdefault(own, theirs[name])
            owner.setdefault(own, number)
    _load_strictly(model, ours, "the authors' state dicts")
    return model.eval()


def to_authors(model: DeLightSAM, modality: int) -> dict[str, Tensor]:
    """The authors' state dict for one modality: loads into their code with `strict=True`.

    Tensors that their model allocates and never uses are zeros.

    Raises:
        WeightsError: the model has parts that their layout cannot hold.
    """
    config = model.config
    needed = {
        "stem": "standard",
        "controllers": "full",
        "tied_tokens": True,
        "hypernetworks": "shared",
        "queries": 7,
    }
    different = [f"{k} = {getattr(config, k)!r} (needs {v!r})" for k, v in needed.items() if getattr(config, k) != v]
    if model.fused:
        different.append("the model is fused")
    if different:
        raise WeightsError(f"The authors' layout cannot hold this model: {'; '.join(different)}.")
    if modality not in config.modalities:
        raise WeightsError(f"The model knows the modalities {config.modalities}; found {modality}.")
    state = model.state_dict()
    used = {name: state[own].detach().clone() for name, own in authors_key_map(state, modality).items()}
    return used | {name: torch.zeros(shape) for name, shape in UNUSED_KEYS.items()}


def _plain(content: Any, source: str) -> dict[str, Tensor]:
    """A state dict with any `module.` prefix (DataParallel) taken off."""
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        keys = list(content)[:5] if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"Expected {source} to be a flat mapping of names to tensors; found {keys}.")
    if content and all(str(name).startswith("module.") for name in content):
        return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    return {str(name): tensor for name, tensor in content.items()}


def _compare(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str) -> None:
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


def _load_strictly(model: DeLightSAM, tensors: Mapping[str, Tensor], source: str) -> None:
    own = model.state_dict()
    _compare({k: tuple(v.shape) for k, v in own.items()}, {k: tuple(v.shape) for k, v in tensors.items()}, source)
    model.load_state_dict(dict(tensors))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"Expected a weights file at {path}; there is none. Give the path of a local file.")
    return path


def _looks_like(path: Path) -> str:
    """A guess at what a file that can't be read is instead."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "It is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`."
    if start.lstrip()[:1] == b"<":
        return "It is a web page, not weights: download the file again."
    return "It may be truncated, of another format, or hold pickled code, which is never run: get it again."

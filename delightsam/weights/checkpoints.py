"""Weights in and out: our own safetensors file, and the key layout of the authors' published checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from delightsam.modeling.config import DeLightSAMConfig
from delightsam.modeling.model import DeLightSAM
from delightsam.weights.file_kinds import DESCRIPTIONS, file_kind
from delightsam.weights.published_layout import UNUSED_KEYS, authors_key_map
from delightsam.weights.weights_files import (
    WeightsError,
    check_shapes,
    existing_file,
    looks_like,
    plain_state_dict,
    read_state_dict,
    whole_file,
)

FORMAT = "delightsam"
FORMAT_VERSION = 1
AUTHORS_QUERIES = 7


def save(model: DeLightSAM, path: str | Path) -> None:
    """Writes the weights with their config as one safetensors file, whole or not at all.

    Raises:
        WeightsError: the model is fused; its original weights are gone.
    """
    if model.fused:
        raise WeightsError("A fused model can't be saved: save it before fuse().")
    header = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "config": json.dumps(model.config.to_dict(), sort_keys=True),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def load(path: str | Path, device: str | torch.device = "cpu") -> DeLightSAM:
    """The model of a file that `save` wrote, in eval mode.

    Raises:
        WeightsError: no such file, another format, a newer version, or keys and shapes that do not fit the config.
    """
    path = existing_file(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict, has no iterator
    except SafetensorError as error:
        raise WeightsError(f"{path} is no whole safetensors file: {looks_like(path, error)}") from error
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path} is a safetensors file, but not one of delightsam.save (its header names no format)."
        )
    try:
        version = int(header["version"])
        if version > FORMAT_VERSION:
            raise WeightsError(f"{path} has version {version}; this code reads up to {FORMAT_VERSION}. Update it.")
        config = DeLightSAMConfig.from_dict(json.loads(header["config"]))
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} has a header that can't be read: {error}") from error
    model = DeLightSAM(config)
    _load_strictly(model, tensors, str(path))
    return model.to(device).eval()


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
    return _merge(state_dicts, {k: f"the state dict of modality {k}" for k in state_dicts}, fields)


def from_authors_files(paths: Mapping[int, str | Path], **fields: Any) -> DeLightSAM:
    """As `from_authors`, from files: modality number -> path of a published `ESP_*_best.pth`.

    Raises:
        WeightsError: as `from_authors`, or a file that is missing, damaged or of another kind.
    """
    state_dicts = {number: read_state_dict(path) for number, path in paths.items()}
    for number, state in state_dicts.items():
        kind = file_kind(state)
        if kind != "authors":
            raise WeightsError(
                f"Expected {paths[number]} to be {DESCRIPTIONS['authors']}; found {DESCRIPTIONS[kind]}. "
                f"Its first keys: {', '.join(list(state)[:3]) or 'none'}."
            )
    return _merge(state_dicts, {k: f"{path} (modality {k})" for k, path in paths.items()}, fields)


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
        "prompts": "self",
        "decoder": "query",
        "hypernetworks": "shared",
        "queries": AUTHORS_QUERIES,
    }
    different = [f"{k} = {getattr(config, k)!r} (needs {v!r})" for k, v in needed.items() if getattr(config, k) != v]
    if model.fused:
        different.append("the model is fused")
    if different:
        raise WeightsError(f"The authors' layout cannot hold this model: {'; '.join(different)}.")
    if modality not in config.modalities:
        raise WeightsError(f"The model knows the modalities {config.modalities}; found {modality}.")
    if modality in config.added:
        raise WeightsError(
            f"Modality {modality} was added to a trained model: its images see a query more than the authors' layout can "
            f"hold. Those that can be exported: {[k for k in config.modalities if k not in config.added]}."
        )
    state = model.state_dict()
    used = {name: state[own].detach().cpu().clone() for name, own in authors_key_map(state, modality).items()}
    return used | {name: torch.zeros(shape) for name, shape in UNUSED_KEYS.items()}


def save_authors(model: DeLightSAM, modality: int, path: str | Path) -> None:
    """Writes `to_authors` as a `.pth` file, whole or not at all. It holds no preprocessing: their code has its own.

    Raises:
        WeightsError: as `to_authors`, or the model's preprocessing is not the one that their code applies.
    """
    if model.config.preprocessing != "authors":
        raise WeightsError(
            f"The authors' code normalises by the preset 'authors'; this model expects '{model.config.preprocessing}', "
            f"and would see other values there. to_authors() gives the state dict for code that knows."
        )
    state = to_authors(model, modality)
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def _merge(
    state_dicts: Mapping[int, Mapping[str, Tensor]], sources: Mapping[int, str], fields: Mapping[str, Any]
) -> DeLightSAM:
    """`sources` say in errors where the state dict of a number came from."""
    if not state_dicts:
        raise WeightsError("Expected at least one state dict, as {modality number: state dict}; found none.")
    numbers = sorted(state_dicts)
    if numbers[0] < 0 or numbers[-1] >= AUTHORS_QUERIES:
        raise WeightsError(f"Published weights have {AUTHORS_QUERIES} queries: numbers 0 to 6; found {numbers}.")
    values = {"preprocessing": "authors", **fields}
    values |= {"modalities": tuple(numbers), "queries": AUTHORS_QUERIES, "hypernetworks": "shared"}
    model = DeLightSAM(DeLightSAMConfig(**values))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ours: dict[str, Tensor] = {}
    owner: dict[str, int] = {}
    for number in numbers:
        theirs = plain_state_dict(state_dicts[number], sources[number])
        names = authors_key_map(shapes, number)
        expected = {name: shapes[own] for name, own in names.items()} | UNUSED_KEYS
        check_shapes(expected, {name: tuple(t.shape) for name, t in theirs.items()}, sources[number])
        for name, own in names.items():
            if own in ours and not torch.equal(ours[own], theirs[name]):
                difference = (ours[own].double() - theirs[name].double()).abs().max().item()
                raise WeightsError(
                    f"The shared part differs at '{name}' between modality {owner[own]} and modality {number} "
                    f"(largest difference {difference:.3g}): these checkpoints do not belong to one model."
                )
            ours.setdefault(own, theirs[name])
            owner.setdefault(own, number)
    _load_strictly(model, ours, "the merged state dict")
    return model.eval()


def _load_strictly(model: DeLightSAM, tensors: Mapping[str, Tensor], source: str) -> None:
    own = model.state_dict()
    check_shapes({k: tuple(v.shape) for k, v in own.items()}, {k: tuple(v.shape) for k, v in tensors.items()}, source)
    model.load_state_dict(dict(tensors))

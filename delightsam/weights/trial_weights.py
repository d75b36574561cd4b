"""The De-LightSAM inside a finished trial of the bench, as a model of this library."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from delightsam.modeling.config import DeLightSAMConfig, modality_numbers
from delightsam.modeling.model import DeLightSAM
from delightsam.weights.checkpoints import load
from delightsam.weights.weights_files import WeightsError, check_shapes

_NETWORK = "network."


def from_trial(folder: str | Path) -> DeLightSAM:
    """The model that a trial trained, in eval mode; `delightsam.save` makes a file of it that needs no bench.

    Its `image_size` is that of the training. A model trained without its controllers (stage "decode" alone) comes without
    them.

    Args:
        folder: `<store>/trials/<id>`, with `spec.json` and `checkpoint/model.safetensors`.

    Raises:
        WeightsError: a file is missing or damaged, or the trial is of another method.
    """
    spec, state = _spec(Path(folder)), _state(Path(folder))
    tensors = {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    if not tensors or "split" not in spec:
        name = spec.get("method", {}).get("name", "another method")
        raise WeightsError(f"{folder} is a trial of {name}: expected one of De-LightSAM, which has a `network`.")
    known = {field.name for field in fields(DeLightSAMConfig)} - {"modalities"}
    given = spec["method"]["model"]
    # A model that started from a file of ours has that file's architecture.
    settings = load(given["weights"]).config.to_dict() if given.get("weights") else {}
    settings |= {key: value for key, value in given.items() if key in known}
    settings |= {"modalities": _modalities(spec), "image_size": spec["training"]["image_size"]}
    if bool(state.get("without_controllers", False)):
        settings["controllers"] = "none"
        tensors = {name: value for name, value in tensors.items() if not name.startswith("controllers.")}
    settings["guesses_modality"] = any(name.startswith("guess.") for name in tensors)
    model = DeLightSAM(DeLightSAMConfig(**settings))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(folder))
    model.load_state_dict(tensors)
    return model.eval()


def _spec(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "spec.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"Expected a trial's folder with spec.json, as runs/trials/<id>; found {folder} ({error})."
        ) from error


def _state(folder: Path) -> dict[str, Tensor]:
    path = folder / "checkpoint" / "model.safetensors"
    if not path.is_file():
        raise WeightsError(f"{path} is missing: the trial has not finished, or its weights were not kept.")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}). Run the trial again.") from error


def _modalities(spec: dict[str, Any]) -> tuple[int, ...]:
    """The numbers that the method gave the trial's modalities."""
    split = spec["split"]
    names = {key.partition("/")[0] for role in ("train", "validation", "test") for key in split[role]}
    return tuple(sorted(modality_numbers(sorted(names)).values()))

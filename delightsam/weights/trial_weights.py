"""The De-LightSAM inside a finished trial of the bench, as a model of this library."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from delightsam.modeling.config import DeLightSAMConfig, modality_numbers
from delightsam.modeling.model import DeLightSAM
from delightsam.weights.checkpoints import load
from delightsam.weights.weights_files import WeightsError, check_shapes

_NETWORK = "network."

log = logging.getLogger(__name__)


def from_trial(folder: str | Path) -> DeLightSAM:
    """The model that a trial trained, in eval mode; `delightsam.save` makes a file of it that needs no bench.

    Its `image_size` is that of the training. A model trained without its controllers (stage "decode" alone) comes without
    them. `segment` stretches images: logs a warning where the training did not (`training.geometry`, `training.tiled`).

    Args:
        folder: `<store>/trials/<id>`, with `weights.safetensors`.

    Raises:
        WeightsError: the file is missing or damaged, or the trial is of another method.
    """
    about, state = _read(Path(folder))
    tensors = {name.removeprefix(_NETWORK): value for name, value in state.items() if name.startswith(_NETWORK)}
    if not tensors or not about["modalities"]:
        target = about["model"].get("_target_", "another method")
        raise WeightsError(f"{folder} is a trial of {target}: expected one of De-LightSAM, which has a `network`.")
    known = {field.name for field in fields(DeLightSAMConfig)} - {"modalities"}
    given = about["model"]
    # A model that started from a file of ours has that file's architecture.
    settings = load(given["weights"]).config.to_dict() if given.get("weights") else {}
    settings |= {key: value for key, value in given.items() if key in known}
    # The numbers that the method gave the trial's modalities.
    numbers = tuple(sorted(modality_numbers(sorted(about["modalities"])).values()))
    settings |= {"modalities": numbers, "image_size": about["image_size"]}
    geometry, tiled = about.get("geometry", "stretch"), about.get("tiled") or []
    if geometry != "stretch" or tiled:
        log.warning(
            "The model of %s was trained with training.%s; `segment` stretches images to a square. For masks as the"
            " bench makes them: python -m harness predict.",
            folder,
            f"geometry={geometry}" if geometry != "stretch" else f"tiled=[{','.join(tiled)}]",
        )
    if bool(state.get("without_controllers", False)):
        settings["controllers"] = "none"
        tensors = {name: value for name, value in tensors.items() if not name.startswith("controllers.")}
    settings["guesses_modality"] = any(name.startswith("guess.") for name in tensors)
    model = DeLightSAM(DeLightSAMConfig(**settings))
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_shapes(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(folder))
    model.load_state_dict(tensors)
    return model.eval()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the header of the trial's weights says of its method (model, modalities, image_size), and the weights."""
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise WeightsError(
            f"Expected a trial's folder with weights.safetensors, as runs/trials/<id>; found {folder}. Either it is none, or the"
            " trial has not finished, or its weights were not kept."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        state = dict(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged ({error}). Run the trial again.") from error
    if "method" not in header:
        raise WeightsError(f"{path} does not say which method it is of: it is no trial's weights file.")
    return dict(json.loads(header["method"])), state

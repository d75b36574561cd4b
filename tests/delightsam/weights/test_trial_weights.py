"""A model out of a finished trial predicts as the trial's method did, without the bench."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from support.numbers import nothing_drawn
from support.specs import trial_spec

from delightsam import WeightsError, from_trial, load, save
from delightsam.modeling.segmentation import modality_number
from delightsam.training.auto_modality import AutoModalityMethod
from delightsam.training.method import DeLightSAMMethod
from harness.methods.building import build_method
from harness.training.weights import save_weights

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ["xray", "fundus"]  # in the order of the bench


def trial(
    folder: Path, model: dict[str, Any], change: dict[str, float] | None = None, **training: Any
) -> torch.nn.Module:
    """A trial's weights in `folder`, and the method that has them."""
    spec = trial_spec(
        method={"model": model},
        training={"image_size": 64, **training},
        split={"train": [f"{name}/a/1" for name in NAMES]},
    )
    torch.manual_seed(0)
    method = build_method("x", model, spec.modalities).eval()
    with torch.no_grad():
        for name, value in (change or {}).items():
            method.get_buffer(name).fill_(value)
    folder.mkdir()
    save_weights(method, folder / "weights.safetensors", spec.weights_metadata())
    return method


def target(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def images() -> torch.Tensor:
    return torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "settings",
    [{}, {"stem": "pixel", "preprocessing": "minmax"}, {"controllers": "tokens"}, {"decoder": "convolutional"}],
    ids=str,
)
def test_it_predicts_what_the_method_did(settings: dict[str, Any], tmp_path: Path) -> None:
    method = trial(tmp_path / "trial", {"_target_": target(DeLightSAMMethod), **settings})
    with nothing_drawn():  # all comes from the file
        model = from_trial(tmp_path / "trial")
    assert not model.training and model.config.image_size == 64 and len(model.config.modalities) == 2
    with torch.no_grad():
        # The method counts the modalities of the trial, the model all that there are.
        for place, name in enumerate(NAMES):
            expected = method.predict(images(), torch.full((2,), place))  # type: ignore[operator]
            assert torch.equal(model.predict(images(), modality_number(name)), expected)
    save(model, tmp_path / "own.safetensors")
    with torch.no_grad(), nothing_drawn():
        again = load(tmp_path / "own.safetensors").predict(images(), model.config.modalities[0])
        assert torch.equal(again, model.predict(images(), model.config.modalities[0]))


@nothing_drawn()
def test_a_model_that_guesses_modalities_still_does(tmp_path: Path) -> None:
    trial(tmp_path / "trial", {"_target_": target(AutoModalityMethod), "stem": "pixel"})
    assert from_trial(tmp_path / "trial").config.guesses_modality


@nothing_drawn()
def test_without_controllers_it_has_none(tmp_path: Path) -> None:
    model = {"_target_": target(DeLightSAMMethod), "stem": "pixel"}
    trial(tmp_path / "trial", model, {"without_controllers": 1})
    assert from_trial(tmp_path / "trial").config.controllers == "none"


@pytest.mark.parametrize("geometry", [{"geometry": "tiles"}, {"geometry": "letterbox"}, {"tiled": ["fundus"]}])
@nothing_drawn()
def test_another_geometry_gives_a_warning(
    geometry: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trial(tmp_path / "trial", {"_target_": target(DeLightSAMMethod), "stem": "pixel"}, **geometry)
    with caplog.at_level(logging.WARNING):
        from_trial(tmp_path / "trial")
    (key,) = geometry
    assert f"training.{key}=" in caplog.text and "python -m harness predict" in caplog.text


def test_what_is_no_trial_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Expected a trial's folder with weights\.safetensors"):
        from_trial(tmp_path)
    trial(tmp_path / "other", {"_target_": "baselines.trivial.MeanMask"})
    with pytest.raises(WeightsError, match=r"is a trial of baselines\.trivial\.MeanMask: expected one of De-LightSAM"):
        from_trial(tmp_path / "other")
    file = tmp_path / "other" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="is damaged"):
        from_trial(tmp_path / "other")
    save_weights(torch.nn.Linear(1, 1), file)
    with pytest.raises(WeightsError, match="does not say which method"):
        from_trial(tmp_path / "other")

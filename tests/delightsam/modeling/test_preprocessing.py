"""Pixel values as published weights expect them; the preset belongs to the model and travels with its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.depth import SHALLOW, depth

from delightsam import DeLightSAM, load, save
from delightsam.modeling.preprocessing import PRESETS, normalise

MEAN = np.array([123.675, 116.28, 103.53]).reshape(1, 3, 1, 1)
STD = np.array([58.395, 57.12, 57.375]).reshape(1, 3, 1, 1)
# On values of 0 to 255, as the code that trained the weights has it.
EXPECTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sam": lambda x: (x - MEAN) / STD,
    "authors": lambda x: (x - MEAN) / MEAN,  # the slip: their std is the mean
    "minmax": lambda x: (
        (x - x.min((1, 2, 3), keepdims=True)) / (x.max((1, 2, 3), keepdims=True) - x.min((1, 2, 3), keepdims=True))
    ),
    "unit": lambda x: x / 255,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    pixels = np.random.default_rng(0).integers(20, 230, (2, 3, 5, 7)).astype(np.float64)
    ours = normalise(torch.from_numpy(pixels / 255).float(), preset)
    np.testing.assert_allclose(ours.numpy(), EXPECTED[preset](pixels), atol=2e-6)


def test_the_slip_makes_a_difference() -> None:
    image = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    assert (normalise(image, "authors") - normalise(image, "sam")).abs().max() > 0.5


@pytest.mark.parametrize("preset", ["authors", "minmax"])
@depth(SHALLOW)
def test_a_model_keeps_its_preset(preset: str, tmp_path: Path) -> None:
    """What `predict` computes after loading is what it computed before saving, by that preset."""
    torch.manual_seed(0)
    model = DeLightSAM(modalities=(0,), stem="pixel", controllers="none", preprocessing=preset).eval()
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.config.preprocessing == preset
    image = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(1)) * 0.5
    with torch.no_grad():
        assert torch.equal(again.predict(image, 0), model(normalise(image, preset), 0))


def test_a_flat_image_has_no_range_to_scale_by() -> None:
    assert normalise(torch.full((1, 3, 2, 2), 0.5), "minmax").abs().max() == 0

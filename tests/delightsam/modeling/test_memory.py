"""Activation checkpointing: the same training step, bit for bit where it matters, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM
from delightsam.training.losses import dice_bce
from harness.efficiency.measure import _peak_growth_on_cpu

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]
MIXED = torch.tensor([2, 0, 2])


def training_step(model: DeLightSAM, images: Tensor, modality: Tensor) -> None:
    outputs = model.outputs(images, modality)
    assert outputs.patch_logits is not None
    dice_bce(outputs.logits, outputs.patch_logits, (images[:, :1] > 0).float())[0].backward()


@pytest.mark.parametrize(("frozen", "amp"), [("nothing", False), ("backbone", True)])
def test_same_gradients_and_statistics(build: Build, images: Images, frozen: str, amp: bool) -> None:
    plain, x = build(modalities=(0, 2), stem="pixel", image_size=16).train(), images(3, 16)
    if frozen == "backbone":
        plain.encoder.requires_grad_(False).eval()
    saving = copy.deepcopy(plain).checkpoint_activations()
    for model in (plain, saving):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            training_step(model, x, MIXED)
    for (name, mine), theirs in zip(saving.named_parameters(), plain.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None and theirs.grad is not None:
            assert (mine.grad - theirs.grad).abs().max() <= 1e-5 * theirs.grad.abs().max() + 1e-9, name
    # BatchNorm saw the batch once, not again when its block was computed again.
    for (name, mine), theirs in zip(saving.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, theirs), name


def test_at_least_40_percent_less_memory(images: Images) -> None:
    x, peaks = images(1, 32), {}
    for enabled in (False, True):
        model = DeLightSAM(modalities=(0,), stem="pixel", image_size=32).train().checkpoint_activations(enabled)
        training_step(model, x, torch.tensor([0]))  # makes the gradients' tensors
        peaks[enabled] = _peak_growth_on_cpu(lambda model=model: training_step(model, x, torch.tensor([0])))
    assert peaks[True] <= 0.6 * peaks[False], peaks


def test_inference_is_not_touched(build: Build, images: Images) -> None:
    model, x = build(modalities=(0,)), images(1, 64)
    with torch.no_grad():
        expected = model(x, 0)
        assert torch.equal(model.checkpoint_activations()(x, 0), expected)
    assert not model.checkpoint_activations(False).encoder.backbone.checkpoint

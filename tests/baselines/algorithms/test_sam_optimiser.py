"""SAM and SAGM: the published gradients, and nothing else moves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from baselines.algorithms.base import Algorithm
from baselines.algorithms.sagm import SAGM
from baselines.algorithms.sam_optimiser import SharpnessAware
from tests.baselines.algorithms.toy import ToyMethod, disks, gradients, loss_of, make

BATCH = disks(6)
BOTH = pytest.mark.parametrize("algorithm", [SharpnessAware, SAGM])


def in_two_steps(method: torch.nn.Module, rho: float, alpha: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients here and at the moved weights, by really moving the weights of a copy."""
    moved = copy.deepcopy(method)
    moved.training_loss(BATCH, None)[0].backward()  # type: ignore[operator]
    here = gradients(moved)
    norm = torch.cat([gradient.flatten() for gradient in here.values()]).norm()
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            if name in here:
                parameter += (rho / norm - alpha) * here[name]
    moved.zero_grad()
    moved.training_loss(BATCH, None)[0].backward()  # type: ignore[operator]
    return here, gradients(moved)


def found(method: Any) -> dict[str, Tensor]:
    method.zero_grad()
    loss_of(method, BATCH).backward()
    return {name.removeprefix("method."): value for name, value in gradients(method).items()}


def test_sam_s_gradient_is_that_of_two_steps() -> None:
    method = make(SharpnessAware, rho=0.2)
    here, there = in_two_steps(method.method, 0.2, 0.0)
    answer = found(method)
    assert answer.keys() == there.keys()
    for name, value in there.items():
        torch.testing.assert_close(answer[name], value, atol=1e-6, rtol=1e-4)
    assert any((here[name] - there[name]).abs().max() > 1e-3 for name in here), "rho makes a difference"


def test_sagm_s_gradient_is_the_mean_of_both() -> None:
    method = make(SAGM, rho=0.2, alpha=0.05)
    here, there = in_two_steps(method.method, 0.2, 0.05)
    for name, value in found(method).items():
        torch.testing.assert_close(value, (here[name] + there[name]) / 2, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["rho", "alpha"])
def test_both_settings_count(name: str) -> None:
    usual, other = make(SAGM, rho=0.1, alpha=0.1), make(SAGM, **{"rho": 0.1, "alpha": 0.1, name: 0.0})
    a, b = found(usual), found(other)
    assert any(not torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("nothing", [(SharpnessAware, {"rho": 0.0}), (SAGM, {"rho": 0.0, "alpha": 0.0})])
def test_no_distance_is_erm_bit_by_bit(nothing: tuple[Any, dict[str, float]]) -> None:
    algorithm, settings = nothing
    answer, expected = found(make(algorithm, **settings)), found(make(Algorithm))
    assert all(torch.equal(answer[name], expected[name]) for name in expected)


@BOTH
def test_weights_stay_and_statistics_move_once(algorithm: Any) -> None:
    method, erm = make(algorithm, rho=0.5), make(Algorithm)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    loss_of(method, BATCH), loss_of(erm, BATCH)
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())
    for name, buffer in erm.named_buffers():
        assert torch.equal(dict(method.named_buffers())[name], buffer), name


@BOTH
def test_what_is_frozen_is_not_moved_and_gets_no_gradient(algorithm: Any) -> None:
    method = make(algorithm, rho=0.2)
    method.method.early.requires_grad_(False)
    _, there = in_two_steps(method.method, 0.2, 0.0)
    answer = found(method)
    assert answer.keys() == there.keys() and not any("early" in name for name in answer)
    if algorithm is SharpnessAware:
        torch.testing.assert_close(answer["last.weight"], there["last.weight"], atol=1e-6, rtol=1e-4)


@BOTH
def test_scales_with_what_the_loop_multiplies_the_loss_by(algorithm: Any) -> None:
    method = make(algorithm)
    whole = found(method)
    method.zero_grad()
    (loss_of(method, BATCH) * 0.25).backward()
    for name, value in gradients(method).items():
        torch.testing.assert_close(value, whole[name.removeprefix("method.")] / 4, atol=1e-7, rtol=1e-3)


def test_activations_that_are_computed_again_are_those_at_the_moved_weights() -> None:
    class Recomputing(ToyMethod):
        def forward(self, images: Tensor) -> Tensor:
            features = checkpoint(self.early, images, use_reentrant=False)
            return self.last(self.late(features)) + self.prior

    answer, expected = (found(make(SharpnessAware, rho=0.5, method=kind)) for kind in (Recomputing, ToyMethod))
    for name, value in expected.items():
        torch.testing.assert_close(answer[name], value, atol=1e-6, rtol=1e-4)


@BOTH
def test_gradients_are_float32_under_autocast(algorithm: Any) -> None:
    method = make(algorithm)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(method, BATCH)
    loss.backward()
    full = found(make(algorithm))
    for name, value in gradients(method).items():
        assert value.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(value.flatten(), full[name[7:]].flatten(), dim=0) > 0.9


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="rho of 0 or more, found -1"):
        make(SharpnessAware, rho=-1.0)
    with pytest.raises(ValueError, match="alpha of 0 or more"):
        make(SAGM, alpha=-0.1)

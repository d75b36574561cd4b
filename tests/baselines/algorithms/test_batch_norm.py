"""Batch-norm adaptation: mixed statistics, and no trace of the test images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.algorithms.batch_norm import BatchNormAdaptation, batch_statistics
from baselines.algorithms.tent import TENT
from tests.baselines.algorithms.toy import PlainMethod, TokenMethod, ToyMethod, disks, loss_of, make

BATCH = disks(4)


def adapting(prior: float) -> Any:
    method = make(BatchNormAdaptation, prior=prior)
    for seed in range(3):
        loss_of(method, disks(6, seed=seed))
    return method.eval().requires_grad_(False)


def test_no_prior_is_batch_norm_in_training_mode() -> None:
    method = adapting(0)
    adapted = method.predict_adapting(BATCH.images, BATCH.modality)
    expected = method.method.train().predict(BATCH.images, BATCH.modality)
    torch.testing.assert_close(adapted, expected, atol=1e-5, rtol=1e-4)


def test_a_large_prior_is_the_method_alone() -> None:
    method = adapting(1e9)
    plain = method.predict(BATCH.images, BATCH.modality)
    torch.testing.assert_close(method.predict_adapting(BATCH.images, BATCH.modality), plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_are_mixed_by_numbers_of_images(affine: bool) -> None:
    norm = nn.BatchNorm2d(3, affine=affine)
    norm(torch.randn(8, 3, 5, 5) * 3 + 1)
    if affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(4, 3, 6, 2) - 2
    with batch_statistics(norm.eval(), prior=12):
        found = norm(x)
    mean = 0.75 * norm.running_mean + 0.25 * x.mean((0, 2, 3))
    variance = 0.75 * norm.running_var + 0.25 * x.var((0, 2, 3), correction=0)
    expected = nn.functional.batch_norm(x, mean, variance, norm.weight, norm.bias, eps=norm.eps)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not norm._forward_hooks


def test_nothing_is_kept_and_nothing_moves() -> None:
    method = adapting(16)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    first = method.predict_adapting(BATCH.images, BATCH.modality)
    method.predict_adapting(BATCH.images * 0.1, BATCH.modality)
    assert torch.equal(method.predict_adapting(BATCH.images, BATCH.modality), first)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert not torch.equal(first, method.predict(BATCH.images, BATCH.modality))


def test_undoes_a_shift_that_batch_norm_can_see() -> None:
    """Images that are darker by half predict as bright ones do."""
    method = adapting(0)
    bright = method.predict_adapting(BATCH.images, BATCH.modality)
    dark = method.predict_adapting(BATCH.images / 2, BATCH.modality)
    without = method.predict(BATCH.images / 2, BATCH.modality)
    assert (dark - bright).abs().mean() < 0.1 * (without - bright).abs().mean()


def test_a_single_value_keeps_the_running_statistics() -> None:
    norm, x = nn.BatchNorm2d(3).eval(), torch.randn(1, 3, 1, 1)
    with batch_statistics(norm, prior=0):
        assert torch.equal(norm(x), norm.eval()(x))


class Prompted(ToyMethod):
    def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        return self(images) + masks


@pytest.mark.parametrize(
    ("algorithm", "method", "words"),
    [
        (BatchNormAdaptation, TokenMethod, "expected normalisation layers with running statistics .* TokenMethod has"),
        (TENT, PlainMethod, "expected normalisation layers with a scale and a shift .* PlainMethod has none"),
        (BatchNormAdaptation, Prompted, "predicts from images alone .* Prompted is prompted from the true masks"),
        (TENT, Prompted, "predicts from images alone .* Prompted is prompted from the true masks"),
    ],
)
def test_methods_it_can_t_adapt(algorithm: Any, method: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(algorithm, method=method)

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from baselines.algorithms.fourier import FourierMixing, mix_amplitudes
from tests.baselines.algorithms.toy import disks, loss_of, make


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    batch = disks(8, (32, 33))
    return batch.images[:4].double(), batch.images[4:].double()


WEIGHT = torch.tensor([0.2, 0.5, 0.8, 1.0], dtype=torch.float64).view(4, 1, 1, 1)


@pytest.mark.parametrize("region", [1.0, 0.2, 0.0])
def test_phases_stay(pair: tuple[Tensor, Tensor], region: float) -> None:
    mixed = mix_amplitudes(*pair, WEIGHT, region)
    before, after = torch.fft.fft2(pair[0]), torch.fft.fft2(mixed)
    # Equal phases: the product with the conjugate is real and positive.
    turned = after * before.conj()
    assert (turned.imag.abs() <= 1e-6 * turned.abs() + 1e-9).all() and (turned.real >= 0).all()
    assert not torch.allclose(mixed, pair[0])


def test_amplitudes_are_the_weighted_mean_of_both(pair: tuple[Tensor, Tensor]) -> None:
    own, other = (torch.fft.fft2(images).abs() for images in pair)
    mixed = torch.fft.fft2(mix_amplitudes(*pair, WEIGHT, 1.0)).abs()
    torch.testing.assert_close(mixed, (1 - WEIGHT) * own + WEIGHT * other)


def test_only_the_region_of_low_frequencies_is_mixed(pair: tuple[Tensor, Tensor]) -> None:
    own, other = (torch.fft.fftshift(torch.fft.fft2(images).abs(), (-2, -1)) for images in pair)
    mixed = torch.fft.fftshift(torch.fft.fft2(mix_amplitudes(*pair, torch.ones_like(WEIGHT), 0.25)).abs(), (-2, -1))
    # Up to an eighth of the sampling frequency on each side of the middle: 4 of 32 rows, 4 of 33 columns.
    rows, columns = slice(16 - 4, 16 + 5), slice(16 - 4, 16 + 5)
    inside = torch.zeros(32, 33, dtype=torch.bool)
    inside[rows, columns] = True
    torch.testing.assert_close(mixed[..., inside], other[..., inside])
    torch.testing.assert_close(mixed[..., ~inside], own[..., ~inside])


def test_the_style_comes_from_another_domain_of_the_modality() -> None:
    # One colour for each domain: with all amplitudes from a partner, the mean colour is the partner's.
    batch = disks(8, (16, 16), modality=[0, 0, 0, 0, 1, 1, 1, 1], domain=[0, 0, 1, 1, 2, 2, 3, 3])
    colours = torch.tensor([0.2, 0.4, 0.6, 0.8])
    batch.images[:] = colours[batch.domain].view(8, 1, 1, 1)
    algorithm = make(FourierMixing, probability=1.0)
    torch.manual_seed(0)
    reached = torch.stack([algorithm.changed(batch).images.mean((1, 2, 3)) for _ in range(100)])
    own, other = colours[batch.domain], colours[torch.tensor([1, 1, 0, 0, 3, 3, 2, 2])]
    share = (reached - own) / (other - own)
    assert (share > 0).all() and (share <= 1).all(), "always on the way to the other domain of the modality"
    assert (reached.amax(0) - reached.amin(0) > 0.15).all(), "weights from 0 to 1"


def test_masks_and_images_that_are_not_chosen_stay_bit_for_bit_and_the_range_is_kept() -> None:
    batch = disks(40)
    torch.manual_seed(0)
    changed = make(FourierMixing).changed(batch)
    assert changed.masks is batch.masks and changed.images.min() >= 0 and changed.images.max() <= 1
    same = (changed.images == batch.images).flatten(1).all(1).sum()
    assert 10 <= same <= 30


@pytest.mark.parametrize("off", [{"probability": 0.0}, {"strength": 0.0}])
def test_without_probability_or_strength_it_is_the_method_alone(off: dict[str, float]) -> None:
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(FourierMixing, **off), disks(6)), loss_of(bare, disks(6)))


def test_runs_in_float32_under_autocast() -> None:
    algorithm, batch = make(FourierMixing, probability=1.0), disks(6)
    losses = []
    for enabled in (False, True):
        seen: list[Tensor] = []
        handle = algorithm.method.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss_of(algorithm, dataclasses.replace(batch))
        handle.remove()
        losses.append(seen[0])
    assert losses[1].dtype == torch.float32 and torch.equal(*losses)

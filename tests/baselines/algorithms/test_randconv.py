from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from baselines.algorithms.randconv import RandConv
from baselines.losses import bce_dice
from tests.baselines.algorithms.toy import Step, disks, loss_of, make


def whitened(algorithm: RandConv, images: torch.Tensor) -> torch.Tensor:
    return (images - algorithm.mean) / algorithm.std


def test_a_view_is_one_convolution_of_the_batch() -> None:
    algorithm, batch = make(RandConv, mixing=False, kernel_sizes=[3]), disks(6, (20, 21))
    before, after = (whitened(algorithm, x) for x in (batch.images, algorithm.view(batch.images)))
    # Three channels from 27 numbers around each pixel: solved by least squares without remainder, zeros outside.
    patches = F.unfold(before, 3, padding=1).transpose(1, 2).reshape(-1, 27)
    targets = after.flatten(2).transpose(1, 2).reshape(-1, 3)
    solution = torch.linalg.lstsq(patches.double(), targets.double()).solution
    torch.testing.assert_close(patches.double() @ solution, targets.double(), atol=1e-4, rtol=0)


def test_kernels_are_he_normal_of_all_sizes() -> None:
    algorithm = make(RandConv, mixing=False)
    dot = torch.zeros(1, 3, 15, 15)
    dot[0, 0, 7, 7] = 1
    images = dot * algorithm.std + algorithm.mean  # after whitening a dot: the view shows the kernel
    torch.manual_seed(0)
    weights: dict[int, list[torch.Tensor]] = {1: [], 3: [], 5: [], 7: []}
    for _ in range(400):
        kernel = whitened(algorithm, algorithm.view(images))[0]
        size = int((kernel.abs().sum(0) > 1e-4).any(0).sum())
        weights[size].append(kernel[:, 7 - size // 2 : 8 + size // 2, 7 - size // 2 : 8 + size // 2])
    for size, found in weights.items():
        assert 60 < len(found) < 140
        values = torch.stack(found)
        assert values.std().item() == pytest.approx(1 / math.sqrt(3 * size**2), rel=0.15)


def test_mixing_lies_between_the_image_and_its_convolution() -> None:
    algorithm, batch = make(RandConv, kernel_sizes=[1]), disks(2)
    shares = []
    for seed in range(50):
        x = whitened(algorithm, batch.images)
        torch.manual_seed(seed)
        mixed = whitened(algorithm, algorithm.view(batch.images)) - x
        algorithm.mixing = False
        torch.manual_seed(seed)
        full = whitened(algorithm, algorithm.view(batch.images)) - x
        algorithm.mixing = True
        share = (mixed * full).sum() / full.square().sum()
        torch.testing.assert_close(mixed, share * full, atol=1e-4, rtol=1e-3)
        shares.append(share.item())
    assert 0 <= min(shares) < 0.15 and 0.85 < max(shares) <= 1.0


def test_the_loss_is_that_of_the_first_view_and_the_divergence_of_all_three() -> None:
    algorithm, batch = make(RandConv, consistency=7.0).eval(), disks(4)  # in eval mode the batches don't matter
    torch.manual_seed(5)
    views = [algorithm.view(batch.images) for _ in range(3)]
    logits = torch.stack([algorithm.predict(view, batch.modality) for view in views])
    p = logits.sigmoid()
    m = p.mean(0)
    divergence = (p * (p / m).log() + (1 - p) * ((1 - p) / (1 - m)).log()).mean()
    expected = bce_dice(logits[0], batch.masks)[0] + 7 * divergence
    torch.manual_seed(5)
    loss, parts = algorithm.training_loss(batch, Step())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["consistency"], divergence)
    gradients = torch.autograd.grad(loss, algorithm.method.last.weight)[0]
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, algorithm.method.last.weight)[0])
    assert not parts["consistency"].requires_grad and {"bce", "dice"} <= parts.keys()
    assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])


def test_probability_zero_is_the_method_alone_and_half_leaves_half_of_the_views() -> None:
    batch = disks(6)
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(RandConv, probability=0.0), batch), loss_of(bare, batch))
    algorithm = make(RandConv, probability=0.5)
    torch.manual_seed(0)
    same = sum(algorithm.view(batch.images) is batch.images for _ in range(100))
    assert 35 < same < 65


def test_without_consistency_there_is_one_pass() -> None:
    algorithm = make(RandConv, consistency=0.0)
    passes: list[int] = []
    algorithm.method.register_forward_hook(lambda *_: passes.append(1))
    _, parts = algorithm.training_loss(disks(4), Step())
    assert len(passes) == 1 and "consistency" not in parts


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match=r"expected odd kernel_sizes, found \[2\]"):
        make(RandConv, kernel_sizes=[2])
    with pytest.raises(ValueError, match="RandConv: expected consistency of 0 or more, found -1"):
        make(RandConv, consistency=-1.0)

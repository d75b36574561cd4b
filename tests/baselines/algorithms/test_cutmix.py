from __future__ import annotations

import pytest
import torch

from baselines.algorithms.cutmix import CutMix
from tests.baselines.algorithms.toy import disks, loss_of, make


def test_a_box_comes_from_one_other_image_with_its_mask() -> None:
    batch = disks(6, (24, 30), modality=[0, 0, 0, 1, 1, 1])
    torch.manual_seed(1)
    changed = make(CutMix).changed(batch)
    for i in range(6):
        foreign = (changed.images[i] != batch.images[i]).any(0)
        # Inside: the pixels of another image of the modality, and its mask. Outside: the image's own.
        sources = [j for j in range(6) if torch.equal(changed.images[i][:, foreign], batch.images[j][:, foreign])]
        if foreign.any():
            rows, columns = foreign.any(1).nonzero(), foreign.any(0).nonzero()
            assert foreign[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all(), "a box without holes"
            (j,) = sources
            assert j != i and batch.modality[j] == batch.modality[i]
            assert torch.equal(changed.masks[i][:, foreign], batch.masks[j][:, foreign])
        assert torch.equal(changed.masks[i][:, ~foreign], batch.masks[i][:, ~foreign])
    assert set(changed.masks.unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(changed.images, batch.images)


def test_the_share_of_foreign_pixels_is_that_of_the_paper_s_code() -> None:
    """lambda uniform, the centre uniform, what is outside cut off: computed by hand for many boxes."""
    batch = disks(2, (32, 32), modality=[0, 0])
    batch.images[0], batch.images[1] = 0.0, 1.0
    algorithm = make(CutMix)
    torch.manual_seed(0)
    shares = torch.stack([algorithm.changed(batch).images[0].mean() for _ in range(400)])
    generator = torch.Generator().manual_seed(1)
    half = ((1 - torch.rand(20000, generator=generator)).sqrt() * 32).floor() // 2
    sides = []
    for _ in range(2):
        centre = torch.randint(32, (20000,), generator=generator)
        sides.append((centre + half).clamp(max=32) - (centre - half).clamp(min=0))
    expected = (sides[0] * sides[1] / 32**2).mean()
    assert shares.mean().item() == pytest.approx(expected.item(), abs=0.03)
    assert shares.min() < 0.02 and shares.max() > 0.8


def test_probability_is_that_of_an_image_and_zero_is_the_method_alone() -> None:
    batch = disks(40, (32, 32), modality=[0] * 40)
    torch.manual_seed(0)
    changed = make(CutMix, probability=0.5).changed(batch)
    same = (changed.images == batch.images).flatten(1).all(1).sum()
    assert 10 <= same <= 30
    bare = make(lambda modalities, method: method(modalities=modalities))
    assert torch.equal(loss_of(make(CutMix, probability=0.0), batch), loss_of(bare, batch))

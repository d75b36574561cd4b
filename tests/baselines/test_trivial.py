"""The floors: thresholds against a plain search, polarity and channel learned, what an unseen modality gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.trivial import MeanMask, OtsuThreshold, TrivialBaseline, _above_otsu

MODALITIES = ["dermoscopy", "xray", "ultrasound"]


@dataclass
class Batch:
    images: Tensor
    masks: Tensor
    modality: Tensor


def ellipses(count: int, seed: int, size: int = 48) -> Tensor:
    """(count, 1, size, size) masks near the middle."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    masks = []
    for _ in range(count):
        (cy, cx), (ry, rx) = random.uniform(0.4, 0.6, 2), random.uniform(0.15, 0.3, 2)
        masks.append(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1)
    return torch.from_numpy(np.stack(masks))[:, None].float()


def paint(masks: Tensor, inside: tuple[float, ...], outside: tuple[float, ...], seed: int) -> Tensor:
    """Colours on the masks, with noise."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (inside, outside))
    noise = 0.05 * torch.randn(len(masks), 3, *masks.shape[-2:], generator=generator)
    return (masks * a + (1 - masks) * b + noise).clamp(0, 1)


# Dark objects; bright ones; green ones as bright as what is red around them.
COLOURS = {0: ((0.3, 0.2, 0.2), (0.9, 0.7, 0.6)), 1: ((0.8,) * 3, (0.3,) * 3), 2: ((0.0, 0.5094, 0.3), (1.0, 0.0, 0.3))}


def batch_of(modality: int, count: int = 6, seed: int = 0) -> Batch:
    masks = ellipses(count, seed)
    return Batch(paint(masks, *COLOURS[modality], seed), masks, torch.full((count,), modality))


def mixed(seed: int = 0) -> Batch:
    parts = [batch_of(modality, seed=seed) for modality in COLOURS]
    return Batch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "masks", "modality")))


def dice(logits: Tensor, masks: Tensor) -> np.ndarray:
    prediction, reference = (logits > 0).flatten(1).numpy(), masks.bool().flatten(1).numpy()
    return 2 * (prediction & reference).sum(1) / np.maximum(prediction.sum(1) + reference.sum(1), 1)


def plain_otsu(levels: np.ndarray) -> int:
    """The first level whose cut leaves the least variance within the two classes, by trying every one."""
    best, threshold = np.inf, 0
    for cut in range(255):
        low, high = levels[levels <= cut], levels[levels > cut]
        if low.size and high.size:
            within = low.size * low.var() + high.size * high.var()
            if within < best * (1 - 1e-12):
                best, threshold = within, cut
    return threshold


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_otsu_s(seed: int) -> None:
    random = np.random.default_rng(seed)
    low, high = random.integers(0, 120), random.integers(130, 255)
    levels = np.where(random.random((20, 25)) < random.uniform(0.1, 0.9), low, high) + random.normal(0, 12, (20, 25))
    levels = levels.round().clip(0, 255)
    above, valid = _above_otsu(torch.from_numpy(levels / 255)[None, None])
    assert valid.all()
    np.testing.assert_array_equal(above[0, 0].numpy(), levels > plain_otsu(levels))


def test_thresholds_of_a_batch_are_those_of_its_images() -> None:
    values = torch.rand(3, 4, 9, 7, generator=torch.Generator().manual_seed(1)) ** 2
    together, _ = _above_otsu(values)
    for image in range(3):
        for view in range(4):
            alone, _ = _above_otsu(values[image, view][None, None])
            assert torch.equal(alone[0, 0], together[image, view])


def test_otsu_learns_side_and_channel_and_segments_new_images() -> None:
    method = OtsuThreshold(MODALITIES)
    method.observe(mixed())
    grey, saturation = (OtsuThreshold.views.index(name) for name in ("grey", "saturation"))
    choices = method.choices().tolist()
    assert choices[0] % 2 == 1 and choices[1] % 2 == 0
    # The third modality is invisible in grey.
    assert choices[2] // 2 not in (grey, saturation)
    new = mixed(seed=9)
    assert dice(method.predict(new.images, new.modality), new.masks).min() > 0.95


def test_otsu_of_a_mixed_batch_is_that_of_single_images() -> None:
    method = OtsuThreshold(MODALITIES)
    method.observe(mixed())
    new = mixed(seed=3)
    together = method.predict(new.images, new.modality)
    alone = [method.predict(image[None], number[None]) for image, number in zip(new.images, new.modality, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_image_of_one_grey_has_no_foreground(value: float) -> None:
    method = OtsuThreshold(MODALITIES)
    method.observe(mixed())
    images = torch.full((3, 3, 16, 16), value)
    assert (method.predict(images, torch.tensor([0, 1, 2])) < 0).all()


def test_otsu_gives_a_modality_it_never_saw_the_best_choice_overall() -> None:
    method = OtsuThreshold(MODALITIES)
    method.observe(batch_of(0))
    assert method.choices().tolist() == [method.choices()[0].item()] * 3


def test_mean_mask_predicts_where_objects_usually_are() -> None:
    method = MeanMask(MODALITIES)
    left, right = torch.zeros(2, 4, 1, 64, 64)
    left[..., :20] = 1
    right[..., 44:] = 1
    for number, masks in enumerate((left, right)):
        method.observe(Batch(torch.rand(4, 3, 64, 64), masks, torch.full((4,), number)))
    logits = method.predict(torch.rand(2, 3, 96, 32), torch.tensor([0, 1]))
    assert logits.shape == (2, 1, 96, 32)
    assert torch.equal(logits[0, 0, 0] > 0, torch.arange(32) < 10) and torch.equal(
        logits[1, 0, 0] > 0, torch.arange(32) >= 22
    )
    # An unseen modality gets the mean of all: both strips.
    assert (method.predict(torch.rand(1, 3, 64, 64), torch.tensor([2]))[0, 0, 0, [0, 63]] > 0).all()


def test_mean_mask_is_cut_where_training_dice_is_highest() -> None:
    """Of all level sets of the mean, none has a higher mean Dice; with scattered objects one half would give nothing."""
    masks = torch.zeros(40, 1, 32, 32)
    random = np.random.default_rng(0)
    for mask in masks:
        y, x = random.normal(15, 4, 2).clip(0, 25).astype(int)
        mask[0, y : y + 6, x : x + 6] = 1
    method = MeanMask(["xray"], resolution=32)
    method.observe(Batch(torch.rand(40, 3, 32, 32), masks, torch.zeros(40, dtype=torch.int64)))
    logits = method.predict(torch.rand(40, 3, 32, 32), torch.zeros(40, dtype=torch.int64))
    mean = masks.mean(0, keepdim=True)
    assert (mean < 0.5).all()
    best = max(dice((mean - level).expand(40, -1, -1, -1), masks).mean() for level in mean.unique())
    assert dice(logits, masks).mean() == pytest.approx(best, abs=1e-9) and best > 0.2


def test_mean_mask_of_a_modality_without_any_foreground_is_empty() -> None:
    method = MeanMask(["xray"])
    method.observe(Batch(torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32), torch.zeros(2, dtype=torch.int64)))
    assert not (method.predict(torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)) > 0).any()


@pytest.mark.parametrize("floor", [OtsuThreshold, MeanMask])
class TestEveryFloor:
    def test_beats_chance(self, floor: type[TrivialBaseline]) -> None:
        """Chance: calling everything foreground, the best guess that knows nothing."""
        method = floor(MODALITIES)
        method.observe(mixed())
        new = mixed(seed=5)
        chance = dice(torch.ones_like(new.masks), new.masks).mean()
        assert dice(method.predict(new.images, new.modality), new.masks).mean() > chance + 0.3

    def test_state_is_saved_whole(self, floor: type[TrivialBaseline], tmp_path: Path) -> None:
        method, other, new = floor(MODALITIES), floor(MODALITIES), mixed(seed=2)
        method.observe(mixed())
        torch.save(method.state_dict(), tmp_path / "state.pt")
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(method.predict(new.images, new.modality), other.predict(new.images, new.modality))

    def test_what_is_learned_does_not_depend_on_the_batches(self, floor: type[TrivialBaseline]) -> None:
        whole, pieces, data = floor(MODALITIES), floor(MODALITIES), mixed()
        whole.observe(data)
        for row in range(len(data.images)):
            one = slice(row, row + 1)
            pieces.observe(Batch(data.images[one], data.masks[one], data.modality[one]))
        for a, b in zip(whole.state_dict().values(), pieces.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b)

    def test_one_stage_without_gradient_and_nothing_to_train(self, floor: type[TrivialBaseline]) -> None:
        method = floor(MODALITIES)
        (stage,) = method.stages()
        assert not stage.gradient and not list(method.parameters())

    def test_its_loss_is_that_of_its_predictions(self, floor: type[TrivialBaseline]) -> None:
        method = floor(MODALITIES)
        before, _ = method.training_loss(mixed(), None)
        method.observe(mixed())
        after, parts = method.training_loss(mixed(), None)
        assert after < before and set(parts) == {"bce", "dice"}

    def test_works_before_it_saw_anything(self, floor: type[TrivialBaseline]) -> None:
        new = mixed()
        assert floor(MODALITIES).predict(new.images, new.modality).isfinite().all()

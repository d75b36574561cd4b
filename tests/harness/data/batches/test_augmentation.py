"""Augmentation keeps what a batch is, moves masks with their images, and repeats itself for the same seed."""

from __future__ import annotations

import pytest
import torch
from support.device import StandInDevice
from support.operations import Counting

import harness.data.batches.augmentation as augmentation_module
from harness.data.batches.augmentation import PRESETS, Augmentation
from harness.data.batches.loader import Batch
from harness.errors import UserError


def squares(count: int = 8, size: int = 64) -> Batch:
    """Bright squares off the middle on a dark ground; the mask is the square."""
    masks = torch.zeros(count, 1, size, size)
    masks[:, :, 8:28, 12:40] = 1
    images = 0.2 + 0.6 * masks.repeat(1, 3, 1, 1)
    numbers = torch.arange(count)
    return Batch(images, masks, numbers % 2, numbers % 3, [str(number) for number in range(count)])


@pytest.mark.parametrize("preset", PRESETS)
class TestAll:
    def test_what_a_batch_is_stays(self, preset: str) -> None:
        batch = squares()
        images, masks = batch.images.clone(), batch.masks.clone()
        torch.manual_seed(0)
        for _ in range(5):
            result = Augmentation(preset)(batch)
            assert result.images.shape == images.shape and result.images.dtype == torch.float32
            assert result.masks.shape == masks.shape and result.masks.dtype == torch.float32
            assert result.images.min() >= 0 and result.images.max() <= 1
            assert set(result.masks.unique().tolist()) <= {0.0, 1.0}
            assert torch.equal(result.modality, batch.modality) and torch.equal(result.domain, batch.domain)
            assert result.keys == batch.keys
            assert torch.equal(batch.images, images) and torch.equal(batch.masks, masks)

    def test_same_seed_same_output(self, preset: str) -> None:
        augmentation = Augmentation(preset)
        results = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            results.append(augmentation(squares()))
        assert torch.equal(results[0].images, results[1].images)
        assert torch.equal(results[0].masks, results[1].masks)
        assert torch.equal(results[0].images, results[2].images) == (preset == "none")

    def test_single_image_and_no_grad(self, preset: str) -> None:
        result = Augmentation(preset)(squares(1))
        assert result.images.shape == (1, 3, 64, 64) and not result.images.requires_grad

    def test_full_precision_under_autocast(self, preset: str) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = Augmentation(preset)(squares())
        assert result.images.dtype == result.masks.dtype == torch.float32


@pytest.mark.parametrize("preset", ["flips", "standard", "strong"])
class TestVaried:
    def test_each_image_for_itself(self, preset: str) -> None:
        torch.manual_seed(0)
        result = Augmentation(preset)(squares(32))
        assert len({mask.numpy().tobytes() for mask in result.masks}) >= 4

    def test_masks_move_with_their_images(self, preset: str) -> None:
        """After any augmentation the bright part of the image is where the mask says."""
        torch.manual_seed(1)
        for _ in range(4):
            result = Augmentation(preset)(squares(16))
            for image, mask in zip(result.images.mean(1), result.masks[:, 0], strict=True):
                bright = image > (image.quantile(0.02) + image.quantile(0.98)) / 2
                if preset == "strong" and image[mask > 0].mean() < image[mask == 0].mean():  # light and dark exchanged
                    bright = ~bright
                common = 2 * (bright & (mask > 0)).sum() / (bright.sum() + mask.sum())
                assert common > 0.85


def test_flips_keep_pixels() -> None:
    torch.manual_seed(0)
    batch = squares()
    result = Augmentation("flips")(batch)
    assert torch.equal(result.images.flatten().sort().values, batch.images.flatten().sort().values)


def test_flips_go_both_ways() -> None:
    torch.manual_seed(0)
    masks = Augmentation("flips")(squares(200)).masks
    first = squares(1).masks[0]
    shares = [
        (masks == torch.flip(first, dims)).all(3).all(2).all(1).float().mean() for dims in ((), (1,), (2,), (1, 2))
    ]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0.15


class TestStrong:
    @staticmethod
    def coloured(count: int) -> Batch:
        """Images of one colour, whose channels differ by more than `standard` levels out."""
        batch = squares(count)
        batch.images[:] = torch.tensor([0.7, 0.4, 0.5]).view(1, 3, 1, 1)
        return batch

    def test_some_images_are_grey_some_inverted_some_of_other_channels(self) -> None:
        torch.manual_seed(0)
        count = 400
        means = Augmentation("strong")(self.coloured(count)).images.mean((2, 3))
        spread = means.max(1).values - means.min(1).values
        assert (spread < 0.02).float().mean() == pytest.approx(0.25, abs=0.08)
        standard = Augmentation("standard")(self.coloured(count)).images.mean((2, 3))
        assert (standard[:, 0] > standard[:, 1]).all(), "red stays above green in the standard preset"
        inverted = (spread > 0.02) & (means[:, 0] < means[:, 1])
        assert 0.1 < inverted.float().mean() < 0.4

    def test_light_and_dark_are_exchanged_for_a_quarter(self) -> None:
        torch.manual_seed(0)
        result = Augmentation("strong")(squares(400))
        images, masks = result.images.mean(1, keepdim=True), result.masks
        inside = (images * masks).sum((1, 2, 3)) / masks.sum((1, 2, 3))
        outside = (images * (1 - masks)).sum((1, 2, 3)) / (1 - masks).sum((1, 2, 3))
        assert (inside < outside).float().mean() == pytest.approx(0.25, abs=0.07)

    def test_the_standard_preset_keeps_its_draws(self) -> None:
        """Trials of `standard` keep their ids, so they keep their bits."""
        torch.manual_seed(0)
        result = Augmentation("standard")(squares(4))
        assert result.images.double().sum().item() == pytest.approx(15075.3951, abs=0.5)


def test_colours_leave_masks_alone() -> None:
    """A mask that covers everything still does, whatever is turned or blurred: borders are mirrored, never empty."""
    torch.manual_seed(0)
    batch = squares(32)
    batch.masks[:] = 1
    assert (Augmentation("standard")(batch).masks == 1).all()


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match=r"Unknown training\.augmentation 'standart'\. Did you mean 'standard'\?"):
        Augmentation("standart")


class TestVersions:
    def test_a_version_depends_on_key_and_number_alone(self) -> None:
        augmentation, batch = Augmentation("standard"), squares()
        torch.manual_seed(1)
        whole = augmentation.version(batch, 3)
        torch.manual_seed(2)
        for part in batch.chunks(3)[::-1]:
            again = Augmentation("standard").version(part, 3)
            rows = [batch.keys.index(key) for key in part.keys]
            assert torch.equal(again.images, whole.images[rows]) and torch.equal(again.masks, whole.masks[rows])

    def test_versions_and_images_differ(self) -> None:
        augmentation, batch = Augmentation("standard"), squares()
        first, second = augmentation.version(batch, 0), augmentation.version(batch, 1)
        distinct = {image.numpy().tobytes() for image in torch.cat((first.images, second.images))}
        assert len(distinct) > 12  # of 16; some draw no operation at all
        assert not torch.equal(first.masks, second.masks)
        assert first.keys == batch.keys and torch.equal(first.modality, batch.modality)

    def test_the_global_generator_is_left_alone(self) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        Augmentation("standard").version(squares(2), 0)
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_version_is_kept_as_bytes(self) -> None:
        images = Augmentation("standard").version(squares(), 3).images * 255
        torch.testing.assert_close(images, images.round(), atol=1e-4, rtol=0)

    def test_without_augmentation_a_version_is_the_image(self) -> None:
        torch.testing.assert_close(Augmentation("none").version(squares(2), 4).images, squares(2).images)


@pytest.mark.parametrize(("preset", "most"), [("standard", 40), ("strong", 50)])
def test_few_operations_whatever_the_batch(preset: str, most: int) -> None:
    """Every one is a launch on a GPU, and none waits for it."""
    augmentation, two, many_images = Augmentation(preset), squares(2), squares(32)
    augmentation(two)  # makes its constants
    with Counting() as few:
        augmentation(two)
    with Counting() as many:
        augmentation(many_images)
    assert few.count == many.count <= most, few.names
    with StandInDevice() as device:
        augmentation(two)
    assert not device.waits and not device.copies


def choose(monkeypatch: pytest.MonkeyPatch, *groups: str) -> None:
    """These groups of the standard preset change every image, the others none."""
    shares, parameters = augmentation_module._DRAWN["standard"]
    monkeypatch.setitem(
        augmentation_module._DRAWN, "standard", ({name: float(name in groups) for name in shares}, parameters)
    )


class TestGeometry:
    """Of images that are one bright spot."""

    @pytest.mark.parametrize("name", ["mirror", "turn", "affine"])
    def test_only_what_is_chosen_moves(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        choose(monkeypatch, name)
        torch.manual_seed(0)
        batch = squares(16)
        result = Augmentation("standard")(batch)
        expected = {"mirror": batch.masks.flip(3), "turn": batch.masks.rot90(2, (2, 3))}
        if name in expected:
            assert torch.equal(result.masks, expected[name])
        else:
            areas = result.masks.sum((1, 2, 3)) / batch.masks.sum((1, 2, 3))
            # From 0.8 to 1.25 in length; what is moved out of the image is missing.
            assert 0.4 < areas.min() < 0.9 < 1.1 < areas.max() <= 1.25**2 * 1.05

    def test_nothing_chosen_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        choose(monkeypatch)
        batch = squares(4)
        result = Augmentation("standard")(batch)
        torch.testing.assert_close(result.images, batch.images, atol=1e-5, rtol=0)
        assert torch.equal(result.masks, batch.masks)

    def test_a_rectangle_keeps_its_angles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Turned, not sheared: of a square of n pixels' side the farthest pixels lie n * sqrt(2) * scale apart."""
        choose(monkeypatch, "affine")
        torch.manual_seed(0)
        masks = torch.zeros(24, 1, 96, 96)
        masks[:, :, 38:58, 38:58] = 1
        numbers = torch.zeros(24, dtype=torch.int64)
        batch = Batch(masks.repeat(1, 3, 1, 1), masks, numbers, numbers, [""] * 24)
        for mask in Augmentation("standard")(batch).masks[:, 0]:
            places = mask.nonzero().float()
            side = len(places) ** 0.5
            assert torch.cdist(places, places).max() == pytest.approx(side * 2**0.5, rel=0.12)


def test_colours_stay_in_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a grey image brightness alone changes the mean: by up to a quarter."""
    choose(monkeypatch, "colour")
    torch.manual_seed(0)
    batch = squares(64)
    batch.images[:] = 0.4
    means = Augmentation("standard")(batch).images.mean((1, 2, 3))
    assert 0.3 - 1e-4 <= means.min() < 0.33 and 0.47 < means.max() <= 0.5 + 1e-4

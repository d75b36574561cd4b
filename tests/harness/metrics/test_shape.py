"""Boundary IoU and centreline Dice: equal to other ways of computing them, and to values worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from scipy.ndimage import binary_erosion
from skimage.morphology import skeletonize

from harness.metrics import boundary_iou, cldice, evaluate_pair
from tests.harness.metrics.oracle import Mask, pairs
from tests.performance.masks import lesion_pair, vessel_pair

REALISTIC = [lesion_pair(256, 0), lesion_pair(256, 1, displacement=60), vessel_pair(256, 2), vessel_pair(128, 5)]


def eroded_band(mask: Mask) -> Mask:
    """As the authors of boundary IoU define it: what d erosions by a 3 x 3 square take away."""
    times = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    return mask & ~binary_erosion(mask, np.ones((3, 3), bool), iterations=times, border_value=0)


def thinned(mask: Mask) -> Mask:
    """Zhang and Suen, A fast parallel algorithm for thinning digital patterns, CACM 27(3), 1984, step by step."""
    image = np.pad(mask, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for step in (0, 1):
            gone = []
            for y, x in zip(*np.nonzero(image), strict=True):
                around = [image[y + dy, x + dx] for dy, dx in _CIRCLE]
                p2, _, p4, _, p6, _, p8, _ = around
                steps = sum(a == 0 and b == 1 for a, b in zip(around, around[1:] + around[:1], strict=True))
                products = (p2 * p4 * p6, p4 * p6 * p8) if step == 0 else (p2 * p4 * p8, p2 * p6 * p8)
                if 2 <= sum(around) <= 6 and steps == 1 and not any(products):
                    gone.append((y, x))
            for y, x in gone:
                image[y, x] = 0
            changed |= bool(gone)
    return image[1:-1, 1:-1] > 0


_CIRCLE = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def skeleton_of_the_whole_image(mask: Mask) -> Mask:
    return np.asarray(skeletonize(np.pad(mask, 1))[1:-1, 1:-1], bool)


def slow_boundary_iou(prediction: Mask, reference: Mask) -> float:
    first, second = eroded_band(prediction), eroded_band(reference)
    return float((first & second).sum() / (first | second).sum())


def slow_cldice(prediction: Mask, reference: Mask, thin: Callable[[Mask], Mask]) -> float:
    first, second = thin(prediction), thin(reference)
    precision, sensitivity = reference[first].mean(), prediction[second].mean()
    return float(2 * precision * sensitivity / (precision + sensitivity)) if precision + sensitivity else 0.0


@pytest.mark.parametrize("pair", REALISTIC)
def test_realistic_masks(pair: tuple[Mask, Mask]) -> None:
    assert boundary_iou(*pair) == pytest.approx(slow_boundary_iou(*pair), abs=0)
    assert 0 < boundary_iou(*pair) < 1
    assert cldice(*pair) == pytest.approx(slow_cldice(*pair, skeleton_of_the_whole_image), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_another_thinning_gives_nearly_the_same_on_vessels(seed: int) -> None:
    """scikit-image's thinning keeps a few pixels more than the one it is named after: lines differ by ends and corners."""
    pair = vessel_pair(128, seed)
    assert cldice(*pair) == pytest.approx(slow_cldice(*pair, thinned), abs=0.03)


@settings(deadline=None, max_examples=60)
@given(pairs())
def test_any_pair(pair: tuple[Mask, Mask]) -> None:
    assert boundary_iou(*pair) == slow_boundary_iou(*pair)
    assert cldice(*pair) == pytest.approx(slow_cldice(*pair, skeleton_of_the_whole_image), abs=1e-12)


def test_a_border_at_the_edge_of_the_image_is_a_border() -> None:
    full = np.ones((100, 100), bool)
    inner = np.zeros((100, 100), bool)
    inner[10:90, 10:90] = True
    # 2 % of the diagonal are 3 pixels: the bands of both squares don't meet.
    assert boundary_iou(full, inner) == 0.0
    inner[:] = False
    inner[1:99, 1:99] = True
    bands = (100**2 - 94**2, 98**2 - 92**2)
    both = 98**2 - 94**2
    assert boundary_iou(full, inner) == pytest.approx(both / (sum(bands) - both))


def test_a_broken_vessel_costs_its_missing_length() -> None:
    vessel = np.zeros((20, 120), bool)
    vessel[9:12, 10:110] = True
    broken = vessel.copy()
    broken[:, 50:70] = False
    assert cldice(vessel, vessel) == 1.0
    # A fifth of the reference's line is not found, all of the prediction's line is right.
    assert cldice(broken, vessel) == pytest.approx(2 * 0.8 / 1.8, abs=0.01)
    thicker = np.zeros_like(vessel)
    thicker[8:13, 9:111] = True
    assert cldice(thicker, vessel) > 0.97


def test_one_bit_pictures_give_the_same_values() -> None:
    """NumPy makes bools of byte 255 of them, which made scikit-image's thinning crash."""
    pair = vessel_pair(128, 0)
    pictures = [np.asarray(Image.fromarray(mask)) for mask in pair]
    assert max(picture.view(np.uint8).max() for picture in pictures) == 255
    assert evaluate_pair(*pictures) == evaluate_pair(*pair)


@pytest.mark.parametrize("function", [boundary_iou, cldice])
def test_empty_masks_follow_the_rules_of_fractions(function) -> None:  # type: ignore[no-untyped-def]
    empty, some = np.zeros((9, 9), bool), np.eye(9, dtype=bool)
    assert (function(empty, empty), function(empty, some), function(some, empty)) == (1.0, 0.0, 0.0)
    assert np.isnan(function(empty, empty, empty="nan"))
    assert function(empty, some, empty="nan") == 0.0

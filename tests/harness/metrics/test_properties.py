"""What must hold for every pair of masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import REGISTRY, PixelCounts, evaluate_pair, hd, iou, nsd
from harness.metrics import surface as surface_module
from tests.harness.metrics.oracle import Mask, border, directed, pairs, spacings, surface_metrics

Pair = tuple[Mask, Mask]
DISTANCES = ("hd95", "hd95_max", "hd", "assd")
SYMMETRIC = ("dice", "iou", "nsd", *DISTANCES)
examples = settings(deadline=None, max_examples=60)


@examples
@given(pairs(), spacings, st.floats(0, 20))
def test_equals_the_definition_written_out(pair: Pair, spacing: tuple[float, float], tolerance: float) -> None:
    values = evaluate_pair(*pair, spacing=spacing, nsd_tolerance=tolerance)
    expected = surface_metrics(*pair, spacing, tolerance)
    if any(abs(d - tolerance) < 1e-6 for distances in directed(*pair, spacing) for d in distances):
        del expected["nsd"]  # on the edge rounding decides; the golden tests say how
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("reach", [1, 2, 6])
@settings(deadline=None, max_examples=40)
@given(pairs(), st.sampled_from([(1.0, 1.0), (0.3, 2.7), (5.0, 0.5)]))
def test_near_and_far_pixels_are_found_exactly(reach: int, pair: Pair, spacing: tuple[float, float]) -> None:
    """With a short reach most of them are far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface_module, "REACH", reach)
        surface_module._neighbours.cache_clear()
        distances = surface_module.surface_distances(*pair, spacing=spacing)
    surface_module._neighbours.cache_clear()
    there, back = directed(*pair, spacing)
    np.testing.assert_allclose(distances.prediction_to_reference, there, atol=1e-9, rtol=0)
    np.testing.assert_allclose(distances.reference_to_prediction, back, atol=1e-9, rtol=0)


@examples
@given(pairs(empty=True), spacings)
def test_ranges(pair: Pair, spacing: tuple[float, float]) -> None:
    values = evaluate_pair(*pair, spacing=spacing)
    height, width = pair[0].shape
    assert all(math.isfinite(value) for value in values.values())
    assert all(0 <= values[name] <= 1 for name in ("dice", "iou", "precision", "recall", "nsd"))
    assert all(0 <= values[name] <= math.hypot(height * spacing[0], width * spacing[1]) for name in DISTANCES)
    assert values["assd"] <= values["hd"]
    assert values["hd95"] <= values["hd"] and values["hd95_max"] <= values["hd"]
    assert values["dice"] == pytest.approx(2 * values["iou"] / (1 + values["iou"]))


@examples
@given(pairs(empty=True), spacings)
def test_symmetry(pair: Pair, spacing: tuple[float, float]) -> None:
    there, back = evaluate_pair(*pair, spacing=spacing), evaluate_pair(*pair[::-1], spacing=spacing)
    for name in SYMMETRIC:
        assert there[name] == pytest.approx(back[name], abs=1e-12), name
    assert there["precision"] == back["recall"] and there["recall"] == back["precision"]


@examples
@given(pairs(empty=True), spacings)
def test_a_mask_equals_itself(pair: Pair, spacing: tuple[float, float]) -> None:
    for name, value in evaluate_pair(pair[0], pair[0].copy(), spacing=spacing).items():
        assert value == (0.0 if name in DISTANCES else 1.0), name


@examples
@given(pairs())
def test_only_equal_masks_score_perfectly(pair: Pair) -> None:
    assert (iou(*pair) == 1.0) == bool((pair[0] == pair[1]).all())
    assert (hd(*pair) == 0.0) == np.array_equal(border(pair[0]), border(pair[1]))


@examples
@given(pairs(), spacings, st.tuples(*[st.integers(0, 9)] * 4))
def test_background_around_the_image_changes_nothing(
    pair: Pair, spacing: tuple[float, float], margins: tuple[int, int, int, int]
) -> None:
    frame = (margins[:2], margins[2:])
    wide = tuple(np.pad(mask, frame) for mask in pair)
    assert evaluate_pair(*wide, spacing=spacing) == evaluate_pair(*pair, spacing=spacing)


@examples
@given(pairs(), spacings)
def test_flips_and_the_transpose_change_nothing(pair: Pair, spacing: tuple[float, float]) -> None:
    # Not so with clDice: thinning takes pixels from one side of an even width.
    names = [name for name in REGISTRY if name != "cldice"]
    values = evaluate_pair(*pair, spacing=spacing, metrics=names)
    for turned, pixel in (
        (tuple(mask[::-1] for mask in pair), spacing),
        (tuple(mask[:, ::-1] for mask in pair), spacing),
        (tuple(mask.T for mask in pair), spacing[::-1]),
    ):
        assert evaluate_pair(*turned, spacing=pixel, metrics=names) == pytest.approx(values, abs=1e-12)


@examples
@given(pairs(empty=True), spacings, st.floats(0.01, 100))
def test_distances_scale_with_the_spacing(pair: Pair, spacing: tuple[float, float], scale: float) -> None:
    small = evaluate_pair(*pair, spacing=spacing, nsd_tolerance=2.0)
    large = evaluate_pair(*pair, spacing=(spacing[0] * scale, spacing[1] * scale), nsd_tolerance=2.0 * scale)
    for name, value in small.items():
        assert large[name] == pytest.approx(value * scale if name in DISTANCES else value, rel=1e-9), name


@examples
@given(pairs(), st.floats(0, 20), st.floats(0, 20))
def test_nsd_grows_with_the_tolerance(pair: Pair, first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert nsd(*pair, tolerance=low) <= nsd(*pair, tolerance=high)
    assert nsd(*pair, tolerance=hd(*pair)) == 1.0


@examples
@given(pairs(empty=True), st.data())
def test_a_found_pixel_more_never_lowers_overlap(pair: Pair, data: st.DataObject) -> None:
    prediction, reference = pair
    missed = np.argwhere(reference & ~prediction)
    if not len(missed):
        return
    better = prediction.copy()
    better[tuple(data.draw(st.sampled_from(list(missed))))] = True
    before, after = evaluate_pair(prediction, reference), evaluate_pair(better, reference)
    for name in ("dice", "iou", "recall", "precision"):
        assert after[name] >= before[name], name
    assert after["dice"] > before["dice"]


@examples
@given(pairs(empty=True))
def test_counts(pair: Pair) -> None:
    counts = PixelCounts.of(*pair)
    assert (counts.predicted, counts.reference) == (pair[0].sum(), pair[1].sum())
    assert counts.both == (pair[0] & pair[1]).sum()
    expected = {(True, True): "none", (True, False): "reference", (False, True): "prediction", (False, False): "both"}
    assert counts.empty == expected[bool(pair[0].any()), bool(pair[1].any())]

"""Values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.errors import TrialFailed
from harness.metrics import REGISTRY, assd, dice, evaluate_pair, hd, hd95, hd95_max, iou, nsd, precision, recall


def pixels(*places: tuple[int, int], shape: tuple[int, int] = (10, 10)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def test_two_single_pixels_are_a_3_4_5_triangle_apart() -> None:
    values = evaluate_pair(pixels((2, 3)), pixels((5, 7)))
    assert values == {
        "dice": 0.0,
        "iou": 0.0,
        "precision": 0.0,
        "recall": 0.0,
        "hd95": 5.0,
        "hd95_max": 5.0,
        "hd": 5.0,
        "assd": 5.0,
        "nsd": 0.0,
        "boundary_iou": 0.0,
        "cldice": 0.0,
    }
    assert nsd(pixels((2, 3)), pixels((5, 7)), tolerance=5) == 1.0


def test_spacing_is_row_then_column() -> None:
    first, second = pixels((2, 3)), pixels((5, 7))
    assert hd(first, second, spacing=(2.0, 0.5)) == pytest.approx(math.hypot(3 * 2.0, 4 * 0.5))
    assert hd(first, second, spacing=2.0) == 10.0


def test_line_against_its_end() -> None:
    # d(P -> G) = 0, 1, 2 and d(G -> P) = 0; 95th percentiles: of 0 0 1 2 at place 2.85, of 0 1 2 at place 1.9.
    values = evaluate_pair(pixels((0, 0), (0, 1), (0, 2)), pixels((0, 0)), nsd_tolerance=1)
    assert values == pytest.approx(
        {
            "dice": 2 * 1 / (3 + 1),
            "iou": 1 / 3,
            "precision": 1 / 3,
            "recall": 1.0,
            "hd95": 1.85,
            "hd95_max": 1.9,
            "hd": 2.0,
            "assd": 3 / 4,
            "nsd": 3 / 4,
            "boundary_iou": 1 / 3,
            "cldice": 2 * (1 / 3) / (1 / 3 + 1),
        }
    )


def test_image_edge_is_border() -> None:
    # A full 5 x 5 image has 16 border pixels: 4 corners at sqrt 8, 8 at sqrt 5, 4 at 2 from the centre.
    full, centre = np.ones((5, 5), bool), pixels((2, 2), shape=(5, 5))
    assert hd(full, centre) == pytest.approx(math.sqrt(8))
    assert assd(full, centre) == pytest.approx((4 * math.sqrt(8) + 8 * math.sqrt(5) + 4 * 2 + 2) / 17)
    assert nsd(full, centre, tolerance=2) == pytest.approx(5 / 17)


def test_border_is_inside_the_mask_and_4_connected() -> None:
    # Of a 3 x 3 square only the middle is not border; a plus has its arms as border but not its middle.
    plus = pixels((1, 2), (2, 1), (2, 2), (2, 3), (3, 2))
    assert hd(plus, pixels((2, 2))) == 1.0
    assert assd(plus, pixels((2, 2))) == 1.0  # all five distances are 1: the middle isn't there to be 0


def test_shifted_square() -> None:
    reference, prediction = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    reference[4:12, 4:12], prediction[4:12, 7:15] = True, True
    assert dice(prediction, reference) == 2 * 40 / 128
    assert iou(prediction, reference) == 40 / 88
    assert precision(prediction, reference) == recall(prediction, reference) == 5 / 8
    assert hd(prediction, reference) == hd95(prediction, reference) == hd95_max(prediction, reference) == 3.0


def test_island_hides_from_the_pooled_percentile_only() -> None:
    rows, columns = np.ogrid[:200, :200]
    reference = (rows - 60) ** 2 + (columns - 60) ** 2 <= 30**2
    prediction = reference.copy()
    prediction[121:126, 119:124] = True
    values = evaluate_pair(prediction, reference)
    assert values["hd95"] == 0.0
    assert values["hd95_max"] == pytest.approx(57.3, abs=0.05)
    assert values["hd"] > 60


def test_nsd_counts_a_distance_equal_to_the_tolerance_in_every_unit() -> None:
    first, second = pixels((0, 0)), pixels((0, 3))
    assert 3 * 0.1 > 0.3  # the rounding this is about
    assert nsd(first, second, spacing=0.1, tolerance=0.3) == 1.0
    assert nsd(first, second, spacing=0.1, tolerance=0.2999) == 0.0
    assert nsd(first, first, tolerance=0) == 1.0


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda pair, settings: pair.nothing, r"failed: AttributeError: .*nothing.* \(test_golden\.py, line "),
        (lambda pair, settings: "0.5", r"expected a number, found '0\.5' \(str\)"),
        (lambda pair, settings: None, r"expected a number, found None \(NoneType\)"),
    ],
)
def test_a_metric_of_ones_own_gives_a_number_or_is_named(
    compute: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "mine", replace(REGISTRY["dice"], name="mine", compute=compute))
    with pytest.raises(TrialFailed, match=f"The metric 'mine'.*{said}"):
        evaluate_pair(np.eye(4, dtype=bool), np.eye(4, dtype=bool), metrics=["mine"])


def test_evaluate_pair_has_the_registered_columns_and_the_functions_values() -> None:
    rng = np.random.default_rng(3)
    prediction, reference = rng.random((2, 40, 30)) < 0.2
    values = evaluate_pair(prediction, reference, spacing=(1.5, 0.7), nsd_tolerance=1.0)
    assert list(values) == list(REGISTRY)
    assert all(type(value) is float for value in values.values())
    for function in (dice, iou, precision, recall):
        assert values[function.__name__] == function(prediction, reference)
    for function in (hd95, hd95_max, hd, assd):
        assert values[function.__name__] == function(prediction, reference, spacing=(1.5, 0.7))
    assert values["nsd"] == nsd(prediction, reference, spacing=(1.5, 0.7), tolerance=1.0)

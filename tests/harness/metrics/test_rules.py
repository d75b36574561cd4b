"""Empty masks, wrong input, names and versions."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from harness.errors import UserError
from harness.metrics import (
    EMPTY_POLICIES,
    REGISTRY,
    InvalidMasks,
    assd,
    dice,
    empty_policy,
    evaluate_pair,
    hd,
    hd95,
    hd95_max,
    iou,
    metric,
    nsd,
    precision,
    recall,
    shown_metrics,
    surface_distances,
)

EMPTY = np.zeros((30, 40), bool)
BLOB = EMPTY.copy()
BLOB[5:9, 6:20] = True
OVERLAP = (dice, iou, precision, recall)
SURFACE = (hd95, hd95_max, hd, assd, nsd)
DISTANCES = {"hd95", "hd95_max", "hd", "assd"}


def test_both_empty_is_perfect() -> None:
    values = evaluate_pair(EMPTY, EMPTY)
    assert values == {name: 0.0 if name in DISTANCES else 1.0 for name in REGISTRY}


@pytest.mark.parametrize("pair", [(EMPTY, BLOB), (BLOB, EMPTY)], ids=["missed", "invented"])
def test_one_empty_is_the_worst(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert evaluate_pair(*pair) == {name: 50.0 if name in DISTANCES else 0.0 for name in REGISTRY}
    values = evaluate_pair(*pair, spacing=(0.5, 2.0))
    assert values["hd95"] == pytest.approx(math.hypot(30 * 0.5, 40 * 2.0))


def test_nan_policy_is_nan_only_where_the_formula_is_undefined() -> None:
    def undefined(prediction: np.ndarray, reference: np.ndarray) -> set[str]:
        values = evaluate_pair(prediction, reference, empty="nan")
        assert all(value == 0 for value in values.values() if not math.isnan(value))
        return {name for name, value in values.items() if math.isnan(value)}

    assert undefined(EMPTY, EMPTY) == set(REGISTRY)
    assert undefined(EMPTY, BLOB) == DISTANCES | {"precision"}
    assert undefined(BLOB, EMPTY) == DISTANCES | {"recall"}


@pytest.mark.parametrize("policy", EMPTY_POLICIES)
@pytest.mark.parametrize("pair", [(EMPTY, EMPTY), (EMPTY, BLOB), (BLOB, EMPTY), (BLOB, BLOB)])
def test_single_functions_follow_the_policy_too(policy: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    values = evaluate_pair(*pair, empty=policy)
    for function in (*OVERLAP, *SURFACE):
        np.testing.assert_equal(function(*pair, empty=policy), values[function.__name__])


def test_policy_does_not_touch_pairs_with_foreground() -> None:
    other = np.roll(BLOB, 3)
    assert evaluate_pair(BLOB, other, empty="nan") == evaluate_pair(BLOB, other, empty="diagonal")


@pytest.mark.parametrize("function", [*OVERLAP, *SURFACE, evaluate_pair, surface_distances])
@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (BLOB, BLOB[:-1], r"one shape; found \(30, 40\) and \(29, 40\)"),
        (BLOB.astype(np.uint8) * 255, BLOB, "bool prediction mask; found uint8"),
        (BLOB, BLOB.astype(np.float32), "bool reference mask; found float32"),
        (BLOB[None], BLOB, r"2-D .* prediction mask; found shape \(1, 30, 40\)"),
        (BLOB, BLOB[0], r"2-D .* reference mask; found shape \(40,\)"),
        (BLOB[:0], BLOB[:0], r"with pixels; found shape \(0, 40\)"),
    ],
    ids=["shapes", "uint8", "float", "3-D", "1-D", "no pixels"],
)
def test_wrong_masks(function, prediction, reference, message: str) -> None:
    with pytest.raises(InvalidMasks, match=message):
        function(prediction, reference)


@pytest.mark.parametrize("spacing", [0, -1.0, (1.0, 0.0), (1.0, math.nan), math.inf, (1, 1, 1), (), "1mm"])
@pytest.mark.parametrize("pair", [(BLOB, BLOB), (EMPTY, EMPTY)], ids=["foreground", "empty"])
def test_wrong_spacing(spacing, pair) -> None:
    for function in (hd95, hd95_max, hd, assd, nsd, evaluate_pair):
        with pytest.raises(InvalidMasks, match="expected spacing as one or two"):
            function(*pair, spacing=spacing)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("pair", [(BLOB, BLOB), (EMPTY, EMPTY)], ids=["foreground", "empty"])
def test_wrong_tolerance(tolerance: float, pair) -> None:
    with pytest.raises(InvalidMasks, match="expected an NSD tolerance"):
        nsd(*pair, tolerance=tolerance)
    with pytest.raises(InvalidMasks, match="expected an NSD tolerance"):
        evaluate_pair(*pair, nsd_tolerance=tolerance)


def test_invalid_masks_is_a_value_error() -> None:
    assert issubclass(InvalidMasks, ValueError)


@pytest.mark.parametrize(("pair", "role"), [((EMPTY, BLOB), "prediction"), ((BLOB, EMPTY), "reference")])
def test_an_empty_mask_has_no_border(pair, role: str) -> None:
    with pytest.raises(InvalidMasks, match=f"{role} mask with foreground"):
        surface_distances(*pair)


def test_inputs_are_left_alone_and_need_not_be_contiguous() -> None:
    prediction, reference = np.random.default_rng(0).random((2, 60, 80)) < 0.4
    kept = prediction.copy(), reference.copy()
    expected = evaluate_pair(np.ascontiguousarray(prediction[::2, ::3]), np.ascontiguousarray(reference[::2, ::3]))
    assert evaluate_pair(prediction[::2, ::3], reference[::2, ::3]) == expected
    prediction.flags.writeable = reference.flags.writeable = False
    evaluate_pair(prediction, reference)
    assert (prediction == kept[0]).all() and (reference == kept[1]).all()


def test_registry() -> None:
    shown = ["dice", "hd95", "nsd", "hd95_max", "precision", "recall", "boundary_iou", "cldice"]
    assert list(REGISTRY) == [*shown, "iou", "hd", "assd"] and shown_metrics() == shown
    assert all(name == entry.name and entry.definition and entry.reference for name, entry in REGISTRY.items())
    assert {name for name, entry in REGISTRY.items() if not entry.higher_is_better} == DISTANCES
    assert {name for name, entry in REGISTRY.items() if entry.unit == "px"} == DISTANCES
    assert metric("hd95").title == "HD95"


def test_unknown_names_are_met_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=re.escape("found 'dise'. Did you mean 'dice'?")):
        metric("dise")
    with pytest.raises(UserError, match=re.escape("found 'diagnal'. Did you mean 'diagonal'?")):
        empty_policy("diagnal")
    for pair in ((BLOB, BLOB), (EMPTY, EMPTY)):
        for function in (evaluate_pair, dice, hd95):
            with pytest.raises(UserError, match="empty-mask policy"):
                function(*pair, empty="zero")


def test_import_is_light() -> None:
    code = (
        "import sys, harness.metrics; print([m for m in ('torch', 'matplotlib', 'pandas', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

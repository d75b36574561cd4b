"""Equal to the libraries whose definitions are taken over; and how far from the one whose definition is not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from scipy.ndimage import binary_dilation, binary_opening

from harness.metrics import assd, dice, evaluate_pair, hd, hd95, hd95_max, iou, nsd, precision, recall
from tests.harness.metrics.oracle import Mask, pairs, spacings
from tests.performance.masks import lesion_pair, vessel_pair

Pair = tuple[Mask, Mask]

REALISTIC = {
    "lesion": lesion_pair(256, 0),
    "far lesion": lesion_pair(256, 1, displacement=60),
    "vessels": vessel_pair(256, 2),
    "lesion and vessels": (lesion_pair(192, 3)[0], vessel_pair(192, 4)[1]),
}


def noise(*shape: int, density: float, seed: int) -> Mask:
    return np.random.default_rng(seed).random(shape) < density


AWKWARD = {
    "1 x 1 image": (np.ones((1, 1), bool), np.ones((1, 1), bool)),
    "single row": (noise(1, 50, density=0.3, seed=1), noise(1, 50, density=0.3, seed=2)),
    "single column": (noise(50, 1, density=0.3, seed=1), noise(50, 1, density=0.3, seed=2)),
    "full and one corner": (np.ones((60, 40), bool), np.eye(60, 40, dtype=bool) & (np.arange(40) < 1)),
    "both full": (np.ones((30, 30), bool), np.ones((30, 30), bool)),
    "opposite corners": (
        np.eye(70, dtype=bool) & (np.arange(70) == 0),
        np.eye(70, dtype=bool) & (np.arange(70) == 69),
    ),
    "checkerboard and its inverse": (np.indices((64, 64)).sum(0) % 2 == 0, np.indices((64, 64)).sum(0) % 2 == 1),
    "noise": (noise(120, 90, density=0.5, seed=1), noise(120, 90, density=0.5, seed=2)),
    "noise and a far block": (
        noise(200, 200, density=0.5, seed=1) & (np.arange(200) < 120),
        np.zeros((200, 200), bool) | ((np.arange(200) > 190) & (np.arange(200) > 190)[:, None]),
    ),
}


@pytest.mark.parametrize("name", [*REALISTIC, *AWKWARD])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.0), 0.25, (0.3, 2.7), (31.0, 1e-3)])
def test_medpy(name: str, spacing: float | tuple[float, float] | None) -> None:
    check_against_medpy((REALISTIC | AWKWARD)[name], spacing)


@settings(deadline=None, max_examples=80)
@given(pairs(), spacings)
def test_medpy_on_any_pair(pair: Pair, spacing: tuple[float, float]) -> None:
    check_against_medpy(pair, spacing)


def check_against_medpy(pair: Pair, spacing: float | tuple[float, float] | None) -> None:
    from medpy.metric import binary

    assert hd95(*pair, spacing=spacing) == pytest.approx(binary.hd95(*pair, spacing), abs=1e-9, rel=0)
    assert hd(*pair, spacing=spacing) == pytest.approx(binary.hd(*pair, spacing), abs=1e-9, rel=0)
    assert assd(*pair, spacing=spacing) == pytest.approx(binary.assd(*pair, spacing), abs=1e-9, rel=0)
    assert dice(*pair) == pytest.approx(binary.dc(*pair))
    assert iou(*pair) == pytest.approx(binary.jc(*pair))
    assert precision(*pair) == pytest.approx(binary.precision(*pair))
    assert recall(*pair) == pytest.approx(binary.recall(*pair))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", [*REALISTIC, *AWKWARD])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 2.7)])
def test_monai(name: str, spacing: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from monai.metrics import (
            compute_average_surface_distance,
            compute_hausdorff_distance,
            compute_surface_dice,
        )

    pair = (REALISTIC | AWKWARD)[name]
    first, second = (torch.from_numpy(mask)[None, None] for mask in pair)
    common = {"include_background": True, "spacing": list(spacing)}
    monai_hd95 = compute_hausdorff_distance(first, second, percentile=95, **common)
    assert hd95_max(*pair, spacing=spacing) == pytest.approx(float(monai_hd95), abs=1e-3)
    monai_assd = compute_average_surface_distance(first, second, symmetric=True, **common)
    assert assd(*pair, spacing=spacing) == pytest.approx(float(monai_assd), abs=1e-3)
    # MONAI works in float32: a tolerance no distance is equal to keeps its rounding out of the comparison.
    for tolerance in (0.51, 2.05):
        monai_nsd = compute_surface_dice(first, second, [tolerance], **common)
        assert nsd(*pair, spacing=spacing, tolerance=tolerance) == pytest.approx(float(monai_nsd), abs=1e-6)


def test_deepmind_measures_between_pixels_and_so_differs_a_little() -> None:
    from surface_distance import (
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    prediction, reference = REALISTIC["far lesion"]
    ours = evaluate_pair(prediction, reference)
    theirs = compute_surface_distances(reference, prediction, (1.0, 1.0))
    # Its surface elements lie half a pixel outside ours on both masks and weigh by length.
    assert ours["hd95_max"] == pytest.approx(compute_robust_hausdorff(theirs, 95), abs=1.5)
    assert ours["nsd"] == pytest.approx(compute_surface_dice_at_tolerance(theirs, 2.0), abs=0.05)
    assert ours["nsd"] != compute_surface_dice_at_tolerance(theirs, 2.0)


@pytest.mark.real
def test_medpy_on_real_masks(real_data: Path) -> None:
    found = 0
    for modality in sorted(folder for folder in real_data.iterdir() if folder.is_dir()):
        for domain in sorted(folder for folder in modality.iterdir() if folder.is_dir()):
            path = sorted((domain / "masks").glob("*.png"))[0]
            reference = np.asarray(Image.open(path).convert("L")) > 127
            prediction = np.roll(binary_dilation(binary_opening(reference)), (2, -3), (0, 1))
            if reference.any() and prediction.any():
                check_against_medpy((prediction, reference), None)
                found += 1
    assert found > 0

"""NIfTI masks lie on their image, or are refused: whatever the order and direction of their axes."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.data.reading.nifti import AXES
from harness.errors import UserError
from harness.evaluation.external.mask_files import read_external_mask
from tests.support.containers import LPS

MASK = np.zeros((6, 6), bool)
MASK[0:2, 1:5] = True  # square, and no symmetry that hides a turn
MASK[3, 0] = True


def write(path: Path, array: np.ndarray, affine: np.ndarray | None) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.astype(np.uint8)), affine), path)
    return path


def turn(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return affine


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.7, 3)])
@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_turned_by_its_affine(
    tmp_path: Path, spacing: tuple[float, ...], flips: tuple[int, int], order: tuple[int, ...]
) -> None:
    array = MASK.T[:: flips[0], :: flips[1], None].transpose(order)
    affine = LPS @ np.diag([flips[0] * spacing[0], flips[1] * spacing[1], spacing[2], 1])
    affine[:3, 3] = (3, -2, 1)
    affine = affine[:, [*order, 3]]
    np.testing.assert_array_equal(read_external_mask(write(tmp_path / "a.nii.gz", array, affine)), MASK)


def test_a_small_tilt_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", MASK.T[..., None], LPS @ turn(0.5))
    np.testing.assert_array_equal(read_external_mask(path), MASK)


@pytest.mark.parametrize(
    ("array", "affine", "said"),
    [
        (MASK[..., None], np.eye(4), "its affine is the identity, so which axis is the image's columns"),
        (MASK.T[::-1, ::-1, None], np.eye(4), "nifti=rows_columns .* or nifti=columns_rows"),
        (MASK[..., None], None, "its affine is not stated"),
        (MASK[..., None], LPS @ turn(10), "tilted against the axes of the picture"),
        (MASK[None], LPS, r"one slice that runs left-right and front-back, found the shape \(1, 6, 6\)"),
        (np.stack([MASK, MASK], axis=2), LPS, r"expected one mask of two axes, found an array of shape \(6, 6, 2\)"),
        (np.stack([MASK, MASK], axis=2), np.eye(4), "expected one mask of two axes"),
        (np.stack([MASK, MASK], axis=2)[:, :, None], LPS, "expected one mask of two axes"),
        (MASK.T[..., None] * 2, LPS, "found the values 0, 2"),
        (np.zeros((0, 6, 1)), LPS, "expected one mask of two axes|damaged"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, array: np.ndarray, affine: np.ndarray | None, said: str) -> None:
    path = write(tmp_path / "a.nii", array, affine)
    with pytest.raises(UserError, match=said) as caught:
        read_external_mask(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("affine", [np.eye(4), None, LPS, LPS @ turn(45)])
def test_axes_that_are_stated_need_no_affine(tmp_path: Path, affine: np.ndarray | None) -> None:
    assert set(AXES) == {"affine", "columns_rows", "rows_columns"}
    rows = write(tmp_path / "rows.nii", MASK[..., None], affine)
    columns = write(tmp_path / "columns.nii", MASK.T[..., None], affine)
    np.testing.assert_array_equal(read_external_mask(rows, "rows_columns"), MASK)
    np.testing.assert_array_equal(read_external_mask(columns, "columns_rows"), MASK)


@pytest.mark.parametrize(
    "mask", [np.zeros((5, 5), bool), np.ones((4, 4), bool), np.eye(4, dtype=bool) | np.eye(4, dtype=bool)[::-1]]
)
def test_where_all_readings_agree_the_identity_says_enough(tmp_path: Path, mask: np.ndarray) -> None:
    np.testing.assert_array_equal(read_external_mask(write(tmp_path / "a.nii", mask[..., None], np.eye(4))), mask)


@pytest.mark.parametrize("axes", [(), (1,), (1, 1)])
def test_axes_of_length_one_are_dropped(tmp_path: Path, axes: tuple[int, ...]) -> None:
    path = write(tmp_path / "a.nii", MASK.T.reshape(6, 6, *axes), LPS)
    np.testing.assert_array_equal(read_external_mask(path), MASK)

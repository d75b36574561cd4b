"""NIfTI masks: which axis is which.

A picture has rows, from top to bottom, and columns, from left to right. As SimpleITK, ITK-SNAP and nnU-Net convert pictures,
columns run to the patient's left and rows to the back; the affine of a NIfTI file says where its axes run. So

| the file's affine | what is done (`nifti=affine`, the default) |
|---|---|
| axes along left-right and front-back, in any order and direction | turned so that columns run left and rows back |
| tilted by more than a degree | refused |
| a plane that is not left-right by front-back | refused |
| the identity, or none stated: most programs write this by default | refused, unless all readings agree |

Where a tool's files are meant otherwise, say so: `nifti=columns_rows` takes the first axis for the columns and the second for
the rows, `nifti=rows_columns` the other way round, both without the affine. The size of pixels plays no part: metrics are in
pixels. A file with more than one slice is refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.reading.arrays import plane_of
from harness.data.reading.picture import MOST_PIXELS
from harness.errors import UserError


class UnknownAxes(UserError):
    """A file that does not say which of its axes are rows and columns, and which way they run."""


AFFINE = "affine"
AXES = (AFFINE, "columns_rows", "rows_columns")
SUFFIXES = (".nii", ".nii.gz")
_MOST_TILT = math.cos(math.radians(1))


def read_plane(path: Path, axes: str) -> NDArray[Any]:
    """The file's one slice: (rows, columns) of its image.

    Raises:
        UserError: damaged, several slices, no numbers, nibabel is missing, or where its axes run can't be known.
    """
    values, affine = _load(path)
    plain = plane_of(values, path)
    if axes == "columns_rows":
        return np.ascontiguousarray(plain.T)
    if axes == "rows_columns":
        return plain
    if affine is None or np.array_equal(affine, np.eye(4)):
        readings = [plain, plain.T, plain[::-1, ::-1].T]
        if all(np.array_equal(readings[0], other) for other in readings[1:]):
            return plain
        raise UnknownAxes(
            f"{path}: its affine {'is the identity' if affine is not None else 'is not stated'}, so which axis is the image's"
            " columns, and which way it runs, can't be known. Say it: nifti=rows_columns (arrays as NumPy has them), or"
            " nifti=columns_rows (transposed)."
        )
    return _turned(values, affine, path)


def _load(path: Path) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Values with three axes, and the affine, None where the header states none."""
    try:
        import nibabel
    except ImportError as error:
        raise UserError(
            f"{path}: NIfTI files are read by nibabel, which is not installed: pip install 'delightsam-bench[nifti]'."
        ) from error
    try:
        image: Any = nibabel.load(path)
        shape = image.shape
        if math.prod(shape) > MOST_PIXELS:
            raise UserError(f"{path}: expected one slice, found an array of shape {shape}.")
        values = np.asarray(image.dataobj)
        header = image.header
        stated = "sform_code" not in header or int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        affine = np.asarray(image.affine, float) if stated and image.affine is not None else None
    except UserError:
        raise
    except Exception as error:  # nibabel raises almost anything on damaged files
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: expected a NIfTI image, found a damaged file ({message}). Write it again.") from error
    if affine is not None and not np.isfinite(affine).all():
        affine = None
    return values, affine


def _turned(values: NDArray[Any], affine: NDArray[np.float64], path: Path) -> NDArray[Any]:
    """Columns to the left, rows to the back."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    values = values.reshape(values.shape + (1,) * (3 - values.ndim))
    directions = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    if (np.abs(directions).max(axis=0) < _MOST_TILT).any():
        raise UserError(
            f"{path}: its affine is tilted against the axes of the picture. Resample the mask to its image's pixels, or say how"
            " its axes are meant: nifti=columns_rows or nifti=rows_columns."
        )
    target = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    turned = np.asarray(apply_orientation(values, target))
    if turned.shape[2] != 1:
        raise UserError(
            f"{path}: expected one slice that runs left-right and front-back, found the shape {turned.shape} in these directions"
            " (left, back, up). Say how its axes are meant: nifti=columns_rows or nifti=rows_columns."
        )
    return np.ascontiguousarray(plane_of(turned[:, :, 0], path).T)

"""A binary mask from any file that segmentation tools write.

| suffix | what is read |
|---|---|
| pictures: .png .bmp .tif .tiff .gif .webp .jpg .jpeg | see harness/data/reading/mask.py |
| .nii .nii.gz | one slice, brought to the image's rows and columns by its affine: see `nifti.py` |
| .npz .npy .mat | one array (rows, columns), bool or 0 and 1 or 0 and 255; of several the one called mask, masks, segmentation or prediction |

Axes of length 1 are dropped. Labels beyond background and foreground are refused: which of them is the object is not
ours to guess. So are probabilities.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.reading import SUFFIXES, MaskReading, arrays, binary_mask, examine_mask, nifti

FORMATS = (*sorted(SUFFIXES), *nifti.SUFFIXES, *arrays.SUFFIXES)


def read_external_mask(path: Path, axes: str = nifti.AFFINE) -> NDArray[np.bool_]:
    """Reads a mask: (H, W) bool, true in the foreground.

    Args:
        axes: how the axes of NIfTI files are meant, one of `nifti.AXES`.

    Raises:
        UserError: damaged, a volume, several arrays, more than two values, probabilities, or nibabel is missing.
    """
    return examine_external_mask(path, axes).mask


def examine_external_mask(path: Path, axes: str = nifti.AFFINE) -> MaskReading:
    """As `read_external_mask`, with what is to be said of the reading."""
    suffix = suffix_of(path)
    if suffix in SUFFIXES:
        return examine_mask(path)
    plane = nifti.read_plane(path, axes) if suffix in nifti.SUFFIXES else arrays.read_array(path)
    return MaskReading(plane.astype(bool) if plane.dtype == bool else binary_mask(plane, path))


def suffix_of(path: Path) -> str:
    """The suffix, in lower case, that says how to read the file; "" where it is none of `FORMATS`."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if name.endswith(suffix)), "")

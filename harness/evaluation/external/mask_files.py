"""A binary mask from any file that segmentation tools write.

| suffix | what is read |
|---|---|
| .png .bmp .tif .tiff | 0 and 1, 0 and 255, 0 and 65535, 1-bit, black and white (see harness/data/reading/mask.py) |
| .nii .nii.gz | one slice; the first axis is the image's columns (x), the second its rows (y), as SimpleITK and nnU-Net write pictures. The affine is not applied |
| .npz .npy | one array (rows, columns), bool or 0 and 1 or 0 and 255; of several in an .npz the one called mask, masks, segmentation or prediction |

Axes of length 1 are dropped. Labels beyond background and foreground are refused: which of them is the object is not
ours to guess. So are probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.reading import binary_mask, read_mask
from harness.errors import UserError

_ARRAY_NAMES = ("mask", "masks", "segmentation", "prediction")


def read_external_mask(path: Path) -> NDArray[np.bool_]:
    """Reads a mask: (H, W) bool, true in the foreground.

    Raises:
        UserError: damaged, a volume, several arrays, more than two values, probabilities, or nibabel is missing.
    """
    return _READERS[suffix_of(path)](path)


def suffix_of(path: Path) -> str:
    """The suffix, in lower case, that says how to read the file; "" where it is none of `FORMATS`."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(FORMATS, key=len, reverse=True) if name.endswith(suffix)), "")


def _read_nifti(path: Path) -> NDArray[np.bool_]:
    try:
        import nibabel
    except ImportError as error:
        raise UserError(
            f"{path}: NIfTI files are read by nibabel, which is not installed: pip install 'delightsam-bench[nifti]'."
        ) from error
    try:
        values = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    except Exception as error:  # nibabel raises almost anything on damaged files
        raise UserError(f"{path}: expected a NIfTI image, found a damaged file ({error}). Write it again.") from error
    return binary_mask(np.ascontiguousarray(_plane(values, path).T), path)


def _read_npz(path: Path) -> NDArray[np.bool_]:
    return _from_array(_loaded(path, _array_of_npz), path)


def _read_npy(path: Path) -> NDArray[np.bool_]:
    return _from_array(_loaded(path, lambda file: np.load(file, allow_pickle=False)), path)


def _loaded(path: Path, load: Callable[[Path], NDArray[np.generic]]) -> NDArray[np.generic]:
    try:
        return load(path)
    except UserError:
        raise
    except Exception as error:  # zip, header and pickle errors of NumPy
        raise UserError(f"{path}: expected an array as numpy.savez or numpy.save write it ({error}).") from error


def _array_of_npz(path: Path) -> NDArray[np.generic]:
    with np.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
        chosen = names if len(names) == 1 else [name for name in _ARRAY_NAMES if name in names]
        if len(chosen) != 1:
            raise UserError(
                f"{path}: expected one array, or one of several called {', '.join(_ARRAY_NAMES)};"
                f" found {', '.join(names) or 'none'}."
            )
        return np.asarray(arrays[chosen[0]])


def _from_array(values: NDArray[np.generic], path: Path) -> NDArray[np.bool_]:
    plane = _plane(values, path)
    return plane.astype(bool) if plane.dtype == bool else binary_mask(plane, path)


def _plane(values: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """The array without axes of length 1, as long as it has more than two."""
    shape = list(values.shape)
    while len(shape) > 2 and 1 in shape:
        # From the ends: an image one pixel wide keeps its width.
        shape.pop(0 if shape[0] == 1 else len(shape) - 1 - shape[::-1].index(1))
    if len(shape) != 2:
        raise UserError(
            f"{path}: expected one mask of two axes, found an array of shape {values.shape}."
            " Save every slice as a file of its own, named as its image; several classes are no binary mask."
        )
    if values.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: expected numbers, found an array of {values.dtype}. Save the mask as bool or as 0 and 1."
        )
    return values.reshape(shape)


_READERS: dict[str, Callable[[Path], NDArray[np.bool_]]] = {
    **dict.fromkeys((".png", ".bmp", ".tif", ".tiff"), read_mask),
    **dict.fromkeys((".nii", ".nii.gz"), _read_nifti),
    ".npz": _read_npz,
    ".npy": _read_npy,
}
FORMATS = tuple(_READERS)

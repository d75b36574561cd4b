"""Images and masks as arrays in files of NumPy and MATLAB: one plane, whose size is known before it is read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.reading.picture import MOST_PIXELS
from harness.errors import UserError

MASK_NAMES = ("mask", "masks", "segmentation", "prediction")
IMAGE_NAMES = ("image", "images", "img", "data")
_MOST_BYTES = 8 * MOST_PIXELS
"""Of an array: a small file may claim, or unpack to, any size."""


def read_array(path: Path) -> NDArray[Any]:
    """The one plane (rows, columns) in a file of one of `SUFFIXES`.

    Raises:
        UserError: damaged, several arrays or planes, no numbers, or too large.
    """
    return plane_of(load_array(path), path)


def load_array(path: Path, names: Sequence[str] = MASK_NAMES) -> NDArray[Any]:
    """The one array in a file of one of `SUFFIXES`, of any shape; of several the one with one of the `names`."""
    return _loaded(path, partial(_LOADERS[path.suffix.lower()], names=names))


def _loaded(path: Path, load: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    try:
        return load(path)
    except UserError:
        raise
    except Exception as error:  # zip, header and pickle errors of NumPy and SciPy
        message = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: expected an array as numpy.savez, numpy.save or MATLAB's save -v7 write it ({message})."
        ) from error


def _load_npy(path: Path, names: Sequence[str]) -> NDArray[Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = reader(file)
        _check_bytes(path, math.prod(shape) * kind.itemsize)
    return np.asarray(np.load(path, allow_pickle=False))


def _load_npz(path: Path, names: Sequence[str]) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    chosen = _chosen(path, sizes, names)
    _check_bytes(path, sizes[chosen])
    with np.load(path, allow_pickle=False) as arrays:
        return np.asarray(arrays[chosen])


def _load_mat(path: Path, names: Sequence[str]) -> NDArray[Any]:
    from scipy.io import loadmat, whosmat

    try:
        found = {name: math.prod(shape) * 8 for name, shape, _ in whosmat(path)}
        chosen = _chosen(path, found, names)
        _check_bytes(path, found[chosen])
        return np.asarray(loadmat(path, variable_names=[chosen])[chosen])
    except NotImplementedError as error:
        raise UserError(f"{path}: found a MATLAB file of version 7.3. Save it with save(..., '-v7').") from error


def _chosen(path: Path, arrays: Mapping[str, int], known: Sequence[str]) -> str:
    names = list(arrays)
    chosen = names if len(names) == 1 else [name for name in known if name in names]
    if len(chosen) != 1:
        raise UserError(
            f"{path}: expected one array, or one of several called {', '.join(known)};"
            f" found {', '.join(names[:20]) or 'none'}."
        )
    return chosen[0]


def _check_bytes(path: Path, size: int) -> None:
    if size > _MOST_BYTES:
        raise UserError(f"{path}: expected one picture, found an array of {size / 2**30:.1f} GiB.")


def plane_of(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array without axes of length 1, as long as it has more than two."""
    shape = list(values.shape)
    while len(shape) > 2 and 1 in shape:
        # From the ends: an image one pixel wide keeps its width.
        shape.pop(0 if shape[0] == 1 else len(shape) - 1 - shape[::-1].index(1))
    if len(shape) != 2 or 0 in shape:
        raise UserError(
            f"{path}: expected one mask of two axes, found an array of shape {values.shape}."
            " Save every slice as a file of its own, named as its image; several classes are no binary mask."
        )
    if values.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: expected numbers, found an array of {values.dtype}. Save the mask as bool or as 0 and 1."
        )
    return values.reshape(shape)


_LOADERS: dict[str, Callable[..., NDArray[Any]]] = {".npz": _load_npz, ".npy": _load_npy, ".mat": _load_mat}
SUFFIXES = tuple(_LOADERS)

"""The mask of a pair from what was downloaded: one file or several, pictures, arrays or outlines.

A recipe's `foreground` says what the object is where a mask is not plainly black and white (`harness/data/reading/mask.py`):

    nonzero        everything but 0: label images, one number for each nucleus
    > 127          grey values above (JPEG masks, averages of several readers);  also `< 128`
    = 0, 128       these grey values: cup and disc in one picture
    rgb 255 0 0    this colour
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.reading import SUFFIXES, arrays, examine_mask, nifti
from harness.data.reading.picture import MOST_PIXELS, decode
from harness.data.sources.outlines import read_outlines
from harness.errors import UserError

_LOSSY = (".jpg", ".jpeg", ".webp")
PORTABLE = (".ppm", ".pgm", ".pnm")
FOREGROUND = re.compile(
    r"(?P<sign>[<>=])\s*(?P<numbers>\d+(?:\s*,\s*\d+)*)|rgb\s+(?P<rgb>\d+\s+\d+\s+\d+)|(?P<any>nonzero)"
)


def union_of(
    files: Sequence[Path], size: tuple[int, int], *, foreground: str | None, masks_as: str, image_name: str
) -> NDArray[np.bool_]:
    """The mask of a pair: everything that is foreground in one of its files.

    Args:
        files: of one size each; pictures, arrays, NIfTI, or outlines where `masks_as` names their format.
        size: (height, width) of the image, which outlines are drawn on.
        foreground: see the top of this file; None: black and white.
        image_name: the image's file name, by which a file with outlines of many images knows it.

    Returns:
        (H, W) bool, of the files' own size.

    Raises:
        UserError: a file that can't be read, or files of different sizes.
    """
    mask: NDArray[np.bool_] | None = None
    for file in files:
        part = read_outlines(file, masks_as, size, image_name) if masks_as else read_part(file, foreground)
        if mask is None:
            mask = part
        elif mask.shape != part.shape:
            raise UserError(
                f"{file}: expected masks of one image to have one size, found {part.shape[::-1]} beside {mask.shape[::-1]}."
            )
        else:
            mask |= part
    assert mask is not None
    return mask


def read_part(file: Path, foreground: str | None) -> NDArray[np.bool_]:
    """One mask file (H, W) bool, by the rule that says what is foreground."""
    suffix = _array_suffix(file)
    if not suffix and foreground is None and file.suffix.lower() in SUFFIXES:
        return examine_mask(file).mask.copy()
    values = _values(file, suffix)
    if foreground is None:
        found = np.unique(values)
        if len(found) > 2 or (len(found) == 2 and found[0] != 0):
            shown = ", ".join(f"{value:g}" for value in found[:8])
            raise UserError(
                f"{file}: expected a binary mask, found the values {shown}{' and more' if len(found) > 8 else ''}."
                " Say which of them are the object."
            )
        foreground = "nonzero"
    return _where(values, foreground, file)


def _array_suffix(file: Path) -> str:
    """The suffix of a file that holds an array, "" of a picture."""
    return next((end for end in (*nifti.SUFFIXES, *arrays.SUFFIXES) if file.name.lower().endswith(end)), "")


def _values(file: Path, suffix: str) -> NDArray[Any]:
    """(H, W) or (H, W, 3)."""
    if suffix in nifti.SUFFIXES:
        return read_upright_nifti(file)
    if suffix:
        return arrays.read_array(file)
    if file.suffix.lower() in PORTABLE:
        return read_portable(file)
    return decode(file, "mask").values


def values_in(file: Path) -> list[float]:
    """The different values of a mask file, sorted; of colours the largest channel counts.

    Raises:
        UserError: it can't be read.
    """
    values = _values(file, _array_suffix(file))
    return [float(value) for value in np.unique(values.max(axis=2) if values.ndim == 3 else values)]


def read_portable(path: Path) -> NDArray[Any]:
    """PPM and PGM as (H, W, 3) uint8; a grey one of more bits as (H, W) uint16, whose white is 65535.

    Raises:
        UserError: damaged or too large.
    """
    try:
        with Image.open(path, formats=("PPM",)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{path}: expected at most {MOST_PIXELS // 1_000_000} million pixels.")
            if image.mode.startswith("I"):  # scaled to 16 bits by Pillow; its conversion to RGB would cut at 255
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: expected a PPM or PGM picture ({message}).") from error


def read_upright_nifti(file: Path) -> NDArray[Any]:
    """The plane of a NIfTI file, (rows, columns); a file that does not say where its axes run is read as SimpleITK writes pictures."""
    try:
        return nifti.read_plane(file, nifti.AFFINE)
    except nifti.UnknownAxes:
        return nifti.read_plane(file, "columns_rows")


def _where(values: NDArray[Any], foreground: str, file: Path) -> NDArray[np.bool_]:
    rule = FOREGROUND.fullmatch(foreground)
    assert rule is not None, foreground
    if rule["rgb"]:
        colour = [int(number) for number in rule["rgb"].split()]
        if values.ndim == 2:
            values = np.repeat(values[..., None], 3, axis=2)
        return np.asarray((values == colour).all(axis=2))
    if rule["any"]:
        return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)
    if values.ndim == 3:
        if rule["sign"] == "=" and not (values == values[..., :1]).all():
            raise UserError(f"{file}: expected a grey mask, found colours.")
        values = values.max(axis=2) if rule["sign"] != "=" else values[..., 0]
    numbers = [int(number) for number in rule["numbers"].split(",")]
    if rule["sign"] == "=":
        return np.isin(values, numbers)
    if rule["sign"] == ">" and numbers[0] > 1 and values.max() == 1 and file.suffix.lower() not in _LOSSY:
        raise UserError(
            f"{file}: expected grey values above {numbers[0]}, found 0 and 1 only, of which none would be left."
        )
    return np.asarray(values > numbers[0] if rule["sign"] == ">" else values < numbers[0])

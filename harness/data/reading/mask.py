"""Binary masks, by what a pixel shows.

| what the file shows | foreground |
|---|---|
| two values: 0 and 1, 0 and 255, 0 and 65535 (of any bit depth), black and white, a single one of them | the one that is not 0 |
| black and one colour, whatever their order in a palette | the colour; it is said |
| a transparent ground and one opaque value that is not black | the opaque pixels; it is said |
| JPEG or lossy WebP, all values near black or white | the ones near white; it is said |

Everything else is refused by name: more values, two colours without black, partial transparency, a lossy mask with values
in between. A palette's index is never the foreground by itself: programs sort palettes as they like.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.reading.picture import Picture, decode
from harness.errors import UserError

_MAXIMA = (1, 255, 65535)
_SHOWN_VALUES = 8
_DARK, _BRIGHT = 63, 192
"""A lossy mask is clear where no value lies between these."""
_GREY_SPREAD = 24
"""Up to so many levels, the channels of a lossy mask differ by its compression."""
_SAVE_AS = "Save it as one channel with 0 for background and 255 for foreground."


class NotBinary(UserError):
    """A mask that can be read, with more values than background and foreground, or with colours."""


class LossyMask(NotBinary):
    """A mask in a file whose compression changes values, too much to be recovered."""


@dataclass(frozen=True)
class MaskReading:
    """A mask (H, W) bool, true in the foreground.

    Attributes:
        notes: what a person should know of how it was read; empty for an ordinary mask.
        orientation: its EXIF tag, 1 to 8; it is applied.
    """

    mask: NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    orientation: int = 1


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Reads a binary mask by the rules at the top of this file.

    Returns:
        (H, W) bool, true in the foreground.

    Raises:
        NotBinary: the mask has other values (they are named) or colours, or was compressed beyond recovery.
        UserError: the file is missing, damaged, truncated, holds several pictures, or the mask has transparency.
    """
    return examine_mask(path).mask


def examine_mask(path: Path) -> MaskReading:
    """As `read_mask`, with what is to be said of the reading."""
    picture = decode(path, "mask")
    mask, notes = _foreground(picture, path)
    return MaskReading(mask, tuple(notes), picture.orientation)


def _foreground(picture: Picture, path: Path) -> tuple[NDArray[np.bool_], list[str]]:
    alpha = picture.alpha
    notes = []
    if alpha is not None:
        low, high = int(alpha.min()), int(alpha.max())
        if low != high:
            return _by_transparency(picture, path)
        if high == 0:
            raise UserError(f"{path}: expected a mask, found one that is transparent everywhere. {_SAVE_AS}")
        if high < 255:
            notes.append(f"the whole mask is half-transparent (alpha {high}); it is read as if it were opaque.")
    if picture.lossy:
        mask, note = _recovered(picture.values, path)
        return mask, [*notes, note]
    values = picture.values
    if values.ndim == 3 and not (values == values[..., :1]).all():
        mask, note = _colour_on_black(values, path)
        return mask, [*notes, note]
    grey = values if values.ndim == 2 else values[..., 0]
    mask = binary_mask(grey, path, unit=picture.unit, white=picture.white)
    if picture.indices is not None:
        notes += _palette_notes(picture.indices, mask, path)
    return mask, notes


def _by_transparency(picture: Picture, path: Path) -> tuple[NDArray[np.bool_], list[str]]:
    assert picture.alpha is not None
    opaque = picture.alpha == 255
    values = picture.values if picture.values.ndim == 3 else picture.values[..., None]
    shown = np.unique(values[opaque], axis=0)
    if not np.isin(picture.alpha, (0, 255)).all() or picture.lossy or len(shown) != 1 or not shown.any():
        low, high = int(picture.alpha.min()), int(picture.alpha.max())
        raise UserError(
            f"{path}: expected a mask without transparency, found alpha values from {low} to {high}. {_SAVE_AS}"
        )
    return opaque, ["the ground is transparent; the opaque pixels are read as foreground."]


def _colour_on_black(values: NDArray[Any], path: Path) -> tuple[NDArray[np.bool_], str]:
    mask = values.any(axis=2)
    others = np.unique(values[mask], axis=0)
    if len(others) != 1 or mask.all():
        raise NotBinary(
            f"{path}: expected a mask with one channel or equal channels, found colours"
            f" ({_colours(np.unique(values.reshape(-1, 3), axis=0))}). {_SAVE_AS}"
        )
    return np.asarray(mask), f"the mask has a colour ({_colours(others)}) on black; the colour is read as foreground."


def _colours(found: NDArray[Any]) -> str:
    shown = ", ".join(f"rgb {r} {g} {b}" for r, g, b in found[:3].tolist())
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _recovered(values: NDArray[Any], path: Path) -> tuple[NDArray[np.bool_], str]:
    """The mask that a lossy file was made of, where its values leave no doubt."""
    if values.ndim == 3:
        if int((values.max(axis=2) - values.min(axis=2)).max()) > _GREY_SPREAD:
            raise LossyMask(f"{path}: expected a mask without colours, found colours in a lossy file. {_SAVE_AS}")
        values = values[..., 1]
    high = int(values.max())
    between = int(((values > _DARK) & (values < _BRIGHT)).sum())
    if between or 0 < high < _BRIGHT:
        found = f"{between} pixels between {_DARK} and {_BRIGHT}" if between else f"no value above {high}"
        raise LossyMask(
            f"{path}: expected a binary mask, found a file whose compression changes values (JPEG or lossy WebP), with "
            f"{found}. Threshold it where its source says, and save it as PNG."
        )
    note = "the file's compression changes values (JPEG or lossy WebP); "
    return values >= _BRIGHT, note + (
        "it is black everywhere, read as an empty mask: a mask of 0 and 1 would look so too. Save masks as PNG."
        if high == 0
        else "every value is near black or near white, which is read as foreground. Save it as PNG."
    )


def _palette_notes(indices: NDArray[np.uint8], mask: NDArray[np.bool_], path: Path) -> list[str]:
    """Where a palette's order says otherwise than its colours."""
    one_value = mask.all() or not mask.any()
    if one_value:
        used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
        if len(used) > 1:
            raise NotBinary(
                f"{path}: expected a mask, found a palette whose entries {', '.join(map(str, used[:_SHOWN_VALUES]))} all"
                f" show the same colour. {_SAVE_AS}"
            )
        return []
    if indices[mask].max() < indices[~mask].min():
        return ["white comes before black in its palette; what is shown counts: white is read as foreground."]
    return []


def binary_mask(values: NDArray[Any], path: Path, *, unit: int = 1, white: int | None = None) -> NDArray[np.bool_]:
    """(H, W) numbers, 0 and one of 1, 255 and 65535, as bool; `path` is named in the error.

    Args:
        unit: what the file's 1 is in `values`, and
        white: what its white is, where that is another number.

    Raises:
        NotBinary: other values.
    """
    if values.dtype == np.uint8:  # far faster than sorting all pixels
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    else:
        found = np.unique(values).tolist()
    if not _is_binary(found, {*_MAXIMA, unit, white or 1}):
        shown = ", ".join(f"{value:g}" for value in found[:_SHOWN_VALUES])
        more = f" and {len(found) - _SHOWN_VALUES} more" if len(found) > _SHOWN_VALUES else ""
        raise NotBinary(
            f"{path}: expected a binary mask (0 and 255, or 0 and 1), found the values {shown}{more}. "
            "Of several labels, keep the one to segment; of probabilities, threshold them. Save it as PNG, 0 and 255."
        )
    return np.asarray(values != 0)


def _is_binary(found: Iterable[float], maxima: Iterable[int]) -> bool:
    """Whether `found` holds only 0 and one of the `maxima`."""
    values = set(found)
    return any(values <= {0, maximum} for maximum in maxima)

"""Reads images and masks of the formats that medical data sets come in, always to the same two forms.

Rules for images, so that a number in a table does not depend on a container:

- EXIF orientation is applied, to images and masks alike. (A mask drawn on the unrotated image then differs in size
  from its image, which is reported, never guessed at.)
- 16-bit grey is scaled by its bit depth, to 8 bits: a maximum below 256 means 8-bit, below 4096 means 12-bit values
  (as from DICOM) in a 16-bit container, else 16-bit. Nothing finer is inferred: stretching each image to its own range
  would be a hidden normalisation. Of 16-bit colour the upper byte is kept (Pillow).
- Alpha that is the same everywhere says nothing and is dropped; otherwise the image is laid on black.
- Palette, CMYK, YCbCr, 1-bit and grey images are converted to RGB. Colour profiles are not applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from harness.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})

_MASK_MAXIMA = (1, 255, 65535)
_SHOWN_VALUES = 8


class NotBinary(UserError):
    """A mask that can be read, with more values than background and foreground, or with colours."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an image as RGB.

    Returns:
        (H, W, 3) uint8, by the rules at the top of this file.

    Raises:
        UserError: the file is missing, damaged, truncated, holds several pictures or real-valued pixels.
    """
    return _to_rgb(_decode(path, "image"), path)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Reads a binary mask: 0 and 255, 0 and 1, 0 and 65535, 1-bit, black and white, or palette entries 0 and 1.

    Returns:
        (H, W) bool, true in the foreground.

    Raises:
        NotBinary: the mask has other values (they are named) or colours.
        UserError: as `read_image`; or the mask has transparency.
    """
    image = _decode(path, "mask")
    if image.mode == "1":
        # Pillow makes bools of byte 255 of them, which code in C takes for 255.
        return np.asarray(image.convert("L")) != 0
    if image.mode == "P":
        return _palette_mask(image, path)
    if image.mode in ("LA", "PA", "RGBA"):
        image = _without_constant_alpha(image, path)
    values = np.asarray(image)
    if values.ndim == 3:
        if not (values == values[..., :1]).all():
            raise NotBinary(
                f"{path}: expected a mask with one channel or equal channels, found colours (mode {image.mode}). "
                "Save it as one channel with 0 for background and 255 for foreground."
            )
        values = values[..., 0]
    return binary_mask(values, path)


def _decode(path: Path, what: str) -> Image.Image:
    """The file's one picture, whole, upright."""
    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            # A camera's MPO file is a JPEG with previews behind it: its first picture is the picture.
            if frames > 1 and image.format != "MPO":
                raise UserError(
                    f"{path}: expected one {what}, found a file with {frames} frames. Save each as a file of its own."
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected {_an(what)}, found no such file. Restore it, or remove its pair.") from error
    except PermissionError as error:
        raise UserError(f"{path}: expected a readable {what}, but permission is denied. Change its mode.") from error
    except Exception as error:  # Pillow raises almost anything on damaged files
        raise UserError(
            f"{path}: expected {_an(what)}, found a damaged or truncated file, or no image at all ({error}). "
            "Restore it from its source, or remove the image, its mask and its line in the manifest."
        ) from error


def _an(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _to_rgb(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        grey = _to_8_bits(np.asarray(image), path)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise UserError(
            f"{path}: expected 8 or 16 bits a channel, found real numbers (32-bit float). "
            "Which values are black and white can't be known: convert it to 8 or 16 bits."
        )
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == alpha.max():
        return np.ascontiguousarray(colours)
    return np.asarray((colours.astype(np.uint16) * alpha + 127) // 255, dtype=np.uint8)


def _to_8_bits(values: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UserError(
            f"{path}: expected grey values from 0 to 65535, found {low} to {high}. "
            "Which values are black and white can't be known: convert it to 8 or 16 bits without sign."
        )
    peak = 255 if high <= 255 else 4095 if high <= 4095 else 65535
    return ((values.astype(np.uint32) * 255 + peak // 2) // peak).astype(np.uint8)


def _without_constant_alpha(image: Image.Image, path: Path) -> Image.Image:
    low, high = image.getchannel("A").getextrema()
    if low != high:
        raise UserError(
            f"{path}: expected a mask without transparency, found alpha values from {low} to {high}. "
            "Save it as one channel with 0 for background and 255 for foreground."
        )
    return image.convert("L" if image.mode == "LA" else "RGB")


def _palette_mask(image: Image.Image, path: Path) -> NDArray[np.bool_]:
    """By colour when the colours are black and white, whatever their order in the palette; else by index."""
    indices = np.asarray(image)
    colours = np.asarray(image.convert("RGB"))
    grey = colours[..., 0]
    if (colours == grey[..., None]).all() and _maximum_of_binary(np.unique(grey).tolist()) is not None:
        return grey > 0
    return binary_mask(indices, path)


def binary_mask(values: NDArray[np.generic], path: Path) -> NDArray[np.bool_]:
    """(H, W) numbers, 0 and one of 1, 255 and 65535, as bool; `path` is named in the error.

    Raises:
        NotBinary: other values.
    """
    if values.dtype == np.uint8:  # far faster than sorting all pixels
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    else:
        found = np.unique(values).tolist()
    if _maximum_of_binary(found) is None:
        shown = ", ".join(f"{value:g}" for value in found[:_SHOWN_VALUES])
        more = f" and {len(found) - _SHOWN_VALUES} more" if len(found) > _SHOWN_VALUES else ""
        raise NotBinary(
            f"{path}: expected a binary mask (0 and 255, or 0 and 1), found the values {shown}{more}. "
            "Threshold it where its source says, and save it as PNG: JPEG blurs a mask's edge."
        )
    return np.asarray(values != 0)


def _maximum_of_binary(found: Iterable[float]) -> int | None:
    """The foreground's value when `found` holds only it and 0, else nothing."""
    values = set(found)
    return next((maximum for maximum in _MASK_MAXIMA if values <= {0, maximum}), None)

"""One picture of any container, as it is shown: upright, black is 0, whatever the photometric sense, palette or depth.

Pillow decodes. It cuts 16-bit colour to its upper byte and knows few kinds of real and signed TIFF, which are read by tifffile; of
16-bit PNG it is asked for both bytes, one after the other. (torchvision's decoder ends the process on damaged files.)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})

MOST_PIXELS = 100_000_000
"""A larger picture is refused before its pixels are decoded: a header may claim any size."""

# Nothing else is opened, whatever a file's suffix: Pillow would start Ghostscript for an EPS.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF")
_LOSSLESS = {"PNG", "BMP", "DIB", "GIF"}
_LOSSLESS_TIFF = {
    "raw", "packbits", "lzma", "zstd", "group3", "group4",
    "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "tiff_ccitt", "tiff_raw_16", "tiff_thunderscan",
}  # fmt: skip

_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262
_WHITE_IS_ZERO = 0

# MOST_PIXELS stands in its place, with an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        values: (H, W) grey or (H, W, 3) RGB; uint8, or wider integers or floats where the file holds more than 8 bits.
        alpha: (H, W) uint8, 255 is opaque; None where the file has no transparency.
        white: the value that the format shows as white; None where it does not tell (16 bits and more, real numbers).
        unit: what the sample value 1 is in `values`: 17 in a 4-bit file, whose 15 is 255.
        indices: (H, W) of a palette file, else None.
        lossy: whether the compression changes values.
        orientation: the EXIF tag, 1 to 8; it is applied to all arrays.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None
    white: int | None
    unit: int
    indices: NDArray[np.uint8] | None
    lossy: bool
    orientation: int


def decode(path: Path, what: str) -> Picture:
    """The file's one picture.

    Args:
        what: `image` or `mask`, for messages.

    Raises:
        UserError: the file is missing, damaged, truncated, too large, no picture, or holds several.
    """
    try:
        return _decode(path, what)
    except UserError:
        raise
    except FileNotFoundError as error:
        found = "a link to nothing" if path.is_symlink() else "no such file"
        raise UserError(f"{path}: expected {_a(what)}, found {found}. Restore it, or remove its pair.") from error
    except PermissionError as error:
        raise UserError(f"{path}: expected a readable {what}, but permission is denied. Change its mode.") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        raise UserError(
            f"{path}: expected {_a(what)}, found a damaged or truncated file, or no image at all ({_one_line(error)}). "
            "Restore it from its source, or remove it; in a dataset also its partner and its line in the manifest."
        ) from error


def turned_unseen(path: Path) -> int:
    """The EXIF orientation of an image where its size does not show it: 2 to 4, or more of a square; else 1.

    By the header alone: that of a PNG may stand behind its pixels, and is not looked for.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            orientation = 1 if image.format == "PNG" else _orientation(image)
            return orientation if orientation < 5 or image.width == image.height else 1
    except Exception:  # as in `decode`, which then says what is wrong
        return 1


def is_deep(path: Path) -> bool:
    """Whether the file may hold more than 8 bits a channel, by its header alone; False for what is no picture."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return (
                image.mode.startswith("I") or image.mode == "F" or ";16" in _raw_mode(image) or image.format == "TIFF"
            )
    except UnidentifiedImageError:
        return path.suffix.lower() in (".tif", ".tiff")
    except Exception:  # as in `decode`, which then says what is wrong
        return False


def _decode(path: Path, what: str) -> Picture:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _from_pillow(image, path, what)
    except UnidentifiedImageError:
        with path.open("rb") as file:
            is_tiff = file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        if not is_tiff:
            raise
        return _from_tifffile(path, what)


def _from_pillow(image: Image.Image, path: Path, what: str) -> Picture:
    _check_size(path, what, *image.size)
    frames = getattr(image, "n_frames", 1)
    # A camera's MPO file is a JPEG with previews behind it: its first picture is the picture.
    if frames > 1 and image.format != "MPO":
        raise UserError(
            f"{path}: expected one {what}, found a file with {frames} frames. Save each as a file of its own."
        )
    raw = _raw_mode(image)
    if ";16" in raw and image.format == "PNG" and not image.mode.startswith("I"):
        return _from_deep_png(image, raw, path, what)
    tags: Any = getattr(image, "tag_v2", {})
    bits = max(tags.get(_BITS, (0,)))
    if bits > 8 and len(tags[_BITS]) > 1:
        return _from_tifffile(path, what)
    orientation, inverted = _orientation(image), tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    lossy = _is_lossy(image, path)
    image.load()
    upright = ImageOps.exif_transpose(image)
    values, alpha, indices = _arrays(upright)
    white: int | None = 255 if values.dtype == np.uint8 else 2**bits - 1 if 8 < bits < 16 else None
    if inverted and values.dtype != np.uint8:  # Pillow turns 8 bits round, and more bits not
        values = _inverted(values, white)
    return Picture(values, alpha, white, _unit(raw, image.mode), indices, lossy, orientation)


def _arrays(image: Image.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Values, alpha and indices."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        transparent = image.info.get("transparency")
        return values, None if transparent is None else np.where(values == transparent, 0, 255).astype(np.uint8), None
    indices = np.asarray(image) if image.mode == "P" else None
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA" if image.mode not in ("L", "LA", "La") else "LA")
        alpha = np.asarray(image.getchannel("A"))
    grey = image.mode in ("1", "L", "LA")
    # Through L: NumPy makes bools of byte 255 of Pillow's 1-bit images, which code in C takes for 255.
    return np.asarray(image.convert("L" if grey else "RGB")), alpha, indices


def _from_deep_png(image: Image.Image, raw: str, path: Path, what: str) -> Picture:
    """16-bit PNG of two to four channels: of each number Pillow keeps the upper byte, and the lower one by the other byte order."""
    if "transparency" in image.info:
        raise UserError(f"{path}: expected {_a(what)} without a transparent colour, found one. Save it without.")
    orientation = _orientation(image)
    if raw == "LA;16B":  # four bytes a pixel, as RGBA of 8 bits has
        four = _bytes_of(path, "RGBA").astype(np.uint16)
        planes = four[..., 0::2] << 8 | four[..., 1::2]
    else:
        planes = _bytes_of(path, raw).astype(np.uint16) << 8 | _bytes_of(path, raw.replace("16B", "16L"))
    return _deep(planes, orientation=orientation)


def _bytes_of(path: Path, raw: str) -> NDArray[np.uint8]:
    """(H, W, channels) of a PNG, its samples unpacked by another of Pillow's raw modes than its own."""
    with Image.open(path, formats=("PNG",)) as image:
        tiles: Any = image
        tiles.tile = [tile._replace(args=raw) for tile in tiles.tile]
        image.load()
        return np.asarray(image)


def _from_tifffile(path: Path, what: str) -> Picture:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if len(file.pages) > 1:
            raise UserError(
                f"{path}: expected one {what}, found a file with {len(file.pages)} frames. Save each as a file of its own."
            )
        page: Any = file.pages[0]
        axes = page.axes.replace("S", "")
        photometric = getattr(page.photometric, "name", "unknown")
        if axes != "YX" or photometric not in ("MINISBLACK", "MINISWHITE", "RGB") or page.dtype is None:
            raise UserError(
                f"{path}: expected grey or RGB pixels, found {photometric} of the axes {page.axes}. Save it as PNG."
            )
        _check_size(path, what, page.imagewidth, page.imagelength)
        try:
            values = page.asarray()
        except (ValueError, ImportError) as error:
            if "imagecodecs" not in str(error):
                raise
            raise UserError(
                f"{path}: found {page.dtype} pixels compressed by {page.compression.name}, which needs a package more: "
                "pip install imagecodecs. Or save it without compression."
            ) from error
        tag = page.tags.get(_ORIENTATION)
    planes = np.moveaxis(values, 0, -1) if page.axes.startswith("S") else values
    planes = planes[..., None] if planes.ndim == 2 else planes
    if planes.dtype.kind == "b" or planes.dtype == np.uint8:
        raise UserError(f"{path}: found an unusual TIFF of 8 bits or fewer ({photometric}). Save it as PNG.")
    orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
    return _deep(planes, orientation=orientation, inverted=photometric == "MINISWHITE")


def _deep(planes: NDArray[Any], *, orientation: int, inverted: bool = False) -> Picture:
    """Of (H, W, channels) with more than 8 bits; the second or fourth channel is the alpha."""
    planes = _upright(planes, orientation)
    channels = planes.shape[2]
    colours, alpha = (planes[..., :3], planes[..., 3:4]) if channels >= 3 else (planes[..., :1], planes[..., 1:2])
    values = colours if channels >= 3 else colours[..., 0]
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if inverted:
        values = _inverted(values)
    opaque = 65535 if planes.dtype == np.uint16 else 1
    shades = None if alpha.size == 0 else np.round(alpha[..., 0].astype(np.float64) * (255 / opaque)).astype(np.uint8)
    return Picture(np.ascontiguousarray(values), shades, None, 1, None, lossy=False, orientation=orientation)


def _inverted(values: NDArray[Any], white: int | None = None) -> NDArray[Any]:
    """Of a file in which 0 is white; real numbers are taken to end at 1, whole ones at 65535."""
    top = 1.0 if values.dtype.kind == "f" else white or 65535
    return np.asarray(top - values.astype(np.float64), values.dtype)


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, channels) turned as the EXIF tag says."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _check_size(path: Path, what: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{path}: expected {_a(what)} of at most {MOST_PIXELS // 1_000_000} million pixels, found {width} x {height}. "
            "Cut it into tiles, or make it smaller."
        )


def _orientation(image: Image.Image) -> int:
    tag = image.getexif().get(_ORIENTATION, 1)
    return int(tag) if tag in range(1, 9) else 1


def _raw_mode(image: Image.Image) -> str:
    """How samples lie in the file, in Pillow's words: `RGB;16B`, `L;4`."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    if isinstance(arguments, tuple):
        arguments = next((part for part in arguments if isinstance(part, str)), "")
    return arguments if isinstance(arguments, str) else ""


def _unit(raw: str, mode: str) -> int:
    bits = next((bits for bits in (1, 2, 4) if mode == "L" and raw.startswith(f"L;{bits}")), 8)
    return 255 // (2**bits - 1)


def _is_lossy(image: Image.Image, path: Path) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression", "raw") not in _LOSSLESS_TIFF
    if image.format == "WEBP":
        with path.open("rb") as file:
            start = file.read(65536)
        return b"VP8L" not in start
    return image.format not in _LOSSLESS


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _one_line(error: Exception) -> str:
    """Without the file's name, which the message has in front, and without line breaks."""
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Writes one mask or image in every container that Pillow, tifffile and nibabel can write, in every depth and polarity."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image

Writer = Callable[[Path, np.ndarray], None]

# As SimpleITK writes pictures: columns to the left, rows to the back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def png16(path: Path, values: np.ndarray) -> None:
    """A 16-bit PNG of (H, W, 1 to 4) values, which Pillow can't write."""
    height, width, channels = values.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def small_png(path: Path, values: np.ndarray, bits: int) -> None:
    """A grey PNG of 1, 2 or 4 bits, whose samples are (H, W) `values`."""
    height, width = values.shape
    per_byte = 8 // bits
    padded = np.zeros((height, -(-width // per_byte) * per_byte), np.uint8)
    padded[:, :width] = values
    packed = np.zeros((height, padded.shape[1] // per_byte), np.uint8)
    for place in range(per_byte):
        packed |= padded[:, place::per_byte] << (8 - bits * (place + 1))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + line.tobytes() for line in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def palette(indices: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    picture = Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette([part for colour in colours for part in colour])
    return picture


def pillow(mode: str, foreground: int = 255, **options: object) -> Writer:
    def write(path: Path, mask: np.ndarray) -> None:
        picture = Image.fromarray(mask.astype(np.uint8) * foreground).convert(mode)
        picture.save(path, **options)

    return write


def deep(dtype: str, foreground: float) -> Writer:
    return lambda path, mask: Image.fromarray((mask * foreground).astype(dtype)).save(path)


def of_palette(ground: tuple[int, int, int], colour: tuple[int, int, int], *, swapped: bool = False) -> Writer:
    def write(path: Path, mask: np.ndarray) -> None:
        picture = palette(~mask if swapped else mask, [colour, ground] if swapped else [ground, colour])
        picture.save(path)

    return write


def tiff(dtype: str, foreground: float, photometric: str = "minisblack", **options: object) -> Writer:
    """By tifffile; what is shown is the mask, whatever the photometric sense."""

    def write(path: Path, mask: np.ndarray) -> None:
        white = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
        values = (mask * foreground).astype(dtype)
        if photometric == "miniswhite":
            values = (white - values.astype(np.float64)).astype(dtype)
        if photometric == "rgb":
            values = np.stack([values] * 3, axis=0 if options.get("planarconfig") == "separate" else -1)
        tifffile.imwrite(path, values, photometric=photometric, **options)

    return write


def png16_of(channels: int, foreground: int) -> Writer:
    def write(path: Path, mask: np.ndarray) -> None:
        values = np.repeat((mask * foreground).astype(np.uint16)[..., None], channels, axis=2)
        if channels in (2, 4):
            values[..., -1] = 65535
        png16(path, values)

    return write


def nifti(dtype: str, foreground: float, flips: tuple[int, int] = (1, 1), swapped: bool = False) -> Writer:
    """With an affine that says how it lies."""

    def write(path: Path, mask: np.ndarray) -> None:
        array = (mask.T[:: flips[0], :: flips[1], None] * foreground).astype(dtype)
        affine = LPS @ np.diag([flips[0] * 0.5, flips[1] * 0.7, 2.0, 1.0])
        if swapped:
            array, affine = array.swapaxes(0, 1), affine[:, [1, 0, 2, 3]]
        nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), path)

    return write


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)

MASKS: dict[str, tuple[str, Writer]] = {
    **{f"png {mode} {top}": ("png", pillow(mode, top)) for mode in ("L", "LA", "RGB", "RGBA") for top in (1, 255)},
    **{f"bmp {mode}": ("bmp", pillow(mode)) for mode in ("1", "L", "RGB")},
    **{f"tiff {mode}": ("tif", pillow(mode)) for mode in ("1", "L", "LA", "RGB", "RGBA", "CMYK")},
    **{
        f"tiff L {name}": ("tif", pillow("L", compression=name))
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    },
    "tiff 1 group4": ("tif", pillow("1", compression="group4")),
    "png 1": ("png", pillow("1")),
    "gif": ("gif", pillow("L")),
    "webp lossless": ("webp", pillow("RGB", lossless=True)),
    **{f"webp {quality}": ("webp", pillow("RGB", quality=quality)) for quality in (50, 80, 100)},
    **{f"jpeg {quality}": ("jpg", pillow("L", quality=quality)) for quality in (20, 60, 95)},
    **{f"jpeg colour {quality}": ("jpg", pillow("RGB", quality=quality)) for quality in (20, 60, 95)},
    "jpeg cmyk": ("jpg", pillow("CMYK", quality=95)),
    **{f"png 16 bits {top}": ("png", deep("uint16", top)) for top in (1, 255, 65535)},
    **{f"tiff 16 bits {top}": ("tif", deep("uint16", top)) for top in (1, 255, 65535)},
    **{f"tiff int32 {top}": ("tif", deep("int32", top)) for top in (1, 255)},
    **{f"tiff float {top}": ("tif", deep("float32", top)) for top in (1.0, 255.0)},
    **{
        f"png 16 bits, {channels} channels {top}": ("png", png16_of(channels, top))
        for channels in (2, 3, 4)
        for top in (1, 255, 65535)
    },
    **{
        f"png {bits} bits {top}": (
            "png",
            lambda path, mask, bits=bits, top=top: small_png(path, mask * np.uint8(top), bits),
        )
        for bits in (1, 2, 4)
        for top in (1, 2**bits - 1)
    },
    "palette black, white": ("png", of_palette(BLACK, WHITE)),
    "palette white, black": ("png", of_palette(BLACK, WHITE, swapped=True)),
    "palette black, red": ("png", of_palette(BLACK, RED)),
    "palette red, black": ("png", of_palette(BLACK, RED, swapped=True)),
    "palette 0 0 0, 1 1 1": ("png", of_palette(BLACK, (1, 1, 1))),
    "gif palette red, black": ("gif", of_palette(BLACK, RED, swapped=True)),
    "bmp palette white, black": ("bmp", of_palette(BLACK, WHITE, swapped=True)),
    **{
        f"tifffile {dtype} {sense}": ("tif", tiff(dtype, 1 if "float" in dtype else np.iinfo(dtype).max, sense))
        for dtype in ("uint8", "uint16", "int16", "uint32", "float16", "float32", "float64")
        for sense in ("minisblack", "miniswhite", "rgb")
    },
    "tifffile uint16 1": ("tif", tiff("uint16", 1)),
    "tifffile uint16 rgb 255": ("tif", tiff("uint16", 255, "rgb")),
    "tifffile uint16 rgb planes": ("tif", tiff("uint16", 65535, "rgb", planarconfig="separate")),
    "tifffile uint16 rgb zlib": ("tif", tiff("uint16", 65535, "rgb", compression="zlib")),
    "tifffile bool": ("tif", tiff("bool", 1)),
    "tifffile bigtiff": ("tif", tiff("uint8", 255, bigtiff=True)),
    "tifffile tiled": ("tif", tiff("uint8", 255, tile=(16, 16))),
}

NIFTI: dict[str, Writer] = {
    **{f"nifti {dtype}": nifti(dtype, 1) for dtype in ("uint8", "int16", "int32", "float32", "float64")},
    "nifti 255": nifti("uint8", 255),
    "nifti, columns backwards": nifti("uint8", 1, (-1, 1)),
    "nifti, rows backwards": nifti("uint8", 1, (1, -1)),
    "nifti, RAS+": nifti("uint8", 1, (-1, -1)),
    "nifti, axes swapped": nifti("uint8", 1, (1, 1), swapped=True),
    "nifti, axes swapped, RAS+": nifti("uint8", 1, (-1, -1), swapped=True),
}


def _grey(image: np.ndarray) -> np.ndarray:
    return image[..., 0]


# What is written shows (H, W, 3) uint8; `grey`: the first channel for all three. The last number is the white level to read by.
IMAGES: dict[str, tuple[str, bool, Writer, float | None]] = {
    "png rgb": ("png", False, lambda path, image: Image.fromarray(image).save(path), None),
    "png rgba, opaque": ("png", False, lambda path, image: Image.fromarray(image).convert("RGBA").save(path), None),
    "png grey": ("png", True, lambda path, image: Image.fromarray(_grey(image)).save(path), None),
    "png grey, alpha": ("png", True, lambda path, image: Image.fromarray(_grey(image)).convert("LA").save(path), None),
    "png palette": ("png", True, lambda path, image: Image.fromarray(_grey(image)).convert("P").save(path), None),
    "gif": ("gif", True, lambda path, image: Image.fromarray(_grey(image)).save(path), None),
    "bmp": ("bmp", False, lambda path, image: Image.fromarray(image).save(path), None),
    "webp lossless": ("webp", False, lambda path, image: Image.fromarray(image).save(path, lossless=True), None),
    "tiff": ("tif", False, lambda path, image: Image.fromarray(image).save(path), None),
    "tiff lzw": ("tif", False, lambda path, image: Image.fromarray(image).save(path, compression="tiff_lzw"), None),
    "tiff cmyk": ("tif", False, lambda path, image: Image.fromarray(image).convert("CMYK").save(path), None),
    "png 16 bits": ("png", True, lambda path, image: png16(path, _grey(image)[..., None].astype(np.uint16) * 257), None),
    "png 16 bits rgb": ("png", False, lambda path, image: png16(path, image.astype(np.uint16) * 257), None),
    "png 12 in 16 bits": (
        "png", True, lambda path, image: png16(path, np.round(_grey(image)[..., None] * (4095 / 255)).astype(np.uint16)), 4095,
    ),
    "png 12 in 16 bits rgb": (
        "png", False, lambda path, image: png16(path, np.round(image * (4095 / 255)).astype(np.uint16)), 4095,
    ),
    "png 8 in 16 bits rgb": ("png", False, lambda path, image: png16(path, image.astype(np.uint16)), 255),
    "tiff 16 bits rgb": (
        "tif", False, lambda path, image: tifffile.imwrite(path, image.astype(np.uint16) * 257, photometric="rgb"), None,
    ),
    "tiff 16 bits, white is 0": (
        "tif", True,
        lambda path, image: tifffile.imwrite(path, 65535 - _grey(image).astype(np.uint16) * 257, photometric="miniswhite"), None,
    ),
    "tiff 8 bits, white is 0": (
        "tif", True, lambda path, image: tifffile.imwrite(path, 255 - _grey(image), photometric="miniswhite"), None,
    ),
    "tiff float": ("tif", True, lambda path, image: tifffile.imwrite(path, (_grey(image) / 255).astype(np.float32)), 1),
    "tiff double rgb": ("tif", False, lambda path, image: tifffile.imwrite(path, image / 255, photometric="rgb"), 1),
    "tiff int32": ("tif", True, lambda path, image: Image.fromarray(_grey(image).astype(np.int32)).save(path), 255),
}  # fmt: skip

"""The image of a pair from what was downloaded, as the canonical folder keeps it.

PNG, JPEG, TIFF and WebP are kept byte for byte. Everything else becomes PNG without loss: of 8 bits where the format
defines what is white, else of 16 bits (or TIFF of real numbers). Then the white level is given separately, as
`harness/data/reading/image.py` expects it.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.reading import arrays, nifti
from harness.data.reading.image import to_rgb
from harness.data.reading.picture import MOST_PIXELS, decode
from harness.data.sources.masks import PORTABLE, read_portable, read_upright_nifti
from harness.errors import UserError

KEPT = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
CONVERTED = (".bmp", ".gif", *PORTABLE, ".dcm", ".img", *nifti.SUFFIXES, *arrays.SUFFIXES)
SUFFIXES = (*KEPT, *CONVERTED)
_JSRT_SIDE, _JSRT_WHITE = 2048, 4095
_WHITE_16 = 65535.0
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class SourceImage:
    """An image ready to be written.

    Attributes:
        size: (height, width), upright.
        pixels: (H, W) or (H, W, 3) to be written; None: the file is kept as it is.
        white: the value that is white, where the written file will not tell and the source does.
    """

    size: tuple[int, int]
    pixels: NDArray[Any] | None
    white: float | None = None


def gunzipped(path: Path) -> Path:
    """The file without the layer of gzip around a single picture; the file itself where there is none.

    Raises:
        UserError: damaged, or larger than any picture.
    """
    if path.suffix.lower() != ".gz" or path.name.lower().endswith(".nii.gz"):
        return path
    plain = path.with_suffix("")
    try:
        with gzip.open(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise UserError(f"{path}: expected a gzip file, found a damaged one ({error}). Download it again.") from error
    if len(content) > _MOST_BYTES:
        raise UserError(f"{path}: refused: it unpacks to more than {_MOST_BYTES >> 30} GiB.")
    plain.write_bytes(content)
    return plain


def read_source_image(path: Path) -> SourceImage:
    """Reads the image in any container.

    Raises:
        UserError: damaged, of an unknown kind, several slices or frames, or a reader that is not installed.
    """
    name = path.name.lower()
    suffix = next((end for end in SUFFIXES if name.endswith(end)), None)
    if suffix is None:
        raise UserError(f"{path}: expected an image ({', '.join(SUFFIXES)}).")
    if suffix in KEPT:
        picture = decode(path, "image")
        if picture.orientation != 1 and picture.white is not None:  # upright, so that it lies as its mask does
            return _of(to_rgb(picture, path))
        return SourceImage((picture.values.shape[0], picture.values.shape[1]), None)
    if suffix in (".bmp", ".gif"):
        return _of(to_rgb(decode(path, "image"), path))
    if suffix in PORTABLE:
        values = read_portable(path)
        return _of(values, _WHITE_16 if values.ndim == 2 else None)
    if suffix == ".dcm":
        return _dicom(path)
    if suffix == ".img":
        return _jsrt(path)
    if suffix in nifti.SUFFIXES:
        return _plain(read_upright_nifti(path), path)
    values = arrays.load_array(path, arrays.IMAGE_NAMES)
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
        return _of(values)
    return _plain(arrays.plane_of(values, path), path)


def _of(pixels: NDArray[Any], white: float | None = None) -> SourceImage:
    return SourceImage((pixels.shape[0], pixels.shape[1]), pixels, white)


def _plain(values: NDArray[Any], path: Path) -> SourceImage:
    """Numbers of which no format says what is white: as many bits as they need, scaled by nothing."""
    if values.dtype == np.uint8:
        return _of(values)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise UserError(
            f"{path}: expected numbers from 0 up, found {low:g} to {high:g}. Which value is black can't be known: convert it."
        )
    whole = values.dtype.kind in "biu" or bool((values == np.floor(values)).all() and high > 1)
    if whole and high <= 65535:
        return _of(values.astype(np.uint16))
    return _of(values.astype(np.float32))


def _jsrt(path: Path) -> SourceImage:
    """The headerless files of JSRT: 2048 x 2048, big-endian, 12 bits, white is 0."""
    content = path.read_bytes()
    if len(content) != 2 * _JSRT_SIDE**2:
        raise UserError(
            f"{path}: expected {2 * _JSRT_SIDE**2} bytes, as the .IMG files of JSRT have, found {len(content)}."
        )
    values = np.frombuffer(content, ">u2").reshape(_JSRT_SIDE, _JSRT_SIDE)
    if values.max() > _JSRT_WHITE:
        raise UserError(f"{path}: expected 12 bits, as the .IMG files of JSRT have, found the value {values.max()}.")
    return _of((_JSRT_WHITE - values).astype(np.uint16), _JSRT_WHITE)


def _dicom(path: Path) -> SourceImage:
    """One frame of DICOM; the white level is that of its stored bits."""
    try:
        import pydicom
    except ImportError as error:
        raise UserError(
            f"{path}: DICOM is read by pydicom, which is not installed: pip install 'delightsam-bench[prepare]'."
        ) from error
    try:
        dataset = pydicom.dcmread(path)
        if int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1) > MOST_PIXELS:
            raise UserError(f"{path}: expected one image of at most {MOST_PIXELS // 1_000_000} million pixels.")
        values, bits = np.asarray(dataset.pixel_array), int(dataset.BitsStored)
        sense = str(dataset.PhotometricInterpretation)
    except UserError:
        raise
    except Exception as error:  # pydicom raises almost anything on damaged files, or for want of a decoder
        raise UserError(f"{path}: expected a DICOM image ({' '.join(str(error).split())[:200]}).") from error
    if sense == "RGB" and values.ndim == 3 and values.dtype == np.uint8:
        return _of(values)
    if values.ndim != 2 or not sense.startswith("MONOCHROME") or values.min() < 0:
        raise UserError(
            f"{path}: expected one grey or RGB image without negative values, found {sense} {values.shape}."
        )
    white = 2**bits - 1
    upright = white - values if sense == "MONOCHROME1" else values
    return _of(upright.astype(np.uint8 if bits <= 8 else np.uint16), None if bits == 8 else float(white))

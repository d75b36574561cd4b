"""The image of a pair, out of every container that people bring: the pixels, and what is white."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import scipy.io
from PIL import Image

from harness.data.sources import images
from harness.data.sources.images import KEPT, gunzipped, read_source_image
from harness.errors import UserError

H, W = 6, 9
GREY = (np.arange(H * W).reshape(H, W) * 4).astype(np.uint8)
COLOURS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
DEEP = GREY.astype(np.uint16) * 16  # 12 bits


def dicom(path: Path, values: np.ndarray, sense: str = "MONOCHROME2", bits: int = 12, **more: Any) -> Path:
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = values.shape[-2:] if values.shape[-1] != 3 else values.shape[:2]
    dataset.SamplesPerPixel = 3 if sense == "RGB" else 1
    if sense == "RGB":
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = sense
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in more.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def pgm(path: Path, values: np.ndarray, white: int) -> Path:
    path.write_bytes(f"P5 {values.shape[1]} {values.shape[0]} {white}\n".encode() + values.astype(">u2").tobytes())
    return path


def saved(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def nifti(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return path


def numpy_file(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def matlab(path: Path, values: np.ndarray) -> Path:
    scipy.io.savemat(path, {"image": values})
    return path


READ: dict[str, tuple[Callable[[Path], Path], np.ndarray, float | None]] = {
    "bmp": (lambda root: saved(root / "a.bmp", COLOURS), COLOURS, None),
    "gif": (lambda root: saved(root / "a.gif", GREY), np.stack([GREY] * 3, 2), None),
    "ppm": (lambda root: saved(root / "a.ppm", COLOURS), COLOURS, None),
    "pgm": (lambda root: saved(root / "a.pgm", GREY), np.stack([GREY] * 3, 2), None),
    "pgm of 16 bits": (lambda root: pgm(root / "a.pgm", DEEP, 65535), DEEP, 65535),
    "dicom of 12 bits": (lambda root: dicom(root / "a.dcm", DEEP), DEEP, 4095),
    "dicom, white is 0": (lambda root: dicom(root / "a.dcm", DEEP, "MONOCHROME1"), 4095 - DEEP, 4095),
    "dicom of 8 bits": (lambda root: dicom(root / "a.dcm", GREY, bits=8), GREY, None),
    "dicom in colour": (lambda root: dicom(root / "a.dcm", COLOURS, "RGB", 8), COLOURS, None),
    "nifti": (lambda root: nifti(root / "a.nii.gz", GREY), GREY, None),
    "nifti of more bits": (lambda root: nifti(root / "a.nii", DEEP), DEEP, None),
    "numpy": (lambda root: numpy_file(root / "a.npy", GREY), GREY, None),
    "numpy in colour": (lambda root: numpy_file(root / "a.npy", COLOURS), COLOURS, None),
    "numpy, whole reals": (lambda root: numpy_file(root / "a.npy", DEEP.astype(np.float64)), DEEP, None),
    "numpy, reals": (lambda root: numpy_file(root / "a.npy", GREY / 255), (GREY / 255).astype(np.float32), None),
    "matlab": (lambda root: matlab(root / "a.mat", GREY), GREY, None),
}


@pytest.mark.parametrize("name", READ)
def test_pixels_and_white(name: str, tmp_path: Path) -> None:
    make, expected, white = READ[name]
    found = read_source_image(make(tmp_path))
    assert found.size == (H, W) and found.white == white
    assert found.pixels is not None and found.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(found.pixels, expected)


def test_of_a_scale_of_its_own_white_is_16_bits(tmp_path: Path) -> None:
    """A PGM may say that its white is 4095."""
    found = read_source_image(pgm(tmp_path / "a.pgm", DEEP, 4095))
    assert found.white == 65535 and found.pixels is not None
    np.testing.assert_allclose(found.pixels / 65535, DEEP / 4095, atol=1e-5)


@pytest.mark.parametrize("suffix", KEPT)
def test_pictures_that_the_bench_reads_are_kept_as_they_are(suffix: str, tmp_path: Path) -> None:
    found = read_source_image(saved(tmp_path / f"a{suffix}", COLOURS))
    assert found.size == (H, W) and found.pixels is None and found.white is None


def test_a_turned_photograph_is_written_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOURS)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    found = read_source_image(tmp_path / "a.png")
    assert found.size == (W, H)
    np.testing.assert_array_equal(found.pixels, np.rot90(COLOURS, -1))


def test_the_headerless_files_of_jsrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_JSRT_SIDE", 8)
    values = (np.arange(64).reshape(8, 8) * 65).astype(">u2")
    (tmp_path / "a.IMG").write_bytes(values.tobytes())
    found = read_source_image(tmp_path / "a.IMG")
    assert found.white == 4095 and found.pixels is not None and found.pixels.dtype == np.uint16
    np.testing.assert_array_equal(found.pixels, 4095 - values)
    (tmp_path / "a.IMG").write_bytes(values.tobytes()[2:])
    with pytest.raises(UserError, match=r"expected 128 bytes, as the \.IMG files of JSRT have, found 126"):
        read_source_image(tmp_path / "a.IMG")
    (tmp_path / "a.IMG").write_bytes((values + 1).astype(">u2").tobytes())
    with pytest.raises(UserError, match=r"expected 12 bits, as the \.IMG files of JSRT have, found the value 4096"):
        read_source_image(tmp_path / "a.IMG")


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another kind": (lambda root: numpy_file(root / "a.npy", GREY).rename(root / "a.xyz"), "expected an image"),
    "negative numbers": (lambda root: numpy_file(root / "a.npy", GREY - 1.0), "expected numbers from 0 up, found -1"),
    "not a number": (lambda root: numpy_file(root / "a.npy", np.full((H, W), np.nan)), "expected numbers from 0 up"),
    "several slices": (lambda root: numpy_file(root / "a.npy", np.stack([GREY] * 5)), "of two axes"),
    "several frames": (
        lambda root: dicom(root / "a.dcm", np.stack([DEEP] * 4), NumberOfFrames=4),
        r"found MONOCHROME2 \(4, 6, 9\)",
    ),
    "negative dicom": (lambda root: dicom(root / "a.dcm", DEEP.astype(np.int16) - 9), "without negative values"),
    "too large": (
        lambda root: dicom(root / "a.dcm", DEEP, Rows=60_000, Columns=60_000),
        "expected one image of at most",
    ),
    "cut dicom": (lambda root: _cut(dicom(root / "a.dcm", DEEP)), "expected a DICOM image"),
    "cut pgm": (lambda root: _cut(pgm(root / "a.pgm", DEEP, 65535)), "expected a PPM or PGM picture"),
}


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-20])
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        read_source_image(make(tmp_path))


def test_a_layer_of_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = saved(tmp_path / "a.ppm", COLOURS)
    packed = tmp_path / "b.ppm.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert gunzipped(plain) == plain
    np.testing.assert_array_equal(read_source_image(gunzipped(packed)).pixels, COLOURS)
    volume = nifti(tmp_path / "c.nii.gz", GREY)
    assert gunzipped(volume) == volume
    monkeypatch.setattr(images, "_MOST_BYTES", 10)
    with pytest.raises(UserError, match="refused: it unpacks to more than"):
        gunzipped(packed)
    packed.write_bytes(b"no gzip")
    with pytest.raises(UserError, match="expected a gzip file, found a damaged one"):
        gunzipped(packed)

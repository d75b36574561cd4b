"""Masks in files of NumPy and MATLAB; what claims or unpacks to more than an image is refused before it is read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from harness.errors import UserError
from harness.evaluation.external.mask_files import read_external_mask

MASK = np.zeros((5, 8), bool)
MASK[1:3, 2:7] = True


@pytest.mark.parametrize(
    "values", [MASK, MASK.astype(np.uint8), MASK * 255, MASK.astype(float), MASK * 65_535, MASK.astype(np.int64)]
)
@pytest.mark.parametrize("suffix", ["npy", "npz", "mat"])
@pytest.mark.parametrize("shape", [(5, 8), (1, 5, 8), (5, 8, 1), (1, 1, 5, 8)])
def test_read_alike(tmp_path: Path, values: np.ndarray, suffix: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / f"a.{suffix}"
    array = values.reshape(shape)
    {"npy": lambda: np.save(path, array), "npz": lambda: np.savez(path, array),
     "mat": lambda: scipy.io.savemat(path, {"segmentation": array, "about": "text"})}[suffix]()  # fmt: skip
    np.testing.assert_array_equal(read_external_mask(path), MASK)


def huge_npy() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (100_000, 100_000)})
    return file.getvalue() + b"\0" * 100


def huge_npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("mask.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (1000, 1_000_000)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1_000_000))
        archive.getinfo("mask.npy").file_size = 10**9  # the rest is never read, so nobody need write it


def test_huge_arrays_are_refused_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(huge_npy())
    with pytest.raises(UserError, match=r"a\.npy: expected one picture, found an array of 9\.3 GiB"):
        read_external_mask(tmp_path / "a.npy")
    huge_npz(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_size < 2_000
    with pytest.raises(UserError, match=r"a\.npz: expected one picture, found an array of 0\.9 GiB"):
        read_external_mask(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"", "expected an array as numpy"),
        ("a.npy", b"\x93NUMPY\x01\x00", "expected an array as numpy"),
        ("a.npz", b"PK\x03\x04 nothing", "expected an array as numpy"),
        ("a.mat", b"nothing of MATLAB's at all" * 20, "expected an array as numpy"),
        ("a.mat", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), r"version 7\.3|expected an array"),
    ],
)  # fmt: skip
def test_damaged(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_external_mask(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="expected an array as numpy"):
        read_external_mask(tmp_path / "a.npy")


def test_several_arrays(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"one": MASK, "two": MASK})
    with pytest.raises(UserError, match="expected one array, or one of several called mask"):
        read_external_mask(tmp_path / "a.mat")

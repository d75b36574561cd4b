"""One mask, and one image, in every container: read as it is shown, or refused by name; never another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from harness.data.reading import examine_mask, read_image, read_mask
from harness.errors import UserError
from harness.evaluation.external import read_external_mask
from tests.support.containers import IMAGES, MASKS, NIFTI

SIDES = st.tuples(st.integers(3, 40), st.integers(3, 40))
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# What must be read and not merely refused: nobody would understand why not.
MAY_BE_REFUSED = ("jpeg", "webp 50", "webp 80", "webp 100", "tiff L jpeg", "tifffile uint32", "tifffile int16")


@pytest.mark.parametrize("name", MASKS)
@FEW
@given(mask=SIDES.flatmap(lambda sides: arrays.arrays(bool, sides)))
def test_masks(tmp_path: Path, name: str, mask: np.ndarray) -> None:
    suffix, write = MASKS[name]
    path = tmp_path / f"a mask.{suffix}"
    write(path, mask)
    try:
        found = read_mask(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        one_colour = "red" in name and mask.all()  # is it the object or the ground?
        assert one_colour or name.startswith(MAY_BE_REFUSED), f"refused: {error}"
        return
    assert found.dtype == bool and found.shape == mask.shape
    # Of this quality a lone pixel may be gone from the file: 1 of 52 in a mask that hypothesis found.
    assert np.count_nonzero(found != mask) <= (1 if name in ("jpeg 20", "jpeg colour 20") else 0)


@pytest.mark.parametrize("name", NIFTI)
@FEW
@given(mask=SIDES.flatmap(lambda sides: arrays.arrays(bool, sides)))
def test_nifti_masks(tmp_path: Path, name: str, mask: np.ndarray) -> None:
    path = tmp_path / "a mask.nii.gz"
    NIFTI[name](path, mask)
    np.testing.assert_array_equal(read_external_mask(path), mask)


@pytest.mark.parametrize("name", IMAGES)
@FEW
@given(image=SIDES.flatmap(lambda sides: arrays.arrays(np.uint8, (*sides, 3))))
def test_images(tmp_path: Path, name: str, image: np.ndarray) -> None:
    suffix, grey, write, white_level = IMAGES[name]
    path = tmp_path / f"a picture.{suffix}"
    write(path, image)
    shown = np.repeat(image[..., :1], 3, axis=2) if grey else image
    found = read_image(path, white_level)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - shown).max() <= 1


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows of a stored picture, by the table of the EXIF standard."""
    return {
        1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1],
        5: image.swapaxes(0, 1), 6: np.rot90(image, -1), 7: image[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(image),
    }[orientation]  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sides", [(5, 9), (7, 7)])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_orientation(tmp_path: Path, orientation: int, sides: tuple[int, int], suffix: str) -> None:
    image = np.random.default_rng(3).integers(0, 256, (*sides, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(image).save(tmp_path / f"image.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"image.{suffix}"), turned(image, orientation))
    mask = np.where(image[..., 0] > 127, 255, 0).astype(np.uint8)
    Image.fromarray(np.stack([mask] * 3, axis=2)).save(tmp_path / f"mask.{suffix}", exif=exif, **options)
    reading = examine_mask(tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(reading.mask, turned(mask > 0, orientation))
    assert reading.orientation == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff_that_pillow_cuts(tmp_path: Path, orientation: int) -> None:
    image = np.random.default_rng(3).integers(0, 65536, (5, 9, 3), dtype=np.uint16)
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, image, photometric="rgb", extratags=[(0x0112, "H", 1, orientation, True)])
    expected = np.floor(turned(image, orientation) / 257 + 0.5)
    np.testing.assert_array_equal(read_image(path), expected)

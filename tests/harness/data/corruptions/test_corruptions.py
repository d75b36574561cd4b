"""Every corruption: what it promises for any image, and that it is graded on images that look like real ones."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.corruptions.camera import line_kernel
from harness.data.corruptions.corruption import SEVERITIES
from harness.data.corruptions.registry import CORRUPTIONS, corrupted, corruptions_of
from harness.data.folder.sample import MODALITIES
from harness.data.phantoms import domains, draw_phantom
from harness.errors import UserError

GENERAL = ["noise", "blur", "jpeg", "gamma", "motion"]


def phantom(modality: str, place: int = 0, size: int = 96) -> np.ndarray:
    image = draw_phantom(modality, list(domains(modality))[place], 1, size)[0]
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


@given(
    name=st.sampled_from(list(CORRUPTIONS)),
    severity=st.sampled_from(SEVERITIES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    kind=st.sampled_from(["random", "black", "white", "grey"]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=300, deadline=None)
def test_any_image_keeps_its_shape_and_type_and_comes_out_the_same_twice(
    name: str, severity: int, height: int, width: int, kind: str, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "grey":
        image[...] = image[..., :1]
    elif kind != "random":
        image[...] = {"black": 0, "white": 255}[kind]
    before = image.copy()
    found = corrupted(image, name, severity, seed)
    assert (found.shape, found.dtype) == (image.shape, np.uint8)
    assert np.array_equal(image, before)  # the images of a cache are not changed in place
    assert np.array_equal(found, corrupted(image.copy(), name, severity, seed))
    # Where it lies in memory is nothing that it depends on.
    assert np.array_equal(found, corrupted(np.asfortranarray(image), name, severity, seed))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_higher_severity_changes_an_image_more(modality: str) -> None:
    for each in corruptions_of(modality):
        for place in (0, 2):
            image = phantom(modality, place).astype(int)
            changes = [
                np.abs(corrupted(image.astype(np.uint8), each.name, s).astype(int) - image).mean() for s in SEVERITIES
            ]
            assert changes[0] > 0, each.name
            assert all(low < high for low, high in pairwise(changes)), (each.name, changes)


@pytest.mark.parametrize("name", ["noise", "shadow", "speckle", "hair", "bubbles", "colour_cast", "gamma"])
def test_a_higher_severity_is_the_same_pattern_made_stronger(name: str) -> None:
    image = phantom(CORRUPTIONS[name].modalities[0])
    weak, strong = (corrupted(image, name, severity).astype(int) - image for severity in (2, 3))
    moved = np.abs(weak) > 3
    assert moved.any()
    # Where the weaker one darkens or brightens, the stronger one does, too; but for bubbles in front of others.
    assert (np.sign(weak[moved]) == np.sign(strong[moved])).mean() > 0.93
    assert (np.abs(strong[moved]) >= np.abs(weak[moved])).mean() > 0.9


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in ("blur", "jpeg")])
def test_another_seed_or_image_gets_another_pattern(name: str) -> None:
    image = phantom(CORRUPTIONS[name].modalities[0])
    found = {corrupted(image, name, 3, seed).tobytes() for seed in range(8)}
    assert len(found) > 1  # of gamma: brighter or darker


def test_the_pattern_depends_on_the_pixels_and_not_on_what_ran_before() -> None:
    image = phantom("xray")
    first = corrupted(image, "noise", 3)
    corrupted(phantom("fundus"), "noise", 5)
    np.random.default_rng(3).random(10)
    assert np.array_equal(first, corrupted(image, "noise", 3))
    other = image.copy()
    other[0, 0, 0] ^= 1
    changed = corrupted(other, "noise", 3)
    assert (changed != first).mean() > 0.5


def test_another_process_gives_the_same_pixels() -> None:
    code = (
        "import hashlib, numpy as np; from harness.data.corruptions.registry import CORRUPTIONS, corrupted;"
        "image = np.arange(20 * 30 * 3, dtype=np.int64).reshape(20, 30, 3).astype(np.uint8);"
        "print(hashlib.sha256(b''.join(corrupted(image, n, 4, 7).tobytes() for n in CORRUPTIONS)).hexdigest())"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


@pytest.mark.parametrize("name", ["noise", "blur", "jpeg", "gamma", "motion", "speckle", "shadow", "stain"])
def test_the_image_of_a_monochrome_device_stays_grey(name: str) -> None:
    found = corrupted(phantom("xray"), name, 5)
    assert (found[..., 0] == found[..., 1]).all() and (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("name", ["blur", "motion"])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_and_motion_move_nothing(name: str, severity: int) -> None:
    """A bright disk stays where it is: the mask of the clean image holds."""
    rows, columns = np.mgrid[:97, :97]
    image = np.repeat(((rows - 48) ** 2 + (columns - 48) ** 2 < 200)[..., None] * np.uint8(250), 3, axis=2)
    found = corrupted(image, name, severity)[..., 0].astype(float)
    assert (rows * found).sum() / found.sum() == pytest.approx(48, abs=0.05)
    assert (columns * found).sum() / found.sum() == pytest.approx(48, abs=0.05)


@given(length=st.floats(0.0, 30.0), angle=st.floats(0.0, 3.15))
@settings(max_examples=100, deadline=None)
def test_a_line_kernel_is_symmetric_and_has_the_sum_one(length: float, angle: float) -> None:
    kernel = line_kernel(length, angle)
    assert kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2 == 1
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel[::-1, ::-1])


def test_effects_scale_with_the_image() -> None:
    """Twice the side, twice the blur: the share of lost contrast at an edge of the same relative width is alike."""
    lost = []
    for side in (64, 256):
        stripes = (np.arange(side) // (side // 16) % 2 * 200).astype(np.uint8)
        image = np.broadcast_to(stripes[None, :, None], (side, side, 3)).copy()
        lost.append(1 - corrupted(image, "blur", 4)[side // 2].std() / image[side // 2].std())
    assert lost[0] == pytest.approx(lost[1], abs=0.08)


def test_bubbles_and_reflections_keep_out_of_the_black_frame() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[32:96, 32:96] = (180, 90, 70)
    for name in ("bubbles", "specular"):
        found = corrupted(image, name, 5)
        assert (found[:20] == 0).all() and (found[:, 108:] == 0).all()
        assert (found[32:96, 32:96] != image[32:96, 32:96]).any()


def test_a_shadow_darkens_below_and_never_brightens() -> None:
    image = np.full((120, 120, 3), 150, np.uint8)
    found = corrupted(image, "shadow", 5)
    assert found.max() <= 150
    assert found[0].mean() > 140
    assert found[-1].min() < 40


def test_which_modality_has_which() -> None:
    found = {modality: [each.name for each in corruptions_of(modality)] for modality in (*MODALITIES, "endomicroscopy")}
    assert found == {
        "dermoscopy": [*GENERAL, "colour_cast", "hair"],
        "xray": GENERAL,
        "ultrasound": [*GENERAL, "speckle", "shadow"],
        "fundus": [*GENERAL, "colour_cast"],
        "microscopy": [*GENERAL[:-1], "colour_cast", "stain"],
        "colonoscopy": [*GENERAL, "colour_cast", "bubbles", "specular"],
        "endomicroscopy": GENERAL,
    }


def test_a_wrong_name_or_severity_is_refused() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="Did you mean 'bubbles'"):
        corrupted(image, "bubble", 3)
    for severity in (0, 6):
        with pytest.raises(ValueError, match="expected 1 to 5"):
            corrupted(image, "noise", severity)

"""Outlines lie where masks end, within half a pixel of the tile, and take little room."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation, binary_erosion

from harness.errors import UserError
from reports.figures.gallery import check_sizes
from reports.figures.outlines import STEPS, TILE, TOLERANCE, outline, picture_uri, simplified, tile_size


def points(path: str) -> list[np.ndarray]:
    """The path's lines as (n, 2) in tile pixels."""
    lines = []
    for part in re.findall(r"M[^M]+", path):
        start, _, steps = part.rstrip("z").partition("l")
        values = [int(word) for word in re.findall(r"-?\d+", start)] + [
            int(word) for word in re.findall(r"-?\d+", steps)
        ]
        lines.append(np.cumsum(np.array(values).reshape(-1, 2), axis=0) / STEPS)
    return lines


def test_an_outline_is_where_the_mask_ends() -> None:
    mask = np.zeros((TILE, TILE), bool)
    mask[50:100, 40:120] = True
    path, dense = outline(mask)
    (line,) = points(path)
    assert path.endswith("z") and not dense
    assert np.abs(line.min(0) - [40, 50]).max() <= 1 and np.abs(line.max(0) - [120, 100]).max() <= 1


def test_no_line_runs_along_the_frame() -> None:
    mask = np.zeros((TILE, TILE), bool)
    mask[150:, 60:100] = True
    path, _ = outline(mask)
    assert "z" not in path  # open where the object leaves the picture
    assert points(path)[0][:, 1].max() <= TILE


@settings(deadline=None, max_examples=25)
@given(st.integers(40, 500), st.integers(40, 500), st.integers(0, 10**6))
def test_a_traced_outline_drawn_again_is_the_mask(height: int, width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    y, x = height * generator.uniform(0.3, 0.7), width * generator.uniform(0.3, 0.7)
    radii = height * generator.uniform(0.15, 0.3), width * generator.uniform(0.15, 0.3)
    mask = ((rows - y) / radii[0]) ** 2 + ((columns - x) / radii[1]) ** 2 < 1
    path, _ = outline(mask)
    size = tile_size(height, width)
    canvas = Image.new("L", (4 * size[0], 4 * size[1]))
    for line in points(path):
        ImageDraw.Draw(canvas).polygon([tuple(4 * point) for point in line], fill=255)
    drawn = np.asarray(canvas.resize(size, Image.Resampling.BOX)) >= 128
    wanted = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) >= 128
    # Wherever the two differ, the mask's edge is at most a pixel away.
    inner, outer = binary_erosion(wanted, np.ones((3, 3))), binary_dilation(wanted, np.ones((3, 3)))
    assert (inner <= drawn).all() and (drawn <= outer).all() and len(path) < 1500


def test_simplifying_keeps_within_its_tolerance_and_the_ends() -> None:
    turn = np.linspace(0, 2 * np.pi, 400)
    line = np.stack([100 + 60 * np.cos(turn), 100 + 40 * np.sin(turn)], axis=1)
    few, speck = simplified([line, np.array([[5, 5], [5.1, 5], [5.1, 5.1], [5, 5]])], TOLERANCE)
    assert len(speck) == 2 and (speck == 5).all()
    assert len(few) < 60 and (few[0] == line[0]).all() and (few[-1] == line[-1]).all()
    a, b = few[:-1], few[1:]
    t = np.clip(((line[:, None] - a) * (b - a)).sum(-1) / ((b - a) ** 2).sum(-1), 0, 1)[..., None]
    assert np.linalg.norm(line[:, None] - (a + t * (b - a)), axis=-1).min(1).max() <= TOLERANCE + 1e-9


def test_vessels_are_dense_and_empty_masks_have_no_line() -> None:
    mask = np.zeros((300, 300), bool)
    mask[::6] = True
    assert outline(mask)[1]
    assert outline(np.zeros((20, 30), bool)) == ("", False)
    assert outline(np.ones((1, 30), bool)) == ("", False)


def test_pictures_are_small_and_keep_their_shape() -> None:
    uri = picture_uri(np.full((300, 600, 3), 128, np.uint8))
    assert uri.startswith("data:image/webp;base64,") and tile_size(300, 600) == (TILE, TILE // 2)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match="of one size"):
        check_sizes(np.zeros((5, 5, 3), np.uint8), np.zeros((5, 5), bool), (4, 5))

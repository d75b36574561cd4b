"""Outlines of masks as SVG paths: sharp at any size, and a picture is kept once for all methods that are shown on it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

TILE = 232
"""Longer side of a picture in CSS pixels."""
STEPS = 2
"""Path coordinates per CSS pixel."""
TOLERANCE = 0.35
"""How far, in CSS pixels, a simplified outline may be from the traced one."""
DENSE = 0.12
"""Length of the outline, times two pixels, as part of the picture above which lines are thin: vessels would vanish under them."""

Points = npt.NDArray[np.float64]


def tile_size(height: int, width: int) -> tuple[int, int]:
    """(width, height) of the picture of an image of that size."""
    scale = TILE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def picture_uri(image: npt.NDArray[np.uint8]) -> str:
    """An image (H, W, 3), made small, as a data URI."""
    size = tile_size(*image.shape[:2])
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = BytesIO()
    small.save(buffer, format="WEBP", quality=78, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def outline(mask: npt.NDArray[np.bool_]) -> tuple[str, bool]:
    """The outline of a mask (H, W) as an SVG path in STEPS units a pixel of its tile, and whether it is dense.

    An object that the frame cuts has no line along the frame.
    """
    from contourpy import contour_generator

    size = tile_size(*mask.shape)
    small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR))
    if min(size) < 2:
        return "", False
    # A value sits in the middle of its pixel.
    lines = [np.asarray(line) + 0.5 for line in contour_generator(z=small).lines(127.5)]
    length = sum(float(np.hypot(*np.diff(line, axis=0).T).sum()) for line in lines)
    path = "".join(map(_path, simplified(lines, TOLERANCE)))
    return path, 2 * length > DENSE * size[0] * size[1]


def simplified(lines: Sequence[Points], tolerance: float) -> list[Points]:
    """Each line (n, 2) with fewer points: those left out are at most `tolerance` from it (Douglas and Peucker, 1973)."""
    import shapely

    if not lines:
        return []
    numbers = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    shapes = shapely.linestrings(np.concatenate(lines), indices=numbers)
    points, numbers = shapely.get_coordinates(
        shapely.simplify(shapes, tolerance, preserve_topology=False), return_index=True
    )
    return np.split(points, np.flatnonzero(np.diff(numbers)) + 1)


def _path(line: Points) -> str:
    """ "M12 30l4-3…" with relative whole numbers; closed where the ends meet."""
    points = np.rint(line * STEPS).astype(int)
    steps = np.diff(points, axis=0)
    steps = steps[steps.any(axis=1)]
    closed = bool((line[0] == line[-1]).all())
    if not len(steps):
        # Smaller than a step: a dot, drawn by the line's round end.
        return f"M{points[0][0]} {points[0][1]}h0"
    if closed:
        steps = steps[:-1]
    words = map(str, steps.ravel().tolist())
    # A minus parts two numbers as well as a space does.
    numbers = "".join(word if word.startswith("-") else f" {word}" for word in words)
    return f"M{points[0][0]} {points[0][1]}l{numbers.strip()}{'z' if closed else ''}"

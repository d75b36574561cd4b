"""Outlines, curves and what is drawn along them. Points are (y, x) in reference pixels from the canvas centre."""

from __future__ import annotations

import math

import numpy as np

from harness.data.phantoms.canvas import Canvas, FloatArray

_POINTS_AT_ONCE = 4096


def outline(rng: np.random.Generator, irregularity: float, harmonics: int = 8, samples: int = 512) -> FloatArray:
    """A smooth closed random outline: its radius at `samples` angles around 1, float32.

    Harmonic k has an amplitude of about irregularity / k, so large values give lobes and notches.
    """
    order = np.arange(2, harmonics + 2)[:, None]
    angle = np.linspace(0.0, 2.0 * np.pi, samples, endpoint=False)[None, :]
    amplitude = irregularity * rng.normal(size=order.shape) / order
    wave = amplitude * np.cos(order * angle + rng.uniform(0.0, 2.0 * np.pi, size=order.shape))
    return np.clip(1.0 + wave.sum(0), 0.35, 1.8).astype(np.float32)


def radial(
    canvas: Canvas,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
    shape: FloatArray | None = None,
    warp: tuple[FloatArray, FloatArray] | None = None,
) -> FloatArray:
    """Distance from `centre` as part of the distance of the outline: below 1 inside, 1 on it. (H, W) float32.

    Args:
        radii: of the ellipse, along its own axes.
        angle: of the ellipse, radians.
        shape: radius factor per angle, as `outline` gives it.
        warp: two (H, W) fields that are added to y and x first.
    """
    y, x = canvas.y - centre[0], canvas.x - centre[1]
    if warp is not None:
        y, x = y + warp[0], x + warp[1]
    cosine, sine = math.cos(angle), math.sin(angle)
    u = (cosine * x + sine * y) / np.float32(radii[1])
    v = (cosine * y - sine * x) / np.float32(radii[0])
    distance = np.hypot(u, v)
    if shape is None:
        return distance
    turn = np.arctan2(v, u) * np.float32(len(shape) / (2.0 * np.pi))
    return distance / shape[np.rint(turn).astype(np.int32) % len(shape)]


def bezier(points: list[tuple[float, float]], spacing: float) -> FloatArray:
    """A quadratic curve through three control points, sampled about every `spacing` reference pixels: (N, 2)."""
    a, b, c = (np.float32(point) for point in points)
    length = float(np.linalg.norm(b - a) + np.linalg.norm(c - b))
    t = np.linspace(0.0, 1.0, max(2, math.ceil(length / spacing)), dtype=np.float32)[:, None]
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c


def wander(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length: float,
    spacing: float,
    bend: float = 0.0,
    wobble: float = 0.0,
) -> tuple[FloatArray, FloatArray]:
    """A curve that starts at `heading` (radians, 0 along +x, growing towards +y), turns steadily and trembles smoothly.

    Args:
        bend: turn over the whole length, radians.
        wobble: amplitude of the tremble of the heading, radians.

    Returns:
        points (N, 2) and the heading at each (N,).
    """
    steps = max(2, math.ceil(length / spacing))
    t = np.linspace(0.0, 1.0, steps, dtype=np.float32)
    waves = np.arange(1, 5, dtype=np.float32)[:, None]
    phase = rng.uniform(0.0, 2.0 * np.pi, (4, 1)).astype(np.float32)
    tremble = (np.sin(waves * (length / 45.0) * t * 2.0 * np.pi + phase) / waves).sum(0)
    headings = heading + bend * t + wobble * (tremble - tremble[0])
    step = length / (steps - 1)
    points = np.stack([np.sin(headings), np.cos(headings)], 1) * step
    points[0] = 0.0
    return np.cumsum(points, 0, dtype=np.float32) + np.float32(start), headings.astype(np.float32)


def tubes(canvas: Canvas, points: FloatArray, radii: FloatArray, reach: float = 1.5) -> FloatArray:
    """Signed distance to the union of discs along curves: negative inside, at most `reach`. (H, W) float32.

    Args:
        points: (N, 2), dense: about one per pixel of curve.
        radii: (N,) reference pixels.
    """
    field = np.full(canvas.height * canvas.width, reach, dtype=np.float32)
    if len(points) == 0:
        return field.reshape(canvas.shape)
    centre = points * np.float32(canvas.scale) + np.float32([(canvas.height - 1) / 2, (canvas.width - 1) / 2])
    # Thin tubes need a small window only, so each doubling of the window is stamped apart.
    window = np.ceil((radii + reach) * canvas.scale).astype(np.int64)
    level = np.ceil(np.log2(np.maximum(window, 1))).astype(np.int64)
    for value in np.unique(level):
        chosen = np.flatnonzero(level == value)
        offsets = np.arange(-window[chosen].max(), window[chosen].max() + 1)
        for begin in range(0, len(chosen), _POINTS_AT_ONCE):
            part = chosen[begin : begin + _POINTS_AT_ONCE]
            rows = np.rint(centre[part, 0]).astype(np.int64)[:, None] + offsets
            columns = np.rint(centre[part, 1]).astype(np.int64)[:, None] + offsets
            dy = (rows - centre[part, :1]).astype(np.float32)
            dx = (columns - centre[part, 1:]).astype(np.float32)
            distance = np.sqrt((dy * dy)[:, :, None] + (dx * dx)[:, None, :]) / np.float32(canvas.scale)
            distance -= radii[part, None, None]
            inside_rows = (rows >= 0) & (rows < canvas.height)
            inside_columns = (columns >= 0) & (columns < canvas.width)
            near = (distance < reach) & inside_rows[:, :, None] & inside_columns[:, None, :]
            index = rows[:, :, None] * canvas.width + columns[:, None, :]
            np.minimum.at(field, index[near], distance[near])
    return field.reshape(canvas.shape)


def coverage(distance: FloatArray, canvas: Canvas) -> FloatArray:
    """Part of each pixel that lies inside, from a signed distance: an antialiased edge."""
    return np.clip(0.5 - distance * np.float32(canvas.scale), 0.0, 1.0)


def lettering(rng: np.random.Generator, canvas: Canvas, corner: tuple[float, float], letters: int, size: float) -> FloatArray:
    """Burnt-in text that says nothing: (H, W) float32 in {0, 1}, letters of `size` reference pixels height."""
    field = np.zeros(canvas.shape, dtype=np.float32)
    dot = max(1, round(size / 5 * canvas.scale))
    glyphs = rng.random((letters, 5, 3)) < 0.62
    line = np.zeros((5, 4 * letters), dtype=np.float32)
    for position, glyph in enumerate(glyphs):
        line[:, 4 * position : 4 * position + 3] = glyph
    stamp = np.kron(line, np.ones((dot, dot), dtype=np.float32))
    top = int(np.clip(round(corner[0] * canvas.scale + canvas.height / 2), 0, canvas.height - 1))
    left = int(np.clip(round(corner[1] * canvas.scale + canvas.width / 2), 0, canvas.width - 1))
    stamp = stamp[: canvas.height - top, : canvas.width - left]
    field[top : top + stamp.shape[0], left : left + stamp.shape[1]] = stamp
    return field

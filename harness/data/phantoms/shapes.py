"""Outlines, curves and what is drawn along them. Points are (y, x) in reference pixels from the canvas centre."""

from __future__ import annotations

import math

import numpy as np

from harness.data.phantoms.canvas import Canvas, FloatArray

_POINTS_AT_ONCE = 4096


def outline(rng: np.random.Generator, irregularity: float, harmonics: int = 8, samples: int = 512) -> FloatArray:
    """A smooth closed random outline: its radius at `samples` angles around 1, float32.

    Harmonic k has an amplitude of about irregularity / k ** 1.7, so large values give lobes and notches.
    """
    order = np.arange(2, harmonics + 2)[:, None]
    angle = np.linspace(0.0, 2.0 * np.pi, samples, endpoint=False)[None, :]
    amplitude = irregularity * rng.normal(size=order.shape) * 2.0 / order**1.7
    wave = amplitude * np.cos(order * angle + rng.uniform(0.0, 2.0 * np.pi, size=order.shape))
    radius: FloatArray = np.clip(1.0 + wave.sum(0), 0.35, 1.8).astype(np.float32)
    return radius


def radial(
    canvas: Canvas,
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
    shape: FloatArray | None = None,
    warp: tuple[FloatArray, FloatArray] | None = None,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> FloatArray:
    """Distance from `centre` as part of the distance of the outline: below 1 inside, 1 on it. (H, W) float32.

    Args:
        radii: of the ellipse, along its own axes.
        angle: of the ellipse, radians.
        shape: radius factor per angle, as `outline` gives it.
        warp: two (H, W) fields that are added to y and x first.
        window: rows and columns to compute.
    """
    y, x = canvas.y[window[0]] - np.float32(centre[0]), canvas.x[:, window[1]] - np.float32(centre[1])
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


def spots(
    rng: np.random.Generator, canvas: Canvas, centres: FloatArray, radii: FloatArray, irregularity: float
) -> FloatArray:
    """Many small outlines at once, each drawn in its own window only: like `radial` of the nearest, at most 2. (H, W)."""
    rho, _ = stamp(rng, canvas, centres, radii, np.ones(len(centres), np.float32), irregularity)
    return rho


def stamp(
    rng: np.random.Generator,
    canvas: Canvas,
    centres: FloatArray,
    radii: FloatArray,
    values: FloatArray,
    irregularity: float,
    elongation: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Many small outlines and a value for each.

    Args:
        centres: (N, 2). radii, values: (N,).
        elongation: mean length over breadth.

    Returns:
        relative distance from the nearest outline (below 1 inside, at most 2) and the value of that outline, both (H, W).
    """
    rho, value = np.full(canvas.shape, 2.0, np.float32), np.zeros(canvas.shape, np.float32)
    angles, lengths = rng.uniform(0, np.pi, len(centres)), np.sqrt(elongation * rng.uniform(0.8, 1.25, len(centres)))
    middle = centres * canvas.scale + [(canvas.height - 1) / 2, (canvas.width - 1) / 2]
    reach = radii * np.maximum(lengths, 1 / lengths) * 1.6 * canvas.scale + 2
    begin = np.maximum(np.floor(middle - reach[:, None]), 0).astype(np.int64)
    end = np.ceil(middle + reach[:, None]).astype(np.int64)
    for number, (low, high) in enumerate(zip(begin, end, strict=True)):
        window = (slice(low[0], max(high[0], 0)), slice(low[1], max(high[1], 0)))
        centre = (float(centres[number, 0]), float(centres[number, 1]))
        size = (float(radii[number] / lengths[number]), float(radii[number] * lengths[number]))
        shape = outline(rng, irregularity, 5, 64)
        own = radial(canvas, centre, size, float(angles[number]), shape, window=window)
        nearer = own < rho[window]
        rho[window] = np.where(nearer, own, rho[window])
        value[window] = np.where(nearer, values[number], value[window])
    return rho, value


def bezier(points: list[tuple[float, float]], spacing: float) -> FloatArray:
    """A quadratic curve through three control points, sampled about every `spacing` reference pixels: (N, 2)."""
    a, b, c = np.array(points, dtype=np.float32)
    length = float(np.linalg.norm(b - a) + np.linalg.norm(c - b))
    t = np.linspace(0.0, 1.0, max(2, math.ceil(length / spacing)), dtype=np.float32)[:, None]
    curve: FloatArray = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
    return curve


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
    return np.cumsum(points, 0, dtype=np.float32) + np.array(start, dtype=np.float32), headings.astype(np.float32)


def tubes(canvas: Canvas, points: FloatArray, radii: FloatArray, reach: float = 1.5) -> FloatArray:
    """Signed distance to the union of discs along curves: negative inside, at most `reach`. (H, W) float32.

    Args:
        points: (N, 2), dense: about one per pixel of curve.
        radii: (N,) reference pixels.
    """
    field = np.full(canvas.height * canvas.width, reach, dtype=np.float32)
    if len(points) == 0:
        return field.reshape(canvas.shape)
    centre = points * np.float32(canvas.scale) + np.array(
        [(canvas.height - 1) / 2, (canvas.width - 1) / 2], dtype=np.float32
    )
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
    covered: FloatArray = np.clip(0.5 - distance * np.float32(canvas.scale), 0.0, 1.0)
    return covered


def lettering(
    rng: np.random.Generator, canvas: Canvas, corner: tuple[float, float], letters: int, size: float
) -> FloatArray:
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

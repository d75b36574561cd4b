"""Polyps in the large bowel, lit by the endoscope: folds around the lumen, wet highlights, the frame of the processor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import absorb, band_noise, blur, flat, fractal_noise, mix, sigmoid
from harness.data.phantoms.shapes import coverage, lettering, outline, radial, tubes, wander

_BLOOD = (0.10, 0.95, 0.85)


@dataclass(frozen=True, kw_only=True)
class ColonoscopyDomain(Domain):
    """Lengths in reference pixels, ranges as (least, most).

    Attributes:
        mucosa: mean colour of the wall.
        polyp_radius: of the polyp.
        irregularity: of its outline.
        contrast_of_polyp: how much redder (positive) or paler a polyp is.
        relief: how strongly polyps and folds shade.
        texture: strength of the pit pattern on polyps.
        folds: number of folds per octave of distance from the lumen.
        lumen: distance of the lumen from the middle of the picture.
        wetness: amount of highlights.
        vessels: mean number of vessels seen in the wall.
        corner: cut of the corners of the frame, as part of its half width.
        panel: whether a position panel and text cover a corner.
    """

    mucosa: tuple[float, float, float]
    polyp_radius: tuple[float, float]
    irregularity: float
    contrast_of_polyp: tuple[float, float]
    relief: float
    texture: float
    folds: float
    lumen: tuple[float, float]
    wetness: float
    vessels: float
    corner: float
    panel: bool


DOMAINS: dict[str, ColonoscopyDomain] = {
    "scope_a": ColonoscopyDomain(
        description="modern scope: pink, sharp, textured polyps of middle to large size, position panel and text",
        images_per_subject=2,
        blur=0.6,
        noise=0.015,
        mucosa=(0.92, 0.58, 0.50),
        polyp_radius=(26, 58),
        irregularity=0.25,
        contrast_of_polyp=(0.05, 0.35),
        relief=0.55,
        texture=0.10,
        folds=0.9,
        lumen=(30, 120),
        wetness=0.6,
        vessels=3,
        corner=0.35,
        panel=True,
    ),
    "scope_b": ColonoscopyDomain(
        description="older scope: dim yellow light, soft, octagonal frame; low small polyps, rich vessels",
        size=(0.875, 1.125),
        images_per_subject=2,
        blur=1.4,
        noise=0.025,
        gain=(0.95, 0.92, 0.62),
        contrast=0.95,
        gamma=1.15,
        mucosa=(0.80, 0.56, 0.44),
        polyp_radius=(18, 42),
        irregularity=0.20,
        contrast_of_polyp=(-0.05, 0.40),
        relief=0.6,
        texture=0.04,
        folds=0.7,
        lumen=(60, 170),
        wetness=0.9,
        vessels=10,
        corner=0.55,
        panel=False,
    ),
    "scope_c": ColonoscopyDomain(
        description="bright processor with hard contrast and red cast: deep folds, many highlights, lobed polyps",
        size=(0.9375, 0.9375),
        zoom=1.1,
        blur=0.9,
        noise=0.03,
        gain=(1.0, 0.76, 0.74),
        contrast=1.3,
        mucosa=(0.90, 0.60, 0.54),
        polyp_radius=(20, 48),
        irregularity=0.38,
        contrast_of_polyp=(0.0, 0.40),
        relief=0.85,
        texture=0.07,
        folds=1.3,
        lumen=(10, 90),
        wetness=1.5,
        vessels=2,
        corner=0.2,
        panel=False,
    ),
}


def _wall(rng: np.random.Generator, canvas: Canvas, domain: ColonoscopyDomain) -> FloatArray:
    """Brightness of the wall, (H, W): a tube with ring folds, seen from inside."""
    turn = rng.uniform(0, 2 * np.pi)
    away = rng.uniform(*domain.lumen)
    lumen = (away * math.sin(turn), away * math.cos(turn))
    warp = (7.0 * fractal_noise(rng, canvas, 120.0, 3.0), 7.0 * fractal_noise(rng, canvas, 120.0, 3.0))
    ring = radial(canvas, lumen, (1.0, 1.0), 0.0, outline(rng, 0.3, 3), warp)
    depth = np.log2(np.maximum(ring, 8.0) / 24.0)
    phase = depth * domain.folds + 0.18 * fractal_noise(rng, canvas, 150.0, 3.0) + rng.uniform()
    saw = phase - np.floor(phase)
    # The crest of a fold is bright and hides what lies behind it, towards the lumen, which begins in shadow.
    crest = np.exp(-((saw / 0.10) ** 2))
    strength = np.clip(0.55 + 0.5 * fractal_noise(rng, canvas, 120.0, 3.0), 0.0, 1.2)
    light = 0.10 + 0.90 * sigmoid((depth - 0.3) * 2.2)
    seen: FloatArray = light * (1.0 - domain.relief * strength * (0.75 * saw**1.3 - 0.18 * crest))
    return seen


def _frame(rng: np.random.Generator, canvas: Canvas, domain: ColonoscopyDomain) -> BoolArray:
    """What the processor shows: a rectangle with cut corners, less the panel. (H, W)."""
    half_y, half_x = canvas.half
    across, down = np.abs(canvas.x) / (half_x * 0.97), np.abs(canvas.y) / (half_y * 0.97)
    seen = (across < 1.0) & (down < 1.0) & (across + down < 2.0 - domain.corner)
    if domain.panel and rng.random() < 0.5:
        seen &= ~((canvas.x < -half_x * 0.42) & (canvas.y > half_y * 0.5))
    return seen


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: ColonoscopyDomain
) -> tuple[FloatArray, BoolArray]:
    """One frame: scene (3, H, W) in [0, 1] and mask (H, W)."""
    redness = person.normal(0.0, 0.08)
    wall = _wall(rng, canvas, domain)

    radius = rng.uniform(*domain.polyp_radius)
    centre = canvas.somewhere(rng, 0.45)
    radii = (radius * rng.uniform(0.75, 1.0), radius * rng.uniform(0.95, 1.25))
    rho = radial(canvas, centre, radii, rng.uniform(0, np.pi), outline(rng, domain.irregularity, 4))
    mask = rho < 1.0
    inside = sigmoid((1.0 - rho) * np.float32(radius / 1.2))
    dome = np.sqrt(np.clip(1.0 - rho**2, 0.0, 1.0))
    bumps = band_noise(rng, canvas, 26.0, 0.6)
    height = (0.6 * radius * dome + 0.8 * bumps * dome) + 1.6 * fractal_noise(rng, canvas, 60.0, 2.6)
    height = blur(height, 1.5, canvas)

    # The lamp sits beside the lens: surfaces that face it are bright, and the far side of a polyp throws a shadow.
    lamp = rng.uniform(0, 2 * np.pi)
    ly, lx = 0.45 * math.sin(lamp), 0.45 * math.cos(lamp)
    dy, dx = (slope * np.float32(canvas.scale) for slope in np.gradient(height))
    normal = 1.0 / np.sqrt(1.0 + dx * dx + dy * dy)
    facing = np.clip((1.0 - lx * dx - ly * dy) * normal, 0.0, 1.4)
    shifted = radial(canvas, (centre[0] - ly * radius * 0.35, centre[1] - lx * radius * 0.35), radii, 0.0)
    shadow = 0.45 * domain.relief * sigmoid((1.06 - shifted) * 9.0) * (1 - inside)
    local = wall * (1 - inside) + inside * np.maximum(blur(wall, radius * 0.5, canvas), 0.3)
    light = local * (1.0 - domain.relief * (1.0 - facing)) * (1.0 - shadow)

    image = flat(domain.mucosa, 1.0 + 0.04 * fractal_noise(rng, canvas, 60.0, 1.7))
    blood = 0.12 + redness + 0.06 * fractal_noise(rng, canvas, 120.0, 2.4)
    pits = domain.texture * 2.0 * (np.abs(band_noise(rng, canvas, 7.0, 0.4)) - 0.6)
    blood = blood + inside * (rng.uniform(*domain.contrast_of_polyp) + pits)
    curves, widths = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.float32)]
    for _ in range(rng.poisson(domain.vessels)):
        start = canvas.somewhere(rng, 1.0)
        curve, _ = wander(
            rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(40, 120), 0.8 / canvas.scale, rng.normal(0, 1), 0.4
        )
        curves.append(curve)
        widths.append(np.linspace(rng.uniform(0.5, 1.1), 0.2, len(curve), dtype=np.float32))
    vessels = coverage(tubes(canvas, np.concatenate(curves), np.concatenate(widths)), canvas)
    blood = blood + 0.35 * vessels * (1 - inside)
    image = absorb(image, np.maximum(blood, 0.0), _BLOOD) * (1.3 * light)

    wet = 1.1 * band_noise(rng, canvas, 12.0, 0.7, (0.8, 1.2)) + 1.0 * fractal_noise(rng, canvas, 50.0)
    glint = wet + 2.2 * (facing * np.sqrt(np.clip(light, 0.0, 1.0)) - 0.75) + 0.4 * bumps
    image = mix(image, (1.0, 0.98, 0.96), 0.95 * sigmoid((glint - 4.3 + 1.0 * domain.wetness) * 4.0))
    image = image * (1.08 - 0.38 * radial(canvas, (0.0, 0.0), canvas.half) ** 2)

    seen = _frame(rng, canvas, domain)
    image = np.where(seen, image, np.float32(0.015))
    if domain.panel:
        for line in range(3):
            corner = (-canvas.half[0] * (0.25 - 0.09 * line), -canvas.half[1] * 0.96)
            image = np.maximum(image, 0.85 * lettering(rng, canvas, corner, 5, 6.0))
    return image, mask & seen

"""Skin lesions under a dermatoscope: pigment in skin, hairs, the dark edge of the lens, ruler and ink marks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import absorb, band_noise, flat, fractal_noise, mix, sigmoid
from harness.data.phantoms.shapes import bezier, coverage, outline, radial, spots, tubes, wander

_MELANIN = (0.55, 0.85, 1.05)
_BLOOD = (0.12, 0.95, 0.75)


@dataclass(frozen=True, kw_only=True)
class DermoscopyDomain(Domain):
    """Lengths in reference pixels, ranges as (least, most).

    Attributes:
        skin: mean colour of the skin.
        lesion_radius: of the lesion.
        irregularity: of its outline.
        softness: width of the fading at its border.
        pigment: optical density of the lesion.
        network: strength of the pigment net and dots.
        blood: how red instead of brown a lesion may be, 0 to 1.
        hairs: number of hairs.
        freckles: number of other pigmented spots, which do not belong to the mask.
        shade: loss of light towards the edge and one side.
        lens_radius: of the visible circle; 0 = the lens does not show.
        marks: probability of a ruler, and of ink strokes.
    """

    skin: tuple[float, float, float]
    lesion_radius: tuple[float, float]
    irregularity: float
    softness: float
    pigment: tuple[float, float]
    network: float
    blood: float
    hairs: tuple[int, int]
    freckles: int
    shade: float
    lens_radius: float
    marks: float


DOMAINS: dict[str, DermoscopyDomain] = {
    "clinic_a": DermoscopyDomain(
        description="pink skin, uneven light, few hairs; lesions brown to red, faint to dark, of middle size",
        images_per_subject=2,
        blur=0.6,
        noise=0.012,
        skin=(0.95, 0.74, 0.72),
        lesion_radius=(26, 62),
        irregularity=0.28,
        softness=3.0,
        pigment=(0.22, 1.0),
        network=0.30,
        blood=0.6,
        hairs=(0, 7),
        freckles=1,
        shade=0.45,
        lens_radius=0.0,
        marks=0.05,
    ),
    "clinic_b": DermoscopyDomain(
        description="tan skin from further away: small lesions, rulers and ink marks, soft optics, yellowish light",
        size=(0.875, 1.125),
        blur=1.2,
        noise=0.02,
        gain=(0.96, 0.92, 0.80),
        contrast=0.82,
        skin=(0.92, 0.80, 0.72),
        lesion_radius=(16, 36),
        irregularity=0.20,
        softness=2.2,
        pigment=(0.40, 1.1),
        network=0.15,
        blood=0.3,
        hairs=(0, 14),
        freckles=3,
        shade=0.2,
        lens_radius=0.0,
        marks=0.65,
    ),
    "clinic_c": DermoscopyDomain(
        description="old lens with a dark rim, strong contrast; large notched lesions with net and dots, much hair",
        size=(0.9375, 0.9375),
        images_per_subject=2,
        blur=0.5,
        noise=0.015,
        gain=(1.02, 0.96, 0.88),
        contrast=1.18,
        gamma=1.1,
        skin=(0.96, 0.80, 0.68),
        lesion_radius=(42, 84),
        irregularity=0.45,
        softness=4.5,
        pigment=(0.35, 1.2),
        network=0.65,
        blood=0.15,
        hairs=(4, 22),
        freckles=0,
        shade=0.15,
        lens_radius=122.0,
        marks=0.0,
    ),
}


def _anywhere(rng: np.random.Generator, canvas: Canvas, count: int) -> FloatArray:
    return (rng.uniform(-0.95, 0.95, (count, 2)) * canvas.half).astype(np.float32)


def _pigment(
    rng: np.random.Generator,
    canvas: Canvas,
    domain: DermoscopyDomain,
    rho: FloatArray,
    centre: tuple[float, float],
    radius: float,
) -> FloatArray:
    """Optical density of the lesion, (H, W): fading to the border, darker on one side, patchy, with net and dots."""
    side = rng.uniform(0, 2 * np.pi)
    slant = (math.cos(side) * (canvas.x - centre[1]) + math.sin(side) * (canvas.y - centre[0])) / np.float32(radius)
    density = 0.75 + 0.35 * np.clip(1.0 - rho, 0.0, 1.0) + 0.2 * slant + 0.22 * fractal_noise(rng, canvas, 36.0, 2.0)
    net = 0.6 - np.abs(band_noise(rng, canvas, 7.0, 0.3))
    dots = np.clip(band_noise(rng, canvas, 9.0, 0.5) - 1.6, 0.0, 1.0)
    density = density + domain.network * (0.5 * net + 1.2 * dots)
    edge = sigmoid((1.0 - rho) * np.float32(radius / domain.softness))
    pigment: FloatArray = np.clip(density, 0.25, 2.2) * edge * np.float32(rng.uniform(*domain.pigment))
    return pigment


def _hairs(rng: np.random.Generator, canvas: Canvas, count: int) -> FloatArray:
    """Opacity of hairs, (H, W)."""
    points, radii = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.float32)]
    for _ in range(count):
        start = canvas.somewhere(rng, 1.1)
        length = rng.uniform(60, 190)
        curve, _ = wander(rng, start, rng.uniform(0, 2 * np.pi), length, 0.8 / canvas.scale, rng.normal(0, 0.8), 0.05)
        points.append(curve)
        radii.append(rng.uniform(0.25, 0.7) * np.linspace(1.0, 0.5, len(curve), dtype=np.float32))
    distance = tubes(canvas, np.concatenate(points), np.concatenate(radii))
    return coverage(distance, canvas)


def _marks(rng: np.random.Generator, canvas: Canvas, image: FloatArray, domain: DermoscopyDomain) -> FloatArray:
    half_y, half_x = canvas.half
    spacing = 0.8 / canvas.scale
    if rng.random() < domain.marks:
        y, left = half_y * rng.uniform(0.72, 0.85), -half_x * rng.uniform(0.1, 0.8)
        length = half_x * rng.uniform(0.6, 0.9)
        lines = [bezier([(y, left), (y, left + length / 2), (y, left + length)], spacing)]
        for tick in range(21):
            x = left + length * tick / 20
            height = 7.0 if tick % 10 == 0 else 4.0
            lines.append(bezier([(y - height, x), (y - height / 2, x), (y, x)], spacing))
        points = np.concatenate(lines)
        ruler = coverage(tubes(canvas, points, np.full(len(points), 0.35, np.float32)), canvas)
        image = mix(image, (0.22, 0.2, 0.2), 0.85 * ruler)
    if rng.random() < domain.marks:
        for _ in range(rng.integers(2, 6)):
            start = canvas.somewhere(rng, 0.85)
            stroke, _ = wander(rng, start, rng.uniform(0, np.pi), rng.uniform(15, 40), spacing, 0.2, 0.1)
            ink = coverage(tubes(canvas, stroke, np.full(len(stroke), rng.uniform(0.8, 1.8), np.float32)), canvas)
            opacity = ink * (0.33 + 0.22 * rng.random(canvas.shape, dtype=np.float32))
            image = mix(image, (0.36, 0.24, 0.55), opacity)
    return image


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: DermoscopyDomain
) -> tuple[FloatArray, BoolArray]:
    """One lesion: scene (3, H, W) in [0, 1] and mask (H, W). `person` gives the traits that a subject's images share."""
    tone, redness, hairiness = person.normal(0.0, 0.08), person.normal(0.0, 0.06), person.random()
    centre = canvas.somewhere(rng, 0.3)
    radius = rng.uniform(*domain.lesion_radius)
    radii = (radius * rng.uniform(0.7, 1.0), radius * rng.uniform(0.95, 1.25))
    wave = domain.irregularity * 0.07 * radius
    warp = (wave * fractal_noise(rng, canvas, 30.0, 2.5), wave * fractal_noise(rng, canvas, 30.0, 2.5))
    rho = radial(canvas, centre, radii, rng.uniform(0, np.pi), outline(rng, domain.irregularity), warp)
    mask = rho < 1.0

    melanin = 0.08 + tone + 0.025 * fractal_noise(rng, canvas, 120.0, 2.5)
    blood = 0.08 + redness + 0.03 * fractal_noise(rng, canvas, 80.0, 2.0)
    count = rng.poisson(domain.freckles)
    freckles = spots(rng, canvas, _anywhere(rng, canvas, count), rng.uniform(3, 11, count), 0.25)
    melanin = melanin + rng.uniform(0.15, 0.45) * sigmoid((1.0 - freckles) * 5.0)

    density = _pigment(rng, canvas, domain, rho, centre, radius)
    redder = domain.blood * rng.random()
    relief = 0.025 * fractal_noise(rng, canvas, 160.0) + 0.012 * band_noise(rng, canvas, 5.0, 0.6)
    image = flat(domain.skin, 1.0 + relief)
    image = absorb(image, np.maximum(melanin, 0.0) + density * (1.0 - 0.6 * redder), _MELANIN)
    image = absorb(image, np.maximum(blood, 0.0) + density * 1.1 * redder, _BLOOD)
    if rng.random() < 0.25:
        veil = sigmoid(2.0 * fractal_noise(rng, canvas, 70.0, 2.5) - 1.0) * sigmoid((0.75 - rho) * 9.0)
        image = mix(image, (0.40, 0.42, 0.52), 0.45 * veil)

    count = round(domain.hairs[0] + (domain.hairs[1] - domain.hairs[0]) * hairiness)
    image = mix(image, (0.16, 0.10, 0.08), 0.85 * _hairs(rng, canvas, count))
    image = _marks(rng, canvas, image, domain)
    away = rng.uniform(0, 2 * np.pi)
    bright = (40.0 * math.sin(away), 40.0 * math.cos(away))
    shade = 1.0 - domain.shade * np.minimum(radial(canvas, bright, (180.0, 180.0)) ** 2, 1.2)
    if domain.lens_radius:
        rim = radial(canvas, (rng.normal(0, 3), rng.normal(0, 3)), (domain.lens_radius, domain.lens_radius * 1.04))
        shade = shade * (0.06 + 0.94 * sigmoid((1.0 - rim) * 28.0))
        mask &= rim < 1.0
    return image * shade, mask

"""Skin lesions under a dermatoscope: pigment in skin, hairs, the dark edge of the lens, ruler and ink marks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import absorb, band_noise, flat, fractal_noise, mix, sigmoid
from harness.data.phantoms.shapes import bezier, coverage, outline, radial, tubes, wander

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
    lens_radius: float
    marks: float


DOMAINS: dict[str, DermoscopyDomain] = {
    "clinic_a": DermoscopyDomain(
        description="pink skin, polarised light, few hairs; lesions brown to red, of middle size",
        images_per_subject=2,
        blur=0.6,
        noise=0.012,
        skin=(0.86, 0.62, 0.60),
        lesion_radius=(30, 62),
        irregularity=0.28,
        softness=3.0,
        pigment=(0.45, 1.3),
        network=0.30,
        blood=0.6,
        hairs=(0, 7),
        freckles=1,
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
        skin=(0.78, 0.66, 0.58),
        lesion_radius=(16, 36),
        irregularity=0.20,
        softness=2.2,
        pigment=(0.40, 1.1),
        network=0.15,
        blood=0.3,
        hairs=(0, 14),
        freckles=3,
        lens_radius=0.0,
        marks=0.65,
    ),
    "clinic_c": DermoscopyDomain(
        description="old lens with a dark rim, strong contrast; large notched lesions with net and dots, much hair",
        size=(0.9375, 0.9375),
        images_per_subject=2,
        blur=0.5,
        noise=0.015,
        gain=(1.05, 0.95, 0.84),
        contrast=1.18,
        gamma=1.1,
        skin=(0.84, 0.66, 0.54),
        lesion_radius=(42, 84),
        irregularity=0.45,
        softness=4.5,
        pigment=(0.35, 1.2),
        network=0.65,
        blood=0.15,
        hairs=(4, 22),
        freckles=0,
        lens_radius=122.0,
        marks=0.0,
    ),
}


def _hairs(rng: np.random.Generator, canvas: Canvas, count: int) -> FloatArray:
    """Opacity of hairs, (H, W)."""
    points, radii = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.float32)]
    for _ in range(count):
        start = tuple(rng.uniform(-1.1, 1.1, 2) * canvas.half)
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
        y, left, length = half_y * rng.uniform(0.72, 0.85), -half_x * rng.uniform(0.1, 0.8), half_x * rng.uniform(0.6, 0.9)
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
            start = tuple(rng.choice([-1, 1], 2) * rng.uniform(0.5, 0.85, 2) * canvas.half)
            stroke, _ = wander(rng, start, rng.uniform(0, np.pi), rng.uniform(15, 40), spacing, 0.2, 0.1)
            ink = coverage(tubes(canvas, stroke, np.full(len(stroke), rng.uniform(0.8, 1.8), np.float32)), canvas)
            image = mix(image, (0.36, 0.24, 0.55), 0.55 * ink * (0.6 + 0.4 * rng.random(canvas.shape, dtype=np.float32)))
    return image


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: DermoscopyDomain
) -> tuple[FloatArray, BoolArray]:
    """One lesion: scene (H, W, 3) in [0, 1] and mask (H, W). `person` gives the traits that a subject's images share."""
    tone, redness, hairiness = person.normal(0.0, 0.08), person.normal(0.0, 0.07), person.random()

    fine = band_noise(rng, canvas, 5.0, 0.6)
    image = flat(domain.skin, 1.0 + 0.04 * fractal_noise(rng, canvas, 160.0) + 0.015 * fine)
    image = absorb(image, np.maximum(0.1 + tone + 0.03 * fractal_noise(rng, canvas, 90.0), 0.0), _MELANIN)
    image = absorb(image, np.maximum(0.1 + redness + 0.05 * fractal_noise(rng, canvas, 60.0, 1.6), 0.0), _BLOOD)
    for _ in range(rng.poisson(domain.freckles)):
        centre = tuple(rng.uniform(-0.95, 0.95, 2) * canvas.half)
        spot = radial(canvas, centre, tuple(rng.uniform(3, 13, 2)), rng.uniform(0, np.pi), outline(rng, 0.25))
        image = absorb(image, rng.uniform(0.15, 0.45) * sigmoid((1.0 - spot) * 5.0), _MELANIN)

    radius = rng.uniform(*domain.lesion_radius)
    centre = tuple(rng.uniform(-0.3, 0.3, 2) * canvas.half)
    radii = (radius * rng.uniform(0.7, 1.0), radius * rng.uniform(0.95, 1.25))
    wave = domain.irregularity * 0.12 * radius
    warp = (wave * fractal_noise(rng, canvas, 40.0, 2.5), wave * fractal_noise(rng, canvas, 40.0, 2.5))
    rho = radial(canvas, centre, radii, rng.uniform(0, np.pi), outline(rng, domain.irregularity), warp)
    mask = rho < 1.0

    # Pigment fades towards the border, more on one side, and is patchy: the centre alone is a poor mask.
    side = rng.uniform(0, 2 * np.pi)
    slant = (math.cos(side) * (canvas.x - centre[1]) + math.sin(side) * (canvas.y - centre[0])) / radius
    patches = fractal_noise(rng, canvas, radius * 0.8, 2.0)
    density = 0.75 + 0.35 * np.clip(1.0 - rho, 0.0, 1.0) + 0.18 * slant + 0.22 * patches
    net = 0.6 - np.abs(band_noise(rng, canvas, 7.0, 0.3))
    dots = np.clip(band_noise(rng, canvas, 9.0, 0.5) - 1.6, 0.0, 1.0)
    density = density + domain.network * (0.5 * net + 1.2 * dots)
    edge = sigmoid((1.0 - rho) * np.float32(radius / domain.softness))
    density = np.clip(density, 0.25, 2.2) * edge * np.float32(rng.uniform(*domain.pigment))
    blood = domain.blood * rng.random()
    image = absorb(absorb(image, density * (1.0 - 0.6 * blood), _MELANIN), density * 1.1 * blood, _BLOOD)
    if rng.random() < 0.25:
        veil = np.clip(fractal_noise(rng, canvas, radius) - 0.3, 0.0, 0.6) * (rho < 0.8)
        image = mix(image, (0.42, 0.46, 0.56), veil)

    count = round(domain.hairs[0] + (domain.hairs[1] - domain.hairs[0]) * hairiness)
    image = mix(image, (0.16, 0.10, 0.08), 0.85 * _hairs(rng, canvas, count))
    image = _marks(rng, canvas, image, domain)
    shade = 1.0 - 0.12 * radial(canvas, (0.0, 0.0), (150.0, 150.0)) ** 2
    if domain.lens_radius:
        rim = radial(canvas, tuple(rng.normal(0, 3, 2)), (domain.lens_radius, domain.lens_radius * 1.04))
        shade = shade * (0.06 + 0.94 * sigmoid((1.0 - rim) * 28.0))
    return image * shade[..., None], mask

"""Colour photographs of the retina: optic disc, fovea and the vessel tree, whose mask is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import absorb, band_noise, flat, fractal_noise, mix, sigmoid
from harness.data.phantoms.shapes import coverage, outline, radial, spots, tubes, wander

_BLOOD = (0.30, 1.0, 0.75)
_PIGMENT = (0.6, 0.9, 1.0)
_THINNEST = 0.55


@dataclass(frozen=True, kw_only=True)
class FundusDomain(Domain):
    """Lengths in reference pixels.

    Attributes:
        retina: mean colour.
        disc_offset: distance of the disc from the middle; small = disc-centred.
        vessel_radius: radius of the largest vessels at the disc.
        branches: mean number of branches that leave a large vessel.
        tortuosity: tremble of the vessels, radians.
        vessel_density: optical density of the blood column.
        choroid: strength of the texture behind the retina.
        lesions: mean number of haemorrhages and of exudates; none belongs to the mask.
        shade: how much darker the edge of the field is.
        aperture: radius of the field of view.
    """

    retina: tuple[float, float, float]
    disc_offset: float
    vessel_radius: float
    branches: float
    tortuosity: float
    vessel_density: float
    choroid: float
    lesions: float
    shade: float
    aperture: float


DOMAINS: dict[str, FundusDomain] = {
    "camera_a": FundusDomain(
        description="45 degrees, between disc and fovea, even orange light, sharp; healthy screening",
        images_per_subject=2,
        blur=0.6,
        noise=0.015,
        retina=(0.88, 0.48, 0.26),
        disc_offset=78,
        vessel_radius=2.4,
        branches=7,
        tortuosity=0.16,
        vessel_density=0.9,
        choroid=0.05,
        lesions=0.3,
        shade=0.25,
        aperture=122,
    ),
    "camera_b": FundusDomain(
        description="30 degrees, disc-centred, children: wide red vessels with reflex, dark uneven edge, visible choroid",
        zoom=1.0,
        size=(0.9375, 0.9375),
        images_per_subject=2,
        blur=1.0,
        noise=0.03,
        gain=(1.0, 0.74, 0.5),
        contrast=1.1,
        retina=(0.92, 0.44, 0.20),
        disc_offset=8,
        vessel_radius=3.4,
        branches=4,
        tortuosity=0.28,
        vessel_density=0.7,
        choroid=0.16,
        lesions=0.0,
        shade=0.75,
        aperture=114,
    ),
    "camera_c": FundusDomain(
        description="wide field cut above and below, thin dense vessels, magenta cast, low contrast; diabetic lesions",
        size=(0.875, 1.125),
        blur=0.9,
        noise=0.03,
        gain=(0.86, 0.92, 1.25),
        contrast=0.85,
        gamma=0.85,
        retina=(0.72, 0.36, 0.28),
        disc_offset=64,
        vessel_radius=2.0,
        branches=9,
        tortuosity=0.22,
        vessel_density=0.85,
        choroid=0.10,
        lesions=9.0,
        shade=0.45,
        aperture=136,
    ),
}


def _grow(
    rng: np.random.Generator, canvas: Canvas, domain: FundusDomain, disc: tuple[float, float], side: float, vein: bool
) -> tuple[FloatArray, FloatArray]:
    """The arterial or the venous tree: points (N, 2) and radii (N,).

    Four large vessels leave the disc, two of which bend around the fovea; a branch has half to four fifths of its
    parent's radius.
    """
    spacing = 0.7 / canvas.scale
    queue = []
    for vertical in (-1.0, 1.0):
        for temporal in (True, False):
            # Headings for a disc on the left (temporal = towards +x); mirrored below where it is on the right.
            lean = rng.normal(1.35 if temporal else 2.35, 0.14) + (0.12 if vein else -0.08)
            bend = rng.normal(-1.7 if temporal else 0.2, 0.2) * vertical
            radius = domain.vessel_radius * rng.uniform(0.85, 1.1)
            radius = radius * (1.1 if vein else 0.85) * (1.0 if temporal else 0.8)
            queue.append((disc, lean * vertical, bend, rng.uniform(170, 230), radius, 0))
    points, radii = [], []
    while queue:
        start, heading, bend, length, radius, depth = queue.pop()
        curve, headings = wander(rng, start, heading, length, spacing, bend, domain.tortuosity)
        taper = np.linspace(radius, max(radius * 0.45, _THINNEST), len(curve), dtype=np.float32)
        points.append(curve)
        radii.append(taper)
        if depth == 2:
            continue
        turn = 1.0
        count = rng.poisson(domain.branches / (1 + depth))
        # Spread along the vessel: purely random places would leave long stretches bare.
        for position in (np.arange(count) + rng.uniform(0, 1, count)) / max(count, 1):
            at = int((0.08 + 0.08 * depth + 0.84 * position) * (len(curve) - 1) * 0.99)
            turn = -turn if rng.random() < 0.75 else turn
            child = taper[at] * rng.uniform(0.5, 0.8)
            if child >= _THINNEST * 0.9:
                angle = headings[at] + turn * rng.uniform(0.5, 1.1)
                reach = length * rng.uniform(0.25, 0.5)
                back = -turn * rng.uniform(0.0, 0.6)
                queue.append((tuple(curve[at]), angle, back, reach, max(child, _THINNEST), depth + 1))
    # In small images the thinnest vessels would break into dots, so none is thinner than most of a pixel.
    tree, thickness = np.concatenate(points), np.maximum(np.concatenate(radii), 0.4 / canvas.scale)
    if side > 0:
        tree[:, 1] = 2 * disc[1] - tree[:, 1]
    return tree, thickness


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: FundusDomain
) -> tuple[FloatArray, BoolArray]:
    """One photograph: scene (3, H, W) in [0, 1] and the mask of the vessels (H, W)."""
    tone, tigroid = person.normal(0.0, 0.12), person.uniform(0.6, 1.4)
    side = 1.0 if rng.random() < 0.5 else -1.0
    disc = (rng.normal(0, 5), side * domain.disc_offset + rng.normal(0, 5))
    fovea = (disc[0] + rng.normal(8, 3), disc[1] - side * 92.0)
    disc_radius = 15.0 * rng.uniform(0.85, 1.15)

    clouds = fractal_noise(rng, canvas, 110.0)
    image = flat(domain.retina, 1.0 + 0.06 * clouds)
    stripes = np.abs(band_noise(rng, canvas, 22.0, 0.4, (1.0, 1.8)))
    pigment = 0.15 + tone * 0.5 + tigroid * domain.choroid * (fractal_noise(rng, canvas, 60.0) - 0.7 * stripes)
    macula = radial(canvas, fovea, (24.0, 26.0))
    image = absorb(image, np.maximum(pigment, 0.0) + 0.55 * np.exp(-(macula**2)), _PIGMENT)
    image = image * (1.0 + 0.03 * band_noise(rng, canvas, 4.0, 0.7))

    head = radial(canvas, disc, (disc_radius * 1.08, disc_radius), 0.0, outline(rng, 0.06))
    cup = radial(canvas, (disc[0], disc[1] - side * 1.5), (disc_radius * 0.5, disc_radius * 0.45))
    image = mix(image, (0.98, 0.74, 0.42), 0.85 * sigmoid((1.0 - head) * 9.0))
    image = mix(image, (1.0, 0.92, 0.70), 0.7 * sigmoid((1.0 - cup) * 5.0))
    dark, bright = rng.poisson(domain.lesions, 2)
    centres = rng.uniform(-0.7, 0.7, (dark, 2)) * domain.aperture
    blots = spots(rng, canvas, centres, rng.uniform(1.2, 4.2, dark), 0.4)
    image = absorb(image, 0.8 * sigmoid((1.0 - blots) * 5.0), _BLOOD)
    exudates = spots(rng, canvas, fovea + rng.normal(0, 28, (bright, 2)), rng.uniform(0.8, 2.4, bright), 0.4)
    image = mix(image, (0.98, 0.88, 0.5), 0.8 * sigmoid((1.0 - exudates) * 4.0))

    field = radial(canvas, (0.0, 0.0), (domain.aperture, domain.aperture))
    mask = np.zeros(canvas.shape, dtype=bool)
    for vein in (False, True):
        points, radii = _grow(rng, canvas, domain, disc, side, vein)
        # The fovea has no vessels, and what leaves the picture need not be drawn.
        away = np.hypot(points[:, 0] - fovea[0], points[:, 1] - fovea[1]) > 15.0
        keep = away & (np.hypot(points[:, 0], points[:, 1]) < domain.aperture + 3)
        distance = tubes(canvas, points[keep], radii[keep])
        mask |= distance < 0
        # A thin vessel holds less blood: its density follows its own depth below the surface.
        column = coverage(distance, canvas) * np.clip(0.55 - 0.32 * distance, 0.35, 1.1)
        density = domain.vessel_density * (1.15 if vein else 0.8) * column
        image = absorb(image, density, _BLOOD)
        if not vein:
            reflex = np.exp(-(((distance + 0.8 * domain.vessel_radius) / 0.45) ** 2))
            image = mix(image, (1.0, 0.78, 0.6), 0.35 * reflex)
    mask &= field < 1.0

    angle = rng.uniform(0, 2 * np.pi)
    lean = (math.cos(angle) * canvas.x + math.sin(angle) * canvas.y) / domain.aperture
    light = 1.0 - domain.shade * np.clip(field, 0.0, 1.0) ** 2 * (0.7 + 0.3 * lean)
    light = light * sigmoid((1.0 - field) * 90.0)
    return image * light, mask

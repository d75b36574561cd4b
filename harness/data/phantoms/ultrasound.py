"""Breast lesions in B-mode ultrasound: layered tissue, Rayleigh speckle, log compression, shadow or enhancement behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import band_noise, blur, fractal_noise, sigmoid
from harness.data.phantoms.shapes import lettering, outline, radial


@dataclass(frozen=True, kw_only=True)
class UltrasoundDomain(Domain):
    """Lengths in reference pixels, levels in decibels, ranges as (least, most).

    Attributes:
        cell: axial and lateral sigma of the point spread, which sets the size of the speckle.
        dynamic_range: what the grey scale spans.
        level: of average tissue below white.
        fade: loss over the height of the image.
        layers: how much tissue layers differ.
        lesion_radius: of the lesion.
        irregularity: of its outline.
        lesion_level: echo of the lesion against the tissue around it.
        behind: change below the lesion; negative = shadow, positive = enhancement.
        rim: echo of the halo around the lesion.
        curved: whether the probe is convex (a fan) instead of linear.
        labels: whether letters are burnt in.
    """

    cell: tuple[float, float]
    dynamic_range: float
    level: float
    fade: float
    layers: float
    lesion_radius: tuple[float, float]
    irregularity: float
    lesion_level: tuple[float, float]
    behind: tuple[float, float]
    rim: float
    curved: bool
    labels: bool


DOMAINS: dict[str, UltrasoundDomain] = {
    "probe_a": UltrasoundDomain(
        description="linear probe, fine speckle, wide grey scale; mostly smooth lesions with enhancement",
        images_per_subject=2,
        blur=0.6,
        noise=0.01,
        cell=(0.8, 1.1),
        dynamic_range=58,
        level=21,
        fade=12,
        layers=5.0,
        lesion_radius=(20, 46),
        irregularity=0.22,
        lesion_level=(-17, -9),
        behind=(-4, 8),
        rim=2.0,
        curved=False,
        labels=False,
    ),
    "probe_b": UltrasoundDomain(
        description="older linear probe, coarse speckle, hard grey scale; spiculated lesions with strong shadow",
        size=(1.125, 0.875),
        images_per_subject=2,
        blur=0.8,
        noise=0.02,
        contrast=1.1,
        cell=(1.2, 2.3),
        dynamic_range=40,
        level=19,
        fade=20,
        layers=7.0,
        lesion_radius=(16, 38),
        irregularity=0.50,
        lesion_level=(-17, -8),
        behind=(-16, -4),
        rim=4.5,
        curved=False,
        labels=True,
    ),
    "probe_c": UltrasoundDomain(
        description="convex probe: fan, smoothed speckle, grey haze, small low-contrast lesions in deep tissue",
        size=(0.9375, 0.9375),
        blur=1.3,
        noise=0.015,
        gamma=0.8,
        contrast=0.9,
        cell=(1.0, 1.5),
        dynamic_range=62,
        level=24,
        fade=8,
        layers=8.0,
        lesion_radius=(15, 36),
        irregularity=0.32,
        lesion_level=(-17, -8),
        behind=(-9, 5),
        rim=1.0,
        curved=True,
        labels=True,
    ),
}


def _tissue(rng: np.random.Generator, canvas: Canvas, domain: UltrasoundDomain) -> FloatArray:
    """Echo level of healthy tissue in decibels, (H, W): skin, fat lobules, gland, muscle with fibres, deep bright lines."""
    waves = 0.045 * fractal_noise(rng, canvas, 130.0, 2.5, (1.0, 1.6))
    depth = (canvas.y + canvas.half[0]) / (2 * canvas.half[0]) + waves
    fat, gland = rng.uniform(0.08, 0.34), rng.uniform(0.48, 0.85)
    is_fat, is_muscle = sigmoid((fat - depth) * 22.0), sigmoid((depth - gland) * 22.0)
    is_gland = 1.0 - np.maximum(is_fat, is_muscle)
    septa = np.clip(1.0 - 2.2 * np.abs(band_noise(rng, canvas, 48.0, 0.5, (0.8, 1.8))), 0.0, 1.0)
    streaks = np.clip(band_noise(rng, canvas, 20.0, 0.6, (0.7, 4.0)) - 0.6, 0.0, 2.0)
    fibres = band_noise(rng, canvas, 13.0, 0.6, (0.8, 6.0))
    lobules = fractal_noise(rng, canvas, 34.0, 2.0, (1.0, 1.8))
    echo: FloatArray = is_fat * (-0.9 + 1.6 * septa)
    echo = echo + is_gland * (0.2 + 0.6 * lobules + 0.5 * septa + 0.8 * streaks)
    echo = echo + is_muscle * (-0.8 + 0.75 * fibres)
    fascia = rng.uniform(0.3, 1.8) * np.exp(-(((depth - gland) / 0.014) ** 2))
    skin = 2.0 * sigmoid((0.035 - depth) * 120.0)
    return domain.layers * (echo + fascia + skin)


def _fan(canvas: Canvas, image: FloatArray, mask: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Bends a picture drawn as (depth, angle) into the fan of a convex probe."""
    half_y = canvas.half[0]
    apex = -half_y - 1.05 * half_y
    distance = np.hypot(canvas.y - apex, canvas.x)
    angle = np.arctan2(canvas.x, canvas.y - apex)
    inner, outer, widest = 1.07 * half_y, 3.02 * half_y, 0.50
    row = (distance - inner) / (outer - inner) * (canvas.height - 1)
    column = (angle / widest + 1.0) / 2.0 * (canvas.width - 1)
    bent = ndimage.map_coordinates(image, [row, column], order=1, cval=0.0)
    # Linear interpolation of 0/1 cut at one half: the outline stays where it is, to less than a pixel.
    bent_mask = ndimage.map_coordinates(mask.astype(np.float32), [row, column], order=1, cval=0.0) > 0.5
    return bent, bent_mask


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: UltrasoundDomain
) -> tuple[FloatArray, BoolArray]:
    """One image: scene (H, W) in [0, 1] and mask (H, W)."""
    echo = _tissue(rng, canvas, domain) + person.normal(0.0, 1.5)

    radius = rng.uniform(*domain.lesion_radius)
    half_y, half_x = canvas.half
    centre = (rng.uniform(-0.45, 0.25) * half_y, rng.uniform(-0.5, 0.5) * half_x)
    radii = (radius * rng.uniform(0.6, 0.95), radius * rng.uniform(0.95, 1.35))
    ragged = domain.irregularity * 0.10 * radius
    warp = (ragged * fractal_noise(rng, canvas, 24.0, 2.2), ragged * fractal_noise(rng, canvas, 24.0, 2.2))
    rho = radial(canvas, centre, radii, rng.normal(0.0, 0.25), outline(rng, domain.irregularity, 10), warp)
    mask = rho < 1.0
    inside = sigmoid((1.0 - rho) * np.float32(radius / 1.3))
    surroundings = blur(echo, 20.0, canvas)
    content = surroundings + rng.uniform(*domain.lesion_level) + 1.6 * fractal_noise(rng, canvas, 16.0)
    echo = echo * (1 - inside) + content * inside
    echo = echo + domain.rim * np.exp(-(((rho - 1.08) * radius / 3.0) ** 2))

    # Sound that has crossed the lesion is weaker (shadow) or stronger (enhancement) all the way down.
    crossed = np.cumsum(mask, axis=0, dtype=np.float32) / np.float32(canvas.scale * radii[0])
    path = ndimage.gaussian_filter1d(np.minimum(crossed, 1.0), 3.0 * canvas.scale, axis=1)
    echo = echo + rng.uniform(*domain.behind) * path * (1 - inside)
    # Other shadows, from ribs or poor contact, that mean nothing.
    for _ in range(rng.poisson(0.8)):
        band = np.exp(-(((canvas.x - rng.uniform(-1, 1) * half_x) / rng.uniform(6, 16)) ** 2))
        echo = echo - rng.uniform(2, 9) * band * sigmoid((canvas.y - rng.uniform(-1.0, 0.5) * half_y) / 8.0)
    deep = (canvas.y + half_y) / (2 * half_y)
    echo = echo - domain.fade * np.maximum(deep - 0.25, 0.0)

    # Many scatterers per cell: a complex Gaussian field, whose envelope is Rayleigh distributed.
    amplitude = 10.0 ** (echo / 20.0)
    sigma = tuple(cell * canvas.scale for cell in domain.cell)
    parts = [
        ndimage.gaussian_filter(amplitude * rng.standard_normal(canvas.shape, dtype=np.float32), sigma, truncate=3.0)
        for _ in range(2)
    ]
    envelope = np.hypot(*parts) * np.float32(np.sqrt(2 * np.pi * sigma[0] * sigma[1]))
    level = 20.0 * np.log10(np.maximum(envelope, 1e-6)) - domain.level
    image = np.clip(1.0 + level / domain.dynamic_range, 0.0, 1.0).astype(np.float32)
    if domain.curved:
        image, mask = _fan(canvas, image, mask)
    if domain.labels:
        corner = (half_y * rng.uniform(0.8, 0.9), half_x * rng.uniform(-0.9, 0.3))
        image = np.maximum(image, 0.9 * lettering(rng, canvas, corner, int(rng.integers(4, 12)), 6.0))
    return image, mask

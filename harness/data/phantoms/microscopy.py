"""Nuclei under the microscope: dark in H&E-stained tissue, bright in fluorescence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import absorb, band_noise, blur, flat, fractal_noise, sigmoid
from harness.data.phantoms.shapes import stamp


@dataclass(frozen=True, kw_only=True)
class MicroscopyDomain(Domain):
    """Lengths in reference pixels, ranges as (least, most).

    Attributes:
        fluorescence: bright nuclei on black instead of stained ones on light.
        nuclei: number on a 256 x 256 field.
        radius: of a nucleus.
        elongation: length over breadth.
        spacing: least distance of two nuclei, as part of the sum of their radii; below 1 they overlap.
        stain: optical density (H&E) or brightness (fluorescence) of nuclei.
        haematoxylin, eosin: absorption of the two stains per channel.
        background: eosin of the tissue; in fluorescence, the haze.
        fibres: strength and wavelength of the texture of the tissue.
        holes: part of the field without tissue.
    """

    fluorescence: bool
    nuclei: tuple[int, int]
    radius: tuple[float, float]
    elongation: float
    spacing: float
    stain: tuple[float, float]
    haematoxylin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    eosin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    background: float
    fibres: tuple[float, float]
    holes: float


DOMAINS: dict[str, MicroscopyDomain] = {
    "stain_lab_a": MicroscopyDomain(
        description="H&E, violet haematoxylin on pale pink tissue with holes; oval nuclei of middle size",
        images_per_subject=2,
        blur=0.6,
        noise=0.02,
        fluorescence=False,
        nuclei=(55, 95),
        radius=(5.0, 8.5),
        elongation=1.3,
        spacing=0.9,
        stain=(0.8, 1.5),
        haematoxylin=(0.85, 1.05, 0.45),
        eosin=(0.10, 0.75, 0.35),
        background=0.55,
        fibres=(0.35, 30.0),
        holes=0.15,
    ),
    "stain_lab_b": MicroscopyDomain(
        description="H&E from a brown-purple thick section: dense tissue, small long crowded nuclei, little contrast, soft",
        size=(0.9375, 0.9375),
        images_per_subject=2,
        blur=1.1,
        noise=0.03,
        gain=(0.92, 0.86, 1.0),
        contrast=0.9,
        fluorescence=False,
        nuclei=(110, 170),
        radius=(3.2, 6.0),
        elongation=1.9,
        spacing=0.8,
        stain=(0.6, 1.15),
        haematoxylin=(0.95, 0.85, 0.40),
        eosin=(0.35, 0.85, 0.40),
        background=0.75,
        fibres=(0.42, 20.0),
        holes=0.03,
    ),
    "fluorescence_c": MicroscopyDomain(
        description="fluorescence: bright nuclei of very unequal brightness on black, haze, photon noise; large cells",
        size=(0.875, 1.125),
        blur=1.0,
        noise=0.03,
        fluorescence=True,
        nuclei=(14, 55),
        radius=(6.0, 12.0),
        elongation=1.3,
        spacing=1.05,
        stain=(0.15, 0.9),
        background=0.05,
        fibres=(0.5, 60.0),
        holes=0.0,
    ),
}


def _place(rng: np.random.Generator, canvas: Canvas, domain: MicroscopyDomain) -> tuple[FloatArray, FloatArray]:
    """Centres (N, 2) and radii (N,) of nuclei that keep their distance; denser in some parts than in others."""
    half_y, half_x = canvas.half
    field = 4.0 * half_y * half_x / 256.0**2
    wanted = max(3, round(rng.uniform(*domain.nuclei) * field))
    crowding = fractal_noise(rng, canvas, 90.0, 2.0)
    count = wanted * 8
    centres = rng.uniform(-1.02, 1.02, (count, 2)) * (half_y, half_x)
    radii = rng.uniform(*domain.radius, count)
    pixels = np.rint(centres * canvas.scale + np.array([canvas.height / 2, canvas.width / 2])).astype(np.int64)
    pixels = np.clip(pixels, 0, np.array([canvas.height - 1, canvas.width - 1]))
    likely = rng.random(count) < sigmoid(1.5 * crowding[pixels[:, 0], pixels[:, 1]])
    chosen: list[int] = []
    for index in np.flatnonzero(likely):
        gap = np.hypot(*(centres[chosen] - centres[index]).T)
        if np.all(gap > domain.spacing * (radii[chosen] + radii[index])):
            chosen.append(int(index))
            if len(chosen) == wanted:
                break
    return centres[chosen].astype(np.float32), radii[chosen].astype(np.float32)


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: MicroscopyDomain
) -> tuple[FloatArray, BoolArray]:
    """One field: scene (3, H, W) in [0, 1] and the mask of all nuclei (H, W)."""
    strength, balance = math.exp(person.normal(0.0, 0.1)), math.exp(person.normal(0.0, 0.1))
    centres, radii = _place(rng, canvas, domain)
    density = rng.uniform(*domain.stain, len(radii))
    rho, stain = stamp(rng, canvas, centres, radii, density, 0.14, domain.elongation)
    mask = rho < 1.0
    mean_radius = sum(domain.radius) / 2
    inside = sigmoid((1.0 - rho) * np.float32(mean_radius * 1.6))
    chromatin = band_noise(rng, canvas, 4.5, 0.6)

    if domain.fluorescence:
        glow = stain * inside * (0.8 + 0.25 * np.clip(1.0 - rho, 0.0, 1.0) + 0.10 * chromatin)
        # Light from outside the focal plane: a haze around nuclei and blurred nuclei that are not in the mask.
        haze = domain.background * np.exp(domain.fibres[0] * fractal_noise(rng, canvas, domain.fibres[1]))
        haze = haze + 0.25 * blur(glow, 9.0, canvas)
        clumps = np.clip(fractal_noise(rng, canvas, 40.0, 3.0) - 1.4, 0.0, 1.0) * 0.18
        light = strength * (glow + haze + clumps)
        shot = 0.05 * np.sqrt(np.maximum(light, 0.0)) * rng.standard_normal(canvas.shape, dtype=np.float32)
        return flat((1.0, 1.0, 1.0), np.clip(light + shot, 0.0, 1.0)), mask

    weight, wavelength = domain.fibres
    stretch = (1.0, 2.0) if rng.random() < 0.5 else (2.0, 1.0)
    texture = 0.6 * fractal_noise(rng, canvas, wavelength, 1.4, stretch) + 0.6 * fractal_noise(rng, canvas, 70.0)
    eosin = domain.background * strength * np.exp(weight * texture)
    void = fractal_noise(rng, canvas, 45.0, 2.0)
    threshold = np.quantile(void, 1.0 - domain.holes) if domain.holes else np.inf
    tissue = sigmoid((np.float32(threshold) - void) * 14.0) if domain.holes else np.ones(canvas.shape, np.float32)
    eosin = eosin * np.maximum(tissue, inside) * (1.0 - 0.5 * inside)
    # Chromatin is clumped and gathers at the nuclear membrane; the cytoplasm around takes up some haematoxylin too.
    membrane = np.exp(-(((rho - 0.88) * mean_radius / 0.9) ** 2))
    basic = 0.10 * np.clip(fractal_noise(rng, canvas, 25.0) + 0.4, 0.0, 2.0) * tissue
    basic = basic + 0.12 * np.exp(-((rho / 1.4) ** 4)) * tissue
    haematoxylin = balance * (basic + inside * stain * (0.75 + 0.22 * chromatin + 0.3 * membrane))
    image = flat((0.96, 0.95, 0.96), np.ones(canvas.shape, np.float32))
    image = absorb(image, np.maximum(eosin, 0.0), domain.eosin)
    return absorb(image, np.maximum(haematoxylin, 0.0), domain.haematoxylin), mask

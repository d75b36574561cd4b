"""Frontal chest radiographs, drawn as attenuation along the ray: trunk, lungs, heart, spine, ribs, clavicles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.phantoms.canvas import BoolArray, Canvas, Domain, FloatArray
from harness.data.phantoms.optics import band_noise, fractal_noise, sigmoid
from harness.data.phantoms.shapes import bezier, lettering, radial, tubes, wander


@dataclass(frozen=True, kw_only=True)
class XrayDomain(Domain):
    """Lengths in reference pixels.

    Attributes:
        lung_height, lung_width: half height (apex to the widest level) and half width of one lung.
        heart: radius of the heart.
        tissue: attenuation of the trunk; large = corpulent, little contrast.
        air: how much less a lung attenuates.
        bone: attenuation of ribs, clavicles and spine.
        vessels: attenuation of the vessels around the hilum.
        opacity: probability of an infiltrate or effusion; the mask includes it.
        border: probability of a black collimated border below.
        labels: whether letters are burnt in.
    """

    lung_height: float
    lung_width: float
    heart: float
    tissue: float
    air: float
    bone: float
    vessels: float
    opacity: float
    border: float
    labels: bool


DOMAINS: dict[str, XrayDomain] = {
    "hospital_a": XrayDomain(
        description="digital, even contrast, clear ribs; slim adults",
        images_per_subject=2,
        blur=0.6,
        noise=0.012,
        lung_height=140,
        lung_width=45,
        heart=40,
        tissue=1.35,
        air=0.85,
        bone=0.15,
        vessels=0.10,
        opacity=0.15,
        border=0.0,
        labels=True,
    ),
    "hospital_b": XrayDomain(
        description="scanned film: pale, saturated mediastinum and belly, soft ribs; broad lungs close to the border",
        zoom=1.06,
        blur=1.3,
        noise=0.02,
        contrast=0.85,
        gamma=0.62,
        lung_height=150,
        lung_width=48,
        heart=36,
        tissue=1.75,
        air=0.80,
        bone=0.08,
        vessels=0.08,
        opacity=0.05,
        border=0.0,
        labels=False,
    ),
    "hospital_c": XrayDomain(
        description="hard dark film with collimated border; tuberculosis clinic: short lungs, large hearts, opacities",
        size=(0.875, 1.125),
        zoom=0.88,
        images_per_subject=2,
        blur=0.8,
        noise=0.035,
        contrast=1.3,
        gamma=1.45,
        lung_height=112,
        lung_width=44,
        heart=48,
        tissue=1.15,
        air=0.75,
        bone=0.22,
        vessels=0.13,
        opacity=0.65,
        border=0.6,
        labels=True,
    ),
}


def _bones(rng: np.random.Generator, canvas: Canvas, width: float, height: float, top: float) -> FloatArray:
    """Thickness of ribs and clavicles, (H, W): edges (cortical bone) denser than the inside."""
    spacing = 0.9 / canvas.scale
    curves, radii = [], []
    edge = 2.15 * width
    for side in (-1.0, 1.0):
        gap = height * rng.uniform(0.125, 0.14)
        for rib in range(11):
            y = top - 6 + gap * rib + rng.normal(0, 0.8)
            # The chest is narrow at the apex, so upper ribs are short and strongly bent.
            reach = edge * (1.0 - 0.45 * max(0.0, 1.0 - rib / 4.0) ** 1.5)
            curves.append(bezier([(y, side * 9), (y - 9, side * reach * 0.75), (y + gap * 1.5, side * reach)], spacing))
            radii.append(np.full(len(curves[-1]), 3.3, np.float32))
            if 1 <= rib <= 7:
                start, end = (y + gap * 1.3, side * reach), (y + gap * 2.9, side * 30)
                curves.append(bezier([start, (y + gap * 2.7, side * reach * 0.9), end], spacing))
                radii.append(np.full(len(curves[-1]), 2.6, np.float32))
        y = top + 14
        curves.append(bezier([(y + 6, side * 8), (y - 2, side * 45), (y - 22, side * 100)], spacing))
        radii.append(np.full(len(curves[-1]), 3.8, np.float32))
    # Bones that cross add up in a radiograph, so posterior, anterior and clavicle are drawn in separate layers.
    total = np.zeros(canvas.shape, np.float32)
    for radius in (3.3, 2.6, 3.8):
        chosen = [index for index in range(len(curves)) if radii[index][0] == np.float32(radius)]
        distance = tubes(
            canvas, np.concatenate([curves[i] for i in chosen]), np.concatenate([radii[i] for i in chosen])
        )
        inside = sigmoid(-distance * 2.5)
        total += inside * (0.6 + 0.5 * np.exp(-((distance + 0.8) ** 2)))
    return total


def _hilum(rng: np.random.Generator, canvas: Canvas, heart: float) -> FloatArray:
    """Thickness of the vessels that fan out from each hilum, (H, W)."""
    curves, radii = [], []
    for side in (-1.0, 1.0):
        for _ in range(13):
            start = (rng.normal(8, 6), side * (heart * 0.55 + rng.normal(4, 3)))
            heading = rng.uniform(-1.3, 1.5)
            heading = heading if side > 0 else np.pi - heading
            length, bend = rng.uniform(22, 60), rng.normal(0, 0.5)
            curve, _ = wander(rng, start, heading, length, 0.9 / canvas.scale, bend, 0.35)
            curves.append(curve)
            radii.append(np.linspace(rng.uniform(0.7, 2.2), 0.1, len(curve), dtype=np.float32))
    distance = tubes(canvas, np.concatenate(curves), np.concatenate(radii), reach=2.0)
    thickness: FloatArray = np.clip(1.2 - distance, 0.0, 2.5)
    return thickness


def _heart(y: FloatArray, x: FloatArray, heart: float, floor: float, aorta: float) -> tuple[FloatArray, FloatArray]:
    """Relative distance (1 = outline) from the heart and from the arch of the aorta, both (H, W).

    The heart lies on the diaphragm, its long axis from the right shoulder to the left (the image's right) hip.
    """
    along = 0.80 * (x - heart * 0.40) + 0.60 * (y - (floor - heart * 0.66))
    across = 0.80 * (y - (floor - heart * 0.66)) - 0.60 * (x - heart * 0.40)
    return np.hypot(across / (heart * 0.84), along / (heart * 1.2)), np.hypot((y - aorta) / 15.0, (x - 11.0) / 13.0)


def _lung_depth(
    y: FloatArray,
    x: FloatArray,
    width: float,
    height: float,
    floor: float,
    drop: float,
    organs: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Depth inside the lungs, (H, W) reference pixels: to the nearest of chest wall, mediastinum, heart and diaphragm.

    Args:
        floor: level of the diaphragm; the right one is `drop` higher.
        organs: distances from heart and aorta.
    """
    middle = floor - 32
    centre = width * 1.12
    below = np.where(y > middle, np.float32(2.2 * height), np.float32(height))
    lungs = []
    for side in (-1.0, 1.0):
        u = side * x
        # A superellipse with exponent 2.5: squarer than an ellipse, but still round at the apex.
        beside, above = np.abs(u - centre) / width, np.abs(y - middle) / below
        wall = (1.0 - beside**2 * np.sqrt(beside) - above**2 * np.sqrt(above)) * (width / 2.5)
        medial = u - (11.0 + 6.0 * sigmoid((y - middle + 0.7 * height) / 10.0))
        arch = np.exp(-(((u - centre * 0.92) / (width * 0.85)) ** 2))
        lower = (floor + 14.0 - (drop if side < 0 else -drop * 0.3)) - 22.0 * arch - y
        beside_organs = np.minimum(*organs) if side > 0 else organs[0]
        lungs.append(np.minimum(np.minimum(wall, medial), np.minimum(lower, beside_organs)))
    depth: FloatArray = np.maximum(*lungs)
    return depth


def draw(
    rng: np.random.Generator, person: np.random.Generator, canvas: Canvas, domain: XrayDomain
) -> tuple[FloatArray, BoolArray]:
    """One radiograph: scene (H, W) in [0, 1], bright = dense, and the mask of both lungs (H, W)."""
    build = person.normal(0.0, 0.06, 3)
    width, height = domain.lung_width * (1 + build[0]), domain.lung_height * (1 + build[1])
    heart, tissue = domain.heart * (1 + build[2]), domain.tissue * (1 + person.normal(0.0, 0.06))
    # Breath and position differ between two images of a person.
    floor = rng.normal(72, 7)
    top, tilt = floor - 32 - height, rng.normal(0, 0.02)
    y = canvas.y + tilt * canvas.x + np.float32(rng.normal(0, 4))
    x = canvas.x - tilt * canvas.y + np.float32(rng.normal(0, 4))
    y = y + 1.2 * fractal_noise(rng, canvas, 45.0, 2.5)
    x = x + 1.2 * fractal_noise(rng, canvas, 45.0, 2.5)

    heart_rho, aorta_rho = _heart(y, x, heart, floor, top + height * 0.42)
    organs = ((heart_rho - 1.0) * heart, (aorta_rho - 1.0) * 14.0)
    depth = _lung_depth(y, x, width, height, floor, rng.normal(5, 4), organs)
    mask = depth > 0

    # The trunk is an ellipse in cross section; shoulders and neck change its width from top to bottom.
    levels = [top - 60, top - 28, top - 8, top + 30, floor - 30, floor + 90]
    widths = [24.0, 28.0, 3.1 * width, 3.3 * width, 2.55 * width, 2.45 * width]
    half = np.interp(y, levels, widths).astype(np.float32)
    trunk = np.sqrt(np.clip(1.0 - (x / half) ** 2, 0.0, 1.0))
    density = tissue * trunk * (1.0 + 0.03 * fractal_noise(rng, canvas, 60.0, 1.6))
    chambers = np.sqrt(np.clip(1.15 - heart_rho**2, 0.0, 1.0)) * (1.0 - sigmoid((heart_rho - 1.0) * 14.0))
    arch = 0.4 * sigmoid((1.0 - aorta_rho) * 7.0)
    belly = 0.55 * tissue * sigmoid((y - floor + 10.0) / 9.0)
    middle_organs = 0.25 * np.exp(-((x / 15.0) ** 4))
    # Organs touch, so their shadows blend: the largest counts most.
    density += 0.8 * np.maximum(np.maximum(0.5 * chambers, belly), np.maximum(arch, middle_organs)) * (trunk > 0)
    density += 0.2 * (0.5 * chambers + belly) * trunk
    spine = np.exp(-((x / 9.0) ** 2)) * (1.0 + 0.2 * np.sin(y * (2 * np.pi / 13.0)))
    density += (0.12 + domain.bone) * spine * (trunk > 0)
    air = sigmoid(depth / 0.9) * (0.55 + 0.45 * np.clip(depth / (0.4 * width), 0.0, 1.0))
    density -= domain.air * air
    density += domain.bone * _bones(rng, canvas, width, height, top) * (trunk > 0.05)
    density += domain.vessels * _hilum(rng, canvas, heart) * (0.15 + 0.85 * mask)
    density += 0.035 * band_noise(rng, canvas, 5.0, 0.8) * mask
    if rng.random() < domain.opacity:
        side = 1.0 if rng.random() < 0.5 else -1.0
        centre = (rng.uniform(top + 30, floor), side * width * 1.1)
        where = radial(canvas, centre, (rng.uniform(18, 45), rng.uniform(18, 45)))
        cloud = np.clip(1.15 - where, 0.0, 1.0) * np.clip(0.8 + 0.4 * fractal_noise(rng, canvas, 26.0, 2.6), 0.0, 2.0)
        density += rng.uniform(0.45, 0.9) * cloud * sigmoid(depth / 1.5)

    image = 1.0 - np.exp(-0.95 * np.clip(density, 0.0, None))
    image = np.clip((image - 0.12) / 0.74, 0.0, 1.0)
    if rng.random() < domain.border:
        edge = canvas.half[0] * rng.uniform(0.78, 0.95)
        dark = canvas.y + rng.normal(0, 0.03) * canvas.x > edge
        image[dark] = 0.02
        mask &= ~dark
    if domain.labels:
        corner = (-canvas.half[0] * 0.9, canvas.half[1] * rng.choice([-0.92, 0.72]))
        image = np.maximum(image, 0.95 * lettering(rng, canvas, corner, 3, 8.0))
    return image.astype(np.float32), mask

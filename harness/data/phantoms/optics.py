"""Textures, blur, colour and noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from harness.data.phantoms.canvas import Canvas, Domain, FloatArray


@lru_cache(maxsize=64)
def _frequency(height: int, width: int, scale: float, stretch: tuple[float, float]) -> FloatArray:
    """Length of the frequency vector of each bin of a real FFT, in cycles per reference pixel."""
    fy = np.fft.fftfreq(height)[:, None] * scale * stretch[0]
    fx = np.fft.rfftfreq(width)[None, :] * scale * stretch[1]
    return np.hypot(fy, fx).astype(np.float32)


def _filtered(rng: np.random.Generator, canvas: Canvas, amplitude: FloatArray) -> FloatArray:
    """White noise with the given amplitude per frequency; zero mean, unit standard deviation."""
    white = rng.standard_normal(canvas.shape, dtype=np.float32)
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=canvas.shape).astype(np.float32)
    return field / max(float(field.std()), 1e-12)


def fractal_noise(
    rng: np.random.Generator,
    canvas: Canvas,
    wavelength: float,
    slope: float = 2.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> FloatArray:
    """Cloud-like noise: flat up to `wavelength` (reference pixels), then falling as frequency ** -slope.

    Args:
        stretch: how many times longer the structures are along y and x.

    Returns:
        (H, W) float32, zero mean, unit standard deviation.
    """
    frequency = _frequency(*canvas.shape, canvas.scale, stretch)
    return _filtered(rng, canvas, (1.0 + (frequency * wavelength) ** 2) ** (-slope / 2))


def band_noise(
    rng: np.random.Generator,
    canvas: Canvas,
    wavelength: float,
    octaves: float = 0.4,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> FloatArray:
    """Noise around one wavelength (reference pixels): grains, nets (its absolute value) and dots (its peaks).

    Returns:
        (H, W) float32, zero mean, unit standard deviation.
    """
    ratio = np.maximum(_frequency(*canvas.shape, canvas.scale, stretch) * wavelength, 1e-6)
    return _filtered(rng, canvas, np.exp(-((np.log2(ratio) / octaves) ** 2) / 2).astype(np.float32))


def blur(image: FloatArray, sigma: float, canvas: Canvas) -> FloatArray:
    """Gaussian point spread of `sigma` reference pixels on (H, W) or (H, W, 3)."""
    pixels = sigma * canvas.scale
    if pixels < 0.1:
        return image
    return ndimage.gaussian_filter(image, (pixels, pixels, 0.0)[: image.ndim], mode="nearest", truncate=3.0)


def sigmoid(values: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))


def absorb(image: FloatArray, density: FloatArray, spectrum: tuple[float, float, float]) -> FloatArray:
    """Beer-Lambert: light of (H, W, 3) that passes a pigment of optical density (H, W) with an absorption per channel."""
    return image * np.exp(-density[..., None] * np.float32(spectrum))


def mix(image: FloatArray, colour: tuple[float, float, float], amount: FloatArray) -> FloatArray:
    """(H, W, 3) with `colour` laid over it, opaque where `amount` (H, W) is 1."""
    return image + (np.float32(colour) - image) * amount[..., None]


def flat(colour: tuple[float, float, float], brightness: FloatArray) -> FloatArray:
    """(H, W, 3) of one colour at a brightness (H, W)."""
    return np.float32(colour) * brightness[..., None]


def acquire(rng: np.random.Generator, scene: FloatArray, domain: Domain, canvas: Canvas) -> NDArray[np.uint8]:
    """Takes the picture: point spread, colour response, tone curve, noise that grows with light, 8 bits.

    Args:
        scene: (H, W, 3) or (H, W) in [0, 1].

    Returns:
        uint8 of the same shape.
    """
    # The lens is of the device, not of the scene: its blur does not grow with the magnification.
    seen = np.clip(blur(scene, domain.blur / domain.zoom, canvas), 0.0, 1.0)
    if seen.ndim == 3:
        seen = seen * np.float32(domain.gain)
    seen = np.clip((seen - 0.5) * domain.contrast + 0.5, 0.0, 1.0) ** np.float32(domain.gamma)
    deviation = domain.noise * np.sqrt(0.15 + 0.85 * seen)
    seen = seen + deviation * rng.standard_normal(seen.shape, dtype=np.float32)
    return np.rint(np.clip(seen, 0.0, 1.0) * 255.0).astype(np.uint8)

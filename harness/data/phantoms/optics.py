"""Textures, blur, colour and noise. Colour scenes are planar, (3, H, W) float32: NumPy is fastest along the rows."""

from __future__ import annotations

import math
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
    frequency: FloatArray = np.hypot(fy, fx).astype(np.float32)
    return frequency


@lru_cache(maxsize=96)
def _fractal_amplitude(
    height: int, width: int, scale: float, wavelength: float, slope: float, stretch: tuple[float, float]
) -> FloatArray:
    frequency = _frequency(height, width, scale, stretch)
    return (1.0 + (frequency * np.float32(wavelength)) ** 2) ** np.float32(-slope / 2)


@lru_cache(maxsize=96)
def _band_amplitude(
    height: int, width: int, scale: float, wavelength: float, octaves: float, stretch: tuple[float, float]
) -> FloatArray:
    ratio = np.maximum(_frequency(height, width, scale, stretch) * np.float32(wavelength), np.float32(1e-6))
    amplitude: FloatArray = np.exp(-((np.log2(ratio) / np.float32(octaves)) ** 2) / 2)
    return amplitude


def _filtered(rng: np.random.Generator, canvas: Canvas, amplitude: FloatArray) -> FloatArray:
    """Noise with the given amplitude per frequency; zero mean, unit standard deviation."""
    # The spectrum of white noise is white noise too, so it is drawn there: that saves the forward transform.
    spectrum = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0] * amplitude
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=canvas.shape).astype(np.float32)
    return field / max(math.sqrt(float(np.mean(np.square(field)))), 1e-12)


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
    return _filtered(rng, canvas, _fractal_amplitude(*canvas.shape, canvas.scale, wavelength, slope, stretch))


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
    return _filtered(rng, canvas, _band_amplitude(*canvas.shape, canvas.scale, wavelength, octaves, stretch))


def blur(image: FloatArray, sigma: float, canvas: Canvas) -> FloatArray:
    """Gaussian point spread of `sigma` reference pixels on (H, W) or (3, H, W)."""
    pixels = sigma * canvas.scale
    if pixels < 0.1:
        return image
    sigmas = (0.0, pixels, pixels)[-image.ndim :]
    blurred: FloatArray = ndimage.gaussian_filter(image, sigmas, mode="nearest", truncate=3.0)
    return blurred


def _column(colour: tuple[float, float, float]) -> FloatArray:
    return np.array(colour, dtype=np.float32)[:, None, None]


def sigmoid(values: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))


def absorb(image: FloatArray, density: FloatArray, spectrum: tuple[float, float, float]) -> FloatArray:
    """Beer-Lambert: light (3, H, W) that passes a pigment of optical density (H, W) with an absorption per channel."""
    return image * np.exp(density * -_column(spectrum))


def mix(image: FloatArray, colour: tuple[float, float, float], amount: FloatArray) -> FloatArray:
    """(3, H, W) with `colour` laid over it, opaque where `amount` (H, W) is 1."""
    return image + (_column(colour) - image) * amount


def flat(colour: tuple[float, float, float], brightness: FloatArray) -> FloatArray:
    """(3, H, W) of one colour at a brightness (H, W)."""
    return _column(colour) * brightness


def acquire(rng: np.random.Generator, scene: FloatArray, domain: Domain, canvas: Canvas) -> NDArray[np.uint8]:
    """Takes the picture: point spread, colour response, tone curve, noise that grows with light, 8 bits.

    Args:
        scene: (3, H, W) or (H, W) in [0, 1].

    Returns:
        (H, W, 3) or (H, W) uint8.
    """
    # The lens is of the device, not of the scene: its blur does not grow with the magnification.
    seen = np.clip(blur(scene, domain.blur / domain.zoom, canvas), 0.0, 1.0)
    if seen.ndim == 3:
        seen = seen * _column(domain.gain)
    seen = np.clip((seen - 0.5) * domain.contrast + 0.5, 0.0, 1.0) ** np.float32(domain.gamma)
    deviation = domain.noise * np.sqrt(0.15 + 0.85 * seen)
    seen = seen + deviation * rng.standard_normal(seen.shape, dtype=np.float32)
    picture = np.rint(np.clip(seen, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(1, 2, 0)) if picture.ndim == 3 else picture

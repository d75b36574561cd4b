"""From a trained method to one row of metrics per image, at each mask's native resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from harness.config import MetricsConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.loader import Batch, evaluation_batches
from harness.data.dataset import Sample
from harness.errors import TrialFailed
from harness.evaluation.rows import image_row
from harness.files import atomic_path
from harness.hardware import autocast
from harness.training.validation import predicted_logits

if TYPE_CHECKING:
    import numpy as np


def evaluate(
    method: torch.nn.Module,
    keys: Sequence[str],
    role: str,
    *,
    cache: ArrayCache,
    samples: dict[str, Sample],
    modalities: list[str],
    batch_size: int,
    device: torch.device,
    amp: str,
    metrics: MetricsConfig,
    predictions: Path | None = None,
) -> list[dict[str, Any]]:
    """Predicts the images `keys` and measures each mask.

    Logits are brought to the reference mask's own size (bilinear, as SAM does) and cut at 0, that is at a probability
    of 0.5. Nothing of the reference reaches the prediction, but where the method's card says "oracle".

    Args:
        role: `test` or `validation`, kept in each row.
        predictions: folder for the predicted masks as 1-bit PNG, or None.

    Returns:
        One `harness.evaluation.rows.image_row` per image, with guessed_modality where the method guesses it.

    Raises:
        TrialFailed: the method gave logits of a wrong shape or type, or NaN or infinite ones.
    """
    method.eval()
    rows = []
    for batch in _batches(method, cache, keys, modalities, samples, batch_size):
        batch = batch.to(device)
        logits = predicted_logits(method, batch, amp, adapting=True)
        if not torch.isfinite(logits).all():
            # Infinite ones too: resizing them gives NaN, and NaN would count as background.
            raise TrialFailed(f"{type(method).__name__}.predict gave NaN or infinite logits.")
        guesses = _guessed_modalities(method, batch, modalities, amp)
        for key, image_logits, guess in zip(batch.keys, logits, guesses, strict=True):
            sample = samples[key]
            predicted = native_mask(image_logits, sample.height, sample.width)
            if predictions is not None:
                write_mask(predictions / f"{key}.png", predicted)
            rows.append({**image_row(sample, predicted, role, metrics), **guess})
    return rows


def _batches(
    method: torch.nn.Module,
    cache: ArrayCache,
    keys: Sequence[str],
    modalities: list[str],
    samples: dict[str, Sample],
    batch_size: int,
) -> Iterator[Batch]:
    """The images in their order; for a method that learns from them, domain by domain, each met by the trained weights."""
    if not hasattr(method, "predict_adapting"):
        yield from evaluation_batches(cache, keys, modalities, samples, batch_size)
        return
    domains: dict[str, list[str]] = {}
    for key in keys:
        domains.setdefault(samples[key].domain_key, []).append(key)
    try:
        for domain in domains.values():
            method.reset_adaptation()  # type: ignore[operator]
            yield from evaluation_batches(cache, domain, modalities, samples, batch_size)
    finally:
        method.reset_adaptation()  # type: ignore[operator]


def native_mask(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Logits (1, S, S) float -> mask (height, width) bool."""
    resized = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).cpu().numpy()


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Keeps a mask (H, W) bool as a 1-bit PNG."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def _guessed_modalities(
    method: torch.nn.Module, batch: Batch, modalities: Sequence[str], amp: str
) -> list[dict[str, str]]:
    """For each image the column with the modality that the method took it for; no column where it guesses none."""
    if not hasattr(method, "guess_modality"):
        return [{}] * len(batch)
    with torch.inference_mode(), autocast(batch.images.device, amp):
        guesses = method.guess_modality(batch.images)  # type: ignore[operator]
    numbers = guesses.tolist() if guesses.shape == (len(batch),) else []
    if not numbers or not all(isinstance(n, int) and 0 <= n < len(modalities) for n in numbers):
        raise TrialFailed(
            f"{type(method).__name__}.guess_modality gave {guesses.dtype} of shape {tuple(guesses.shape)}: expected"
            f" ({len(batch)},) int64, each 0 to {len(modalities) - 1}."
        )
    return [{"guessed_modality": modalities[number]} for number in numbers]

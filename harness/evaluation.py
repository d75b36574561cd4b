"""From a trained method to one row of metrics per image, at each mask's native resolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from harness.config import MetricsConfig
from harness.data.cache import ArrayCache
from harness.data.dataset import Sample
from harness.data.images import read_mask
from harness.data.loading import evaluation_batches
from harness.errors import TrialFailed
from harness.files import atomic_path
from harness.metrics import PixelCounts, evaluate_pair
from harness.training import autocast

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
    of 0.5. Nothing of the reference reaches the prediction.

    Args:
        role: `test` or `validation`, kept in each row.
        predictions: folder for the predicted masks as 1-bit PNG, or None.

    Returns:
        One dict per image: key, modality, domain, id, subject, role, width, height and the columns of
        `harness.metrics.evaluate_pair` (distances in pixels of the native mask).

    Raises:
        TrialFailed: the method gave logits of a wrong shape or type, or NaN or infinite ones.
    """
    method.eval()
    rows = []
    for batch in evaluation_batches(cache, keys, modalities, samples, batch_size):
        batch = batch.to(device)
        with torch.inference_mode(), autocast(device, amp):
            logits = method.predict(batch.images, batch.modality)  # type: ignore[operator]
        if logits.dtype == torch.bool:
            raise TrialFailed(f"{type(method).__name__}.predict gave a mask of bool, expected logits.")
        logits = logits.float()
        _check_logits(method, logits, batch.masks.shape)
        for key, image_logits in zip(batch.keys, logits, strict=True):
            sample = samples[key]
            predicted = native_mask(image_logits, sample.height, sample.width)
            reference = read_mask(sample.mask)
            counts = PixelCounts.of(predicted, reference)
            measured = evaluate_pair(predicted, reference, nsd_tolerance=metrics.nsd_tolerance, empty=metrics.empty)
            if predictions is not None:
                write_mask(predictions / f"{key}.png", predicted)
            rows.append(
                {
                    "key": key,
                    "modality": sample.modality,
                    "domain": sample.domain,
                    "id": sample.id,
                    "subject": sample.subject,
                    "role": role,
                    "width": sample.width,
                    "height": sample.height,
                    **measured,
                    "reference_pixels": counts.reference,
                    "predicted_pixels": counts.predicted,
                    "empty": counts.empty,
                }
            )
    return rows


def native_mask(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """Logits (1, S, S) float -> mask (height, width) bool."""
    resized = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).cpu().numpy()


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Keeps a mask (H, W) bool as a 1-bit PNG."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def _check_logits(method: torch.nn.Module, logits: torch.Tensor, expected: torch.Size) -> None:
    name = type(method).__name__
    if logits.shape != expected:
        raise TrialFailed(f"{name}.predict gave logits of shape {tuple(logits.shape)}, expected {tuple(expected)}.")
    if not torch.isfinite(logits).all():
        # Infinite ones too: resizing them gives NaN, and NaN would count as background.
        raise TrialFailed(f"{name}.predict gave NaN or infinite logits.")

"""`predict_images`: a method and images -> masks at the size of the images' own references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.loader import Batch, evaluation_batches
from harness.data.batches.pixels import Pixels, Source
from harness.data.dataset import Sample
from harness.methods.adapter import MethodAdapter


@dataclass(frozen=True)
class Prediction:
    """The mask (H, W) bool of one image, and the modality that the method took it for where it guesses one."""

    key: str
    mask: NDArray[np.bool_]
    guessed_modality: str | None


def predict_images(
    method: torch.nn.Module,
    keys: Sequence[str],
    *,
    cache: ArrayCache,
    samples: dict[str, Sample],
    modalities: list[str],
    batch_size: int,
    device: torch.device,
    amp: str,
    source: Source | None = None,
) -> Iterator[Prediction]:
    """Predicts the images `keys`, in their order, a batch at a time.

    Logits are brought to the reference mask's own size (bilinear, as SAM does) and cut at 0, that is at a probability
    of 0.5. Nothing of the reference reaches the prediction, but where the method's card says "oracle".

    Args:
        source: of other pixels of the same images; None: those of the cache.

    Raises:
        TrialFailed: the method gave logits of a wrong shape or type, or NaN or infinite ones.
    """
    adapter = MethodAdapter(method)
    # What comes from elsewhere need not lie in the GPU's memory as well.
    pixels = Pixels(cache, keys, device) if source is None else Pixels(cache, keys, device, share=0.0)
    method.eval()
    adapter.accelerate(cache.image_size, batch_size, amp)
    # Batches of one domain only where a method adapts to it: elsewhere full ones are faster.
    for part in adapter.by_domain(_by_domain(keys, samples) if adapter.adapts else [keys]):
        for batch in evaluation_batches(pixels, part, modalities, samples, batch_size, source):
            yield from _predict_batch(adapter, batch, samples, modalities, amp)


def _predict_batch(
    adapter: MethodAdapter, batch: Batch, samples: dict[str, Sample], modalities: list[str], amp: str
) -> Iterator[Prediction]:
    logits = adapter.test_logits(batch, amp)
    guesses = adapter.guessed_names(batch, modalities, amp)
    for key, image_logits, guess in zip(batch.keys, logits, guesses, strict=True):
        yield Prediction(key, native_mask(image_logits, samples[key].height, samples[key].width), guess)


def _by_domain(keys: Sequence[str], samples: dict[str, Sample]) -> list[list[str]]:
    domains: dict[str, list[str]] = {}
    for key in keys:
        domains.setdefault(samples[key].domain_key, []).append(key)
    return list(domains.values())


def native_mask(logits: torch.Tensor, height: int, width: int) -> NDArray[np.bool_]:
    """Logits (1, S, S) float -> mask (height, width) bool."""
    resized = F.interpolate(logits[None], (height, width), mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).cpu().numpy()

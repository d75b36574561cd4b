"""`predict_images`: a method and images -> masks at the size of the images' own references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.geometry import Layout, MergedLogits
from harness.data.batches.loader import Batch, evaluation_batches
from harness.data.batches.pixels import Pixels, Source
from harness.data.dataset import Sample
from harness.methods.adapter import MethodAdapter

Guessed = str | None


@dataclass(frozen=True)
class Prediction:
    """The mask (H, W) bool of one image, and the modality that the method took it for where it guesses one."""

    key: str
    mask: NDArray[np.bool_]
    guessed_modality: Guessed


def predict_images(
    method: torch.nn.Module | MethodAdapter,
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

    Logits are brought to the reference mask's own size, as `cache.layouts` say, and cut at 0, that is at a probability of
    0.5. Nothing of the reference reaches the prediction, but where the method's card says "oracle". With tiles such a method
    is prompted with the reference inside each window, and a method that adapts meets window after window.

    Args:
        method: the adapter of one whose weights stay as they are keeps its fastest form from call to call.
        source: of other pixels of the same images; None: those of the cache.

    Raises:
        TrialFailed: the method gave logits of a wrong shape or type, or NaN or infinite ones.
    """
    adapter = method if isinstance(method, MethodAdapter) else MethodAdapter(method)
    # What comes from elsewhere need not lie in the GPU's memory as well.
    pixels = Pixels(cache, keys, device) if source is None else Pixels(cache, keys, device, share=0.0)
    adapter.module.eval()
    adapter.accelerate(cache.image_size, batch_size, amp)
    # Batches of one domain only where a method adapts to it: elsewhere full ones are faster.
    for part in adapter.by_domain(_by_domain(keys, samples) if adapter.adapts else [keys]):
        batches = evaluation_batches(pixels, part, modalities, samples, batch_size, source)
        answers = (answer for batch in batches for answer in _answers(adapter, batch, modalities, amp))
        layouts = (cache.layout_of(samples[key]) for key in part)
        for key, (mask, guess) in zip(part, merged(layouts, answers), strict=True):
            yield Prediction(key, mask, guess)


def merged(
    layouts: Iterator[Layout], answers: Iterator[tuple[Tensor, Guessed]]
) -> Iterator[tuple[NDArray[np.bool_], Guessed]]:
    """The native mask of each image, and what most of its arrays were taken for (of several the first).

    Args:
        answers: logits (1, S, S) and guess for each array, image after image; no more are taken than the next mask needs.
    """
    for layout in layouts:
        logits, guesses = MergedLogits(layout), Counter[Guessed]()
        for number in range(layout.count):
            own, guess = next(answers)
            logits.add(number, own[0])
            guesses[guess] += 1
        yield logits.mask(), guesses.most_common(1)[0][0]


def _answers(adapter: MethodAdapter, batch: Batch, modalities: list[str], amp: str) -> Iterator[tuple[Tensor, Guessed]]:
    logits = adapter.test_logits(batch, amp)
    return zip(logits, adapter.guessed_names(batch, modalities, amp), strict=True)


def _by_domain(keys: Sequence[str], samples: dict[str, Sample]) -> list[list[str]]:
    domains: dict[str, list[str]] = {}
    for key in keys:
        domains.setdefault(samples[key].domain_key, []).append(key)
    return list(domains.values())

"""The score that compares the epochs of a fit."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import torch

from harness.data.batches.loader import Batch
from harness.methods.adapter import MethodAdapter


def macro_dice(method: MethodAdapter, batches: Iterable[Batch], amp: str) -> float:
    """Dice at the network's resolution: mean over a domain's images, then over domains; NaN without images.

    The native resolution's metrics are for the tested weights; this one only compares epochs.
    """
    method.module.eval()
    values: list[torch.Tensor] = []
    keys: list[str] = []
    for batch in batches:
        predicted, reference = method.logits(batch, amp) > 0, batch.masks > 0.5
        common = (predicted & reference).sum((1, 2, 3))
        both = predicted.sum((1, 2, 3)) + reference.sum((1, 2, 3))
        values.append(torch.where(both > 0, 2 * common / both.clamp(min=1), 1.0))
        keys += batch.keys
    if not keys:
        return float("nan")
    by_domain: dict[str, list[float]] = {}
    # Read once: each reading waits for the device.
    for key, value in zip(keys, torch.cat(values).tolist(), strict=True):
        by_domain.setdefault(key.rsplit("/", 1)[0], []).append(value)
    return fmean(fmean(found) for found in by_domain.values())

"""The score that compares the epochs of a fit."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import torch

from harness.data.batches.loader import Batch
from harness.methods.adapter import MethodAdapter


def macro_dice(method: MethodAdapter, batches: Iterable[Batch], amp: str) -> float:
    """Dice at the network's resolution: mean over a domain's images, then over domains; NaN without images.

    The native resolution's metrics are for the tested weights; this one only compares epochs. With tiles an image's pixels are
    those of windows that cover it, each by itself, and in two where they meet; black padding counts as background.
    """
    method.module.eval()
    counts: list[torch.Tensor] = []
    keys: list[str] = []
    for batch in batches:
        predicted, reference = method.logits(batch, amp) > 0, batch.masks > 0.5
        common = (predicted & reference).sum((1, 2, 3))
        counts.append(torch.stack([common, predicted.sum((1, 2, 3)) + reference.sum((1, 2, 3))]))
        keys += batch.keys
    if not keys:
        return float("nan")
    # Read once: each reading waits for the device.
    images: dict[str, list[int]] = {}
    for key, common, both in zip(keys, *torch.cat(counts, 1).tolist(), strict=True):
        found = images.setdefault(key, [0, 0])
        found[0], found[1] = found[0] + common, found[1] + both
    common, both = torch.tensor(list(images.values())).unbind(1)
    values = torch.where(both > 0, 2 * common / both.clamp(min=1), 1.0).tolist()
    by_domain: dict[str, list[float]] = {}
    for key, value in zip(images, values, strict=True):
        by_domain.setdefault(key.rsplit("/", 1)[0], []).append(value)
    return fmean(fmean(found) for found in by_domain.values())

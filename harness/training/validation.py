"""The score that compares the epochs of a fit."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from harness.data.batches.loader import Batch
from harness.methods.adapter import MethodAdapter


def macro_dice(method: MethodAdapter, batches: Iterable[Batch], amp: str) -> float:
    """Dice at the network's resolution: mean over a domain's images, then over domains; NaN without images.

    The native resolution's metrics are for the tested weights; this one only compares epochs.
    """
    method.module.eval()
    by_domain: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        predicted, reference = method.logits(batch, amp) > 0, batch.masks > 0.5
        common = (predicted & reference).sum((1, 2, 3))
        both = predicted.sum((1, 2, 3)) + reference.sum((1, 2, 3))
        dice = torch.where(both > 0, 2 * common / both.clamp(min=1), torch.ones_like(both, dtype=torch.float32)).cpu()
        for key, value in zip(batch.keys, dice, strict=True):
            by_domain.setdefault(key.rsplit("/", 1)[0], []).append(value)
    if not by_domain:
        return float("nan")
    return float(torch.stack([torch.stack(values).mean() for values in by_domain.values()]).mean())

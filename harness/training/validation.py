"""A method's answer to a batch, and the score that compares the epochs of a fit."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from harness.data.batches.loader import Batch
from harness.errors import TrialFailed
from harness.hardware import autocast


def answer(
    method: torch.nn.Module,
    images: torch.Tensor,
    modality: torch.Tensor,
    masks: torch.Tensor,
    *,
    adapting: bool = False,
) -> torch.Tensor:
    """What the method's `predict` gives, or its `predict_oracle`, which is shown the true masks (B, 1, S, S), too.

    Args:
        adapting: the images are tested: a method that learns from them by its `predict_adapting` does so.
    """
    if adapting and hasattr(method, "predict_adapting"):
        return method.predict_adapting(images, modality)  # type: ignore[operator]
    if hasattr(method, "predict_oracle"):
        return method.predict_oracle(images, modality, masks)  # type: ignore[operator]
    return method.predict(images, modality)  # type: ignore[operator]


def predicted_logits(method: torch.nn.Module, batch: Batch, amp: str, *, adapting: bool = False) -> torch.Tensor:
    """Logits (B, 1, S, S) float32 of a batch that lies on the method's device.

    Args:
        adapting: see `answer`.

    Raises:
        TrialFailed: the method gave something of another shape, or a mask of bool.
    """
    learns = adapting and hasattr(method, "predict_adapting")
    with torch.inference_mode(not learns), autocast(batch.images.device, amp):
        logits = answer(method, batch.images, batch.modality, batch.masks, adapting=adapting).detach()
    name = type(method).__name__
    if logits.shape != batch.masks.shape:
        raise TrialFailed(
            f"{name}.predict gave logits of shape {tuple(logits.shape)}, expected {tuple(batch.masks.shape)}."
        )
    if logits.dtype == torch.bool:
        raise TrialFailed(f"{name}.predict gave a mask of bool, expected logits.")
    return logits.float()


def macro_dice(method: torch.nn.Module, batches: Iterable[Batch], amp: str) -> float:
    """Dice at the network's resolution: mean over a domain's images, then over domains; NaN without images.

    The native resolution's metrics are for the tested weights; this one only compares epochs.
    """
    method.eval()
    by_domain: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        predicted, reference = predicted_logits(method, batch, amp) > 0, batch.masks > 0.5
        common = (predicted & reference).sum((1, 2, 3))
        both = predicted.sum((1, 2, 3)) + reference.sum((1, 2, 3))
        dice = torch.where(both > 0, 2 * common / both.clamp(min=1), torch.ones_like(both, dtype=torch.float32)).cpu()
        for key, value in zip(batch.keys, dice, strict=True):
            by_domain.setdefault(key.rsplit("/", 1)[0], []).append(value)
    if not by_domain:
        return float("nan")
    return float(torch.stack([torch.stack(values).mean() for values in by_domain.values()]).mean())

"""What algorithms share that compare a method's predictions on several views of the same images.

A method may offer `loss_and_logits(batch, step) -> (loss, parts, logits (B, 1, H, W))`: what `training_loss` gives, and
the logits of the same pass. It saves a pass; without it, `predict` is asked once more. A method with an attribute
`takes_modality_list` that is true takes modalities as a list of int, too, which a GPU need not be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def loss_and_logits(method: Any, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any], Tensor]:
    """The training loss of a batch, its parts, and the logits (B, 1, H, W) with their graph."""
    if hasattr(method, "loss_and_logits"):
        answer: tuple[Tensor, dict[str, Any], Tensor] = method.loss_and_logits(batch, step)
        return answer
    loss, parts = method.training_loss(batch, step)
    return loss, parts, logits_of(method, [batch.images], batch)


def logits_of(method: nn.Module, views: Sequence[Tensor], batch: Any) -> Tensor:
    """The logits (V * B, 1, H, W) of V views of the batch's images, in one pass, with their graph."""
    images = torch.cat(list(views))
    takes_list = getattr(method, "takes_modality_list", False)
    modality = batch.modality_list * len(views) if takes_list else batch.modality.repeat(len(views))
    logits: Tensor
    if hasattr(method, "predict_oracle"):
        logits = method.predict_oracle(images, modality, batch.masks.repeat(len(views), 1, 1, 1))  # type: ignore[operator]
    else:
        logits = method.predict(images, modality)  # type: ignore[operator]
    return logits


def divergence(logits: Tensor, views: int, *, from_mean: bool = False) -> Tensor:
    """Mean over views and pixels of the Kullback-Leibler divergence between each view's and the mean Bernoulli; a scalar.

    In float32, and 0 where all views agree.

    Args:
        logits: (views * B, 1, H, W), view by view.
        from_mean: KL(mean | view); else KL(view | mean), whose mean over views is the Jensen-Shannon divergence.
    """
    with torch.autocast(logits.device.type, enabled=False):
        # Both classes' logits, on a first axis: (2, views, ...).
        signed = torch.stack([logits, -logits]).float().unflatten(1, (views, -1))
        probability, log_probability = signed.sigmoid(), F.logsigmoid(signed)
        mean = probability.mean(1, keepdim=True)
        difference = log_probability - mean.clamp(min=1e-7).log()
        terms = -mean * difference if from_mean else probability * difference
        value: Tensor = terms.sum(0).mean()
    return value

"""DSU: the style of features is drawn from how much it varies over the batch.

Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022, arXiv 2202.03958.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.changed_features import ChangedFeatures
from baselines.algorithms.draws import sent


class DSU(ChangedFeatures):
    """Means and standard deviations get Gaussian noise, as large as they vary from image to image.

    The variation is that between images of the same modality in the batch (the paper has one modality, and takes the
    batch); an image alone of its modality stays as it is. Gradients pass through, as in the paper. All feature layers are
    changed, as in the official code, which has six places in a ResNet.

    Args:
        probability: 0.5: the official code's, and the paper's for PACS.
    """

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module], probability: float = 0.5) -> None:
        super().__init__(modalities, method, probability)

    def style(self, mean: Tensor, std: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return tuple(
            value + _noise(value.shape, value.device) * _variation(value, batch.modality) for value in (mean, std)
        )  # type: ignore[return-value]


def _noise(shape: torch.Size, device: torch.device) -> Tensor:
    return sent(torch.randn(shape), device)


def _variation(values: Tensor, modality: Tensor) -> Tensor:
    """Standard deviation (B, C) of values (B, C) over the images of each one's modality; 0 for an image alone."""
    same = (modality[:, None] == modality).to(values.dtype)
    count = same.sum(1, keepdim=True)
    mean = same @ values / count
    variance = same @ (values - mean).square() / (count - 1).clamp(min=1)
    return torch.where(count > 1, (variance + 1e-6).sqrt(), 0.0)

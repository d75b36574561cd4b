"""Mixing of Fourier amplitudes: another domain's style under the same content.

Xu et al., "A Fourier-based Framework for Domain Generalization" (FACT), CVPR 2021, arXiv 2105.11120: all frequencies.
Liu et al., "FedDG: Federated Domain Generalization on Medical Image Segmentation via Episodic Learning in Continuous
Frequency Space", CVPR 2021, arXiv 2103.06030: low frequencies, as in Yang and Soatto's FDA, CVPR 2020.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.changed_batches import ChangedBatches
from baselines.algorithms.draws import chosen, partners, uniform
from baselines.algorithms.settings import check_range


class FourierMixing(ChangedBatches):
    """Amplitudes become (1 - lambda) of the image's own + lambda of a partner's; phases and masks stay.

    lambda is uniform in [0, strength], one for each image. The partner is of another domain of the same modality where
    the batch has one, else another image of the modality. Results are clipped to [0, 1], as in the official code.

    FACT learns from each image as it is and mixed, with half the weight each. Here each image is mixed with probability
    0.5 instead: the same in expectation, at the price of one pass. Its second half, the consistency of a student with a
    momentum teacher ("co-teacher regularization"), is left out: this is the paper's amplitude mix alone.

    Args:
        strength: 1.0: FACT's for PACS and Digits-DG (section 4.1; 0.2 for OfficeHome).
        region: side of the centred square of frequencies that are mixed, as a share of the whole spectrum's. 1.0: all, as
            FACT. Low frequencies, as FDA and FedDG: 0.02 to 0.18 (twice FDA's beta of 0.01 to 0.09).
        probability: of an image being mixed.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        method: Callable[..., nn.Module],
        strength: float = 1.0,
        region: float = 1.0,
        probability: float = 0.5,
    ) -> None:
        # Without strength nothing is mixed, and a round trip through the spectrum would cost the last bits.
        super().__init__(modalities, method, probability if strength > 0 else 0.0)
        check_range("FourierMixing", "strength", strength, 0, 1)
        check_range("FourierMixing", "region", region, 0, 1)
        self.strength, self.region = strength, region

    def changed(self, batch: Any) -> Any:
        count, device = len(batch.images), batch.images.device
        partner = partners(batch, other_domain=True)
        weight = uniform(count, 0, self.strength, device)
        mixed = mix_amplitudes(batch.images, batch.images[partner], weight, self.region).clamp(0, 1)
        return dataclasses.replace(
            batch, images=torch.where(chosen(count, self.probability, device), mixed, batch.images)
        )


def mix_amplitudes(images: Tensor, others: Tensor, weight: Tensor, region: float) -> Tensor:
    """Images (B, C, H, W) float32 with the part `weight` (B, 1, 1, 1) of the others' amplitudes.

    Args:
        region: see FourierMixing.
    """
    height, width = images.shape[-2:]
    spectrum = torch.fft.rfft2(images)
    own, other = spectrum.abs(), torch.fft.rfft2(others).abs()
    down = torch.fft.fftfreq(height, device=images.device).abs()[:, None]
    across = torch.fft.rfftfreq(width, device=images.device)
    weight = weight * ((down <= region / 2) & (across <= region / 2))
    # A real factor keeps the phase. Where the image has no amplitude at all, it has no phase to give to the other's.
    factor = 1 + weight * (other - own) / own.clamp(min=1e-12)
    mixed: Tensor = torch.fft.irfft2(spectrum * factor, s=(height, width))
    return mixed

"""De-LightSAM as a method of a bench: built from plain values, trained by any loop, no other package needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from delightsam.checkpoints import WeightsError, load
from delightsam.config import MODALITY_NUMBERS, DeLightSAMConfig
from delightsam.losses import JOINT_LOSSES
from delightsam.model import DeLightSAM
from delightsam.preprocessing import normalise


class TrainingBatch(Protocol):
    """What `training_loss` reads of a batch.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1].
        masks: (B, 1, S, S) float32, 0 and 1.
        modality: (B,) int64, index into the method's `modalities`.
    """

    images: Tensor
    masks: Tensor
    modality: Tensor


@dataclass(frozen=True)
class Stage:
    """A part of the training: which parameters learn (patterns on names), for what share of the budget."""

    name: str
    share: float = 1.0
    trainable: tuple[str, ...] = ("*",)
    gradient: bool = True


class DeLightSAMMethod(nn.Module):
    """Trains and applies a DeLightSAM for modalities given by name.

    Args:
        modalities: names; a batch's modality is an index into this list. Names of the published six keep their numbers,
            others get the numbers from 6 on, in the order given.
        loss: "dice_bce" or "paper" (see delightsam.losses).
        weights: null, or the path of a local file of `delightsam.save`; its config then says the architecture.
        **config: fields of DeLightSAMConfig (stem, controllers, hypernetworks, preprocessing, ...).

    Raises:
        ValueError: an unknown loss, a bad config value, or `config` fields that contradict the weights' own.
        WeightsError: a weights file that is missing, damaged, or lacks one of the modalities.
    """

    numbers: Tensor

    def __init__(
        self, modalities: Sequence[str], loss: str = "dice_bce", weights: str | None = None, **config: Any
    ) -> None:
        super().__init__()
        if loss not in JOINT_LOSSES:
            raise ValueError(f"Unknown loss '{loss}'. Available: {', '.join(JOINT_LOSSES)}.")
        self.modalities = list(modalities)
        self.loss = loss
        numbers = modality_numbers(self.modalities)
        self.register_buffer("numbers", torch.tensor([numbers[name] for name in self.modalities]), persistent=False)
        if weights is None:
            self.network = DeLightSAM(DeLightSAMConfig(modalities=tuple(numbers.values()), **config))
        else:
            self.network = _network_of_file(weights, numbers, config)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """Mask logits (B, 1, S, S) of images (B, 3, S, S) in [0, 1]; `modality` (B,) indexes `modalities`."""
        return self.network.predict(images, self.numbers[modality])

    def training_loss(self, batch: TrainingBatch, step: object) -> tuple[Tensor, dict[str, Tensor]]:
        """The joint loss of a batch, of one or of several modalities, and its terms. `step` is not used yet."""
        images = normalise(batch.images, self.network.config.preprocessing)
        outputs = self.network.outputs(images, self.numbers[batch.modality])
        return JOINT_LOSSES[self.loss](outputs.logits, outputs.patch_logits, batch.masks)

    def active_parameters(self) -> int:
        """Parameters that take part for an image of one modality."""
        return self.network.parameter_counts()["active"]

    def stages(self) -> list[Stage]:
        """One stage: from scratch everything learns together."""
        return [Stage("joint")]


def modality_numbers(names: Sequence[str]) -> dict[str, int]:
    """The number of every name: the published ones' own, others from 6 on in the order given.

    Raises:
        ValueError: no name, or one given twice.
    """
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`modalities` needs one or more different names; found {list(names)}.")
    others = [name for name in names if name not in MODALITY_NUMBERS]
    return {
        name: MODALITY_NUMBERS.get(name, len(MODALITY_NUMBERS) + (others.index(name) if name in others else 0))
        for name in names
    }


def _network_of_file(path: str, numbers: Mapping[str, int], config: Mapping[str, Any]) -> DeLightSAM:
    network = load(path)
    for field, value in config.items():
        if getattr(network.config, field) != value:
            raise ValueError(
                f"{path} has {field} = {getattr(network.config, field)!r}; found {field} = {value!r} in the settings. "
                f"Leave the setting out or make it the same."
            )
    missing = [name for name, number in numbers.items() if number not in network.config.modalities]
    if missing:
        raise WeightsError(f"{path} has no controller for {', '.join(missing)} (numbers {network.config.modalities}).")
    return network.train()

"""De-LightSAM as a method of a bench: built from plain values, trained by any loop, no other package needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from delightsam.inference import accelerate
from delightsam.modeling.config import DeLightSAMConfig, modality_numbers
from delightsam.modeling.controllers import Mixture, as_list
from delightsam.modeling.model import DeLightSAM, Outputs
from delightsam.modeling.preprocessing import normalise
from delightsam.training.frozen_encoder import FrozenEmbeddings
from delightsam.training.losses import JOINT_LOSSES
from delightsam.training.stages import DECODE, JOINT, Stage, read_stages, segmentation_stages
from delightsam.weights.checkpoints import load
from delightsam.weights.sam_family import initialise_from
from delightsam.weights.weights_files import WeightsError


class TrainingBatch(Protocol):
    """What `training_loss` reads of a batch.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1].
        masks: (B, 1, S, S) float32, 0 and 1.
        modality: (B,) int64, index into the method's `modalities`.

    It may also have `modality_list`, the same as a list, which a GPU is not asked for; `image_names`, for each image a name
    that no other pixels have, or None where they never come again; and `prepared`, what `prepare` gave for the batch.
    """

    images: Tensor
    masks: Tensor
    modality: Tensor


class TrainingStep(Protocol):
    """What `training_loss` reads of where the training stands: the name of its stage.

    It may also have `recorded`: a GPU replays the step for other batches (see `recording_key`).
    """

    @property
    def stage(self) -> str: ...


class DeLightSAMMethod(nn.Module):
    """Trains and applies a DeLightSAM for modalities given by name.

    Args:
        modalities: names; a batch's modality is an index into this list. Names of the published six keep their numbers,
            others get the numbers from 6 on, in the order given.
        loss: "dice_bce" or "paper" (see delightsam.training.losses).
        weights: null, or the path of a local file of `delightsam.save`; its config then says the architecture.
        encoder_weights: null, or the path of a local MobileSAM or LiteMedSAM checkpoint that encoder and decoder start from.
        stages: names or mappings: see delightsam.training.stages.
        checkpoint_activations: training keeps less in memory and computes it twice.
        **config: fields of DeLightSAMConfig (stem, controllers, hypernetworks, preprocessing, ...).

    Raises:
        ValueError: an unknown loss or stage, a bad config value, or `config` fields that contradict the weights' own.
        WeightsError: a weights file that is missing, damaged, or lacks one of the modalities.
    """

    takes_modality_list = True
    """`predict` takes modalities as a list of int, too; of a tensor on a GPU the program waits for them."""

    numbers: Tensor
    without_controllers: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        loss: str = "dice_bce",
        weights: str | None = None,
        encoder_weights: str | None = None,
        stages: Sequence[str | Mapping[str, Any]] = (JOINT,),
        checkpoint_activations: bool = False,
        **config: Any,
    ) -> None:
        super().__init__()
        if loss not in JOINT_LOSSES:
            raise ValueError(f"Unknown loss '{loss}'. Available: {', '.join(JOINT_LOSSES)}.")
        if weights is not None and encoder_weights is not None:
            raise ValueError(
                "Give either `weights` (a whole model) or `encoder_weights` (of the SAM family), not both."
            )
        self.modalities = list(modalities)
        self.loss = loss
        pretrained = weights is not None or encoder_weights is not None
        self._stages = read_stages(stages, self._available_stages(pretrained))
        self._embeddings = FrozenEmbeddings()
        numbers = modality_numbers(self.modalities)
        self._number_list = [numbers[name] for name in self.modalities]
        self.register_buffer("numbers", torch.tensor(self._number_list), persistent=False)
        # True from the first step of `decode` to the first of a later stage: a part of what the weights mean, so kept
        # with them.
        self.register_buffer("without_controllers", torch.tensor(False))
        self._flags: dict[str, tuple[tuple[int, int], bool]] = {}
        if weights is None:
            self.network = DeLightSAM(DeLightSAMConfig(modalities=tuple(numbers.values()), **config))
        else:
            self.network = _network_of_file(weights, numbers, config)
        if encoder_weights is not None:
            initialise_from(self.network, encoder_weights)
        self.network.checkpoint_activations(checkpoint_activations)

    def _available_stages(self, pretrained: bool) -> dict[str, Stage]:
        return segmentation_stages(pretrained)

    def use_cache(self, folder: str | Path) -> None:
        """Keeps the embeddings of the frozen encoder in `folder`, which other trainings may share."""
        self._embeddings.use(folder)

    def predict(self, images: Tensor, modality: Tensor | Sequence[int]) -> Tensor:
        """Mask logits (B, 1, S, S) of images (B, 3, S, S) in [0, 1]; `modality` (B,) indexes `modalities`."""
        return self.outputs(images, modality).logits

    def training_loss(self, batch: TrainingBatch, step: TrainingStep) -> tuple[Tensor, dict[str, Tensor]]:
        """The segmentation loss of a batch, of one or of several modalities, and its terms."""
        self.set_flag("without_controllers", step.stage == DECODE)
        outputs = self.outputs(
            batch.images, self._met_modality(batch, step), names=names_of(batch), embedding=prepared_of(batch)
        )
        return self.segmentation_loss(outputs, batch.masks)

    def prepare(self, batch: TrainingBatch, step: TrainingStep) -> Tensor | None:
        """The embedding of the frozen encoder, which the loss of the stage `decode` starts from: see `TrainingBatch`."""
        if step.stage != DECODE:
            return None
        return self._shared_embedding(normalise(batch.images, self.network.config.preprocessing), names_of(batch))

    def recording_key(self, batch: TrainingBatch, step: TrainingStep) -> tuple[int, ...] | None:
        """Batches with images of the same modalities are computed by the same operations, where all modalities are known to
        the program; None: others are not."""
        listed = modality_of(batch)
        own_loss = type(self).training_loss is not DeLightSAMMethod.training_loss
        if own_loss or isinstance(listed, Tensor) or self.network.encoder.backbone.checkpoint:
            return None
        key = tuple(sorted(set(listed)))
        return None if len(key) > 1 and self.network.config.added else key

    def _met_modality(self, batch: TrainingBatch, step: TrainingStep) -> Tensor | Sequence[int] | Mixture:
        """In a step that is recorded, a batch of several modalities is a mixture: the same operations for others like it."""
        listed, key = modality_of(batch), self.recording_key(batch, step)
        if not getattr(step, "recorded", False) or isinstance(listed, Tensor) or key is None or len(key) == 1:
            return listed
        numbers = self.numbers.index_select(0, batch.modality)
        return self.network.mixture(numbers, sorted(set(self.numbers_of(listed))))

    def set_flag(self, name: str, value: bool) -> None:
        """Sets a buffer of one bool."""
        if self.flag(name) != value:
            getattr(self, name).fill_(value)

    def flag(self, name: str) -> bool:
        """The value of a buffer of one bool. A GPU is asked for it only after it changed: to ask is to wait."""
        buffer = getattr(self, name)
        state = (buffer.data_ptr(), buffer._version)
        if name not in self._flags or self._flags[name][0] != state:
            self._flags[name] = (state, bool(buffer))
        return self._flags[name][1]

    def segmentation_loss(self, outputs: Outputs, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of `outputs` against masks (B, 1, S, S) of 0 and 1, and its terms."""
        return JOINT_LOSSES[self.loss](outputs.logits, outputs.patch_logits, masks)

    def outputs(
        self,
        images: Tensor,
        modality: Tensor | Sequence[int] | Mixture,
        patches: Tensor | None = None,
        names: Sequence[str] | None = None,
        embedding: Tensor | None = None,
    ) -> Outputs:
        """All that one pass gives, for images in [0, 1] and indices of modalities.

        Args:
            patches: (B, 1, h/2, w/2) zeros and ones that take the place of the self-made prompt; None: none do.
            names: of the images' pixels, where embeddings of frozen parts may be kept under them.
            embedding: of the encoder without controllers, where it is known already.
        """
        numbers = modality if isinstance(modality, Mixture) else self.numbers_of(modality)
        height, width = images.shape[-2:]
        if embedding is None:
            images = normalise(images, self.network.config.preprocessing)
            if not self.flag("without_controllers"):
                return self.network.outputs(images, numbers, patches)
            embedding = self._shared_embedding(images, names)
        return self.network.decode(embedding, numbers, (height, width), patches)

    def numbers_of(self, modality: Tensor | Sequence[int]) -> list[int]:
        """The modality numbers of indices into `modalities`."""
        return [self._number_list[index] for index in as_list(modality)]

    def _shared_embedding(self, images: Tensor, names: Sequence[str] | None) -> Tensor:
        """What the encoder without controllers makes of normalised images; it does not learn here."""
        return self._embeddings(
            self.network.encoder,
            lambda part: self.network.encode(part, None),
            images,
            names,
            preprocessing=self.network.config.preprocessing,
            come_again=not self.training,
        )

    def accelerated(self, image_size: int, batch_size: int, dtype: torch.dtype) -> nn.Module | None:
        """What predicts the same faster, from the weights as they are now.

        None where the encoder works without controllers and its embeddings are kept, on a CPU: to find one is faster still.
        """
        shared = self.flag("without_controllers")
        if shared and self._embeddings.cache is not None and not self.numbers.is_cuda:
            return None
        network = accelerate(
            self.network, image_size=image_size, batch_size=batch_size, dtype=dtype, controllers=not shared
        )
        return AcceleratedMethod(network, self._number_list)

    def active_parameters(self) -> int:
        """Parameters that take part for an image of one modality."""
        return self.network.parameter_counts()["active"]

    def stages(self) -> list[Stage]:
        """The stages in order, as the arguments say: `joint` alone by default, in which from scratch everything learns."""
        return self._stages


def modality_of(batch: TrainingBatch) -> Tensor | Sequence[int]:
    """`batch.modality`, as a list where the batch has one."""
    found: Sequence[int] | None = getattr(batch, "modality_list", None)
    return batch.modality if found is None else found


def names_of(batch: TrainingBatch) -> Sequence[str] | None:
    return getattr(batch, "image_names", None)


def prepared_of(batch: TrainingBatch) -> Tensor | None:
    return getattr(batch, "prepared", None)


class AcceleratedMethod(nn.Module):
    """Predicts as a `DeLightSAMMethod`: see `accelerate`."""

    def __init__(self, network: nn.Module, numbers: Sequence[int]) -> None:
        super().__init__()
        self.network, self.numbers = network, list(numbers)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        logits: Tensor = self.network.predict(images, [self.numbers[index] for index in as_list(modality)])  # type: ignore[operator]
        return logits


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

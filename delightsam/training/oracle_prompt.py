"""An upper bound for the SP-Generator: the prompt is made of the true mask. For ablations, never a result."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from delightsam.training.losses import patch_target
from delightsam.training.method import DeLightSAMMethod, TrainingBatch, TrainingStep, modality_of, names_of, prepared_of
from delightsam.training.stages import DECODE


class OraclePatchMethod(DeLightSAMMethod):
    """DeLightSAMMethod whose prompt is the patches that hold true foreground, in training and in testing alike."""

    def predict_oracle(self, images: Tensor, modality: Tensor | Sequence[int], masks: Tensor) -> Tensor:
        """Mask logits (B, 1, S, S) of images in [0, 1] that are prompted with their true masks (B, 1, S, S), 0 or 1."""
        return self.outputs(images, modality, self._true_patches(masks)).logits

    def training_loss(self, batch: TrainingBatch, step: TrainingStep) -> tuple[Tensor, dict[str, Tensor]]:
        self.set_flag("without_controllers", step.stage == DECODE)
        patches = self._true_patches(batch.masks)
        outputs = self.outputs(batch.images, modality_of(batch), patches, names_of(batch), prepared_of(batch))
        return self.segmentation_loss(outputs, batch.masks)

    def _true_patches(self, masks: Tensor) -> Tensor:
        side = self.network.config.size_multiple
        return patch_target(masks, (masks.shape[-2] // side, masks.shape[-1] // side))

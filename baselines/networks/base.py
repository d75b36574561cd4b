"""What every network here shares, whichever library it is from: sizes, normalisation, loss, and what algorithms ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.losses import LOSSES
from baselines.names import unknown
from baselines.networks.layer_graph import feature_layers, last_layer, without_unused

# Of the ImageNet training images, RGB in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """One network for all modalities; the modality number is not used.

    Images of any size are accepted: they are padded at the right and below by repeating the border, up to a multiple of
    `stride` and at least to `least`, and the logits are cropped back. Parameters that no logit depends on are left out.

    Args:
        network: (B, 3, H, W) -> logits (B, 1, H, W).
        loss: `bce_dice`, `bce` or `dice`: see baselines/losses.py.
        stride: the sides of images, in pixels, that the network takes are multiples of this.
        least: and none is smaller than this.

    Raises:
        ValueError: an unknown loss.
        RuntimeError: the network can't do its work on images of such sizes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, loss: str = "bce_dice", stride: int = 32, least: int = 0) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        self.loss = LOSSES[loss]
        self.stride, self.least = stride, least
        # Channels last: on a CPU a U-Net trains about an eighth faster in float32 so, and a quarter in bfloat16.
        self.network = _with_safe_batch_norm(network).to(memory_format=torch.channels_last)
        # Constants, not weights: kept out of checkpoints.
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        without_unused(self.network, lambda: self._outputs(self._example()))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> logits (B, 1, H, W)."""
        logits = self._run(self._prepared(images))
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64 -> logits (B, 1, H, W)."""
        logits: Tensor = self(images)
        return logits

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch with `images` (B, 3, H, W) and `masks` (B, 1, H, W), and its parts."""
        return self._loss(self._outputs(batch.images), batch.masks)

    def recording_key(self, batch: Any, step: Any) -> tuple[()]:
        """A pass is the same operations whatever the batch holds: a GPU may replay it."""
        return ()

    def loss_and_logits(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """`training_loss` and the logits (B, 1, H, W), of one pass."""
        outputs = self._outputs(batch.images)
        return *self._loss(outputs, batch.masks), outputs[0]

    def losses_by_image(self, batch: Any, step: Any) -> tuple[Tensor, Tensor]:
        """`training_loss`, and each image's own (B,) float32, of one pass; both with their graph."""
        outputs = self._outputs(batch.images)
        loss, _ = self._loss(outputs, batch.masks)
        rows = [slice(index, index + 1) for index in range(len(batch.images))]
        each = [self._loss([output[row] for output in outputs], batch.masks[row])[0] for row in rows]
        return loss, torch.stack(each)

    def feature_layers(self) -> list[tuple[nn.Module, int]]:
        """Layers of the encoder, shallow to deep, each giving one tensor, and the position of its channels: 1 or -1."""
        return feature_layers(self, self._deepest(), [self._example(), self._example(2, 3)])

    def head(self) -> nn.Module:
        """The last layer with parameters, which gives the logits."""
        return last_layer(self, self._example())

    def _deepest(self) -> nn.Module:
        """The part of the network whose output is, or ends with, its deepest features."""
        raise NotImplementedError

    def _outputs(self, images: Tensor) -> Sequence[Tensor]:
        """What the loss is computed of, images on the first axis; the logits come first."""
        return [self(images)]

    def _loss(self, outputs: Sequence[Tensor], masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(outputs[0], masks)

    def _run(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def _prepared(self, images: Tensor) -> Tensor:
        """Normalised and padded."""
        x = (images - self.mean) / self.std
        below, right = (self._padded(side) - side for side in images.shape[-2:])
        x = F.pad(x, (0, right, 0, below), mode="replicate")
        return x.contiguous(memory_format=torch.channels_last)

    def _padded(self, side: int) -> int:
        side = max(side, self.least)
        return side + -side % self.stride

    def _example(self, height: int = 1, width: int = 2) -> Tensor:
        """A small image of noise, some strides high and wide. Takes nothing of the global randomness."""
        size = [self._padded(2 * self.stride) * factor for factor in (height, width)]
        return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(self.mean.device)


class SafeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that also trains on a single value per channel.

    A batch of one image reaches 1 x 1 pixels in DeepLabV3's image pooling, and in any network at 32 x 32 pixels. There
    is no variance then, and torch refuses; here that layer uses its running statistics for that step, as in evaluation.
    In every other case it is BatchNorm2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def _with_safe_batch_norm(module: nn.Module) -> nn.Module:
    """Replaces every plain BatchNorm2d below `module`; names, weights and statistics stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d and child.track_running_stats:
            safe = SafeBatchNorm2d(child.num_features, child.eps, child.momentum, child.affine)
            safe.load_state_dict(child.state_dict())
            setattr(module, name, safe)
        else:
            _with_safe_batch_norm(child)
    return module

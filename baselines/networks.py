"""Networks of segmentation_models_pytorch (smp) as methods, trained from scratch unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.losses import LOSSES
from baselines.names import unknown

_ARCHITECTURES = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
# Of the ImageNet training images, RGB in [0, 1].
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# The deepest features of every architecture are at most this much smaller than the image.
_STRIDE = 32


class SmpNetwork(nn.Module):
    """One network for all modalities; the modality number is not used.

    Images of any size are accepted: they are padded at the right and below by repeating the border, up to a multiple of
    32, and the logits are cropped back.

    Args:
        modalities: names of the modalities; unused, every method is given them.
        architecture: of smp, such as `unet`, `deeplabv3plus`, `segformer`.
        encoder_name: of smp (`resnet18`, `mit_b0`, ...), or `tu-<name>` for one of timm.
        encoder_weights: None: random. A tag of smp such as `imagenet`: from the Hugging Face cache, else downloaded.
            Else the path of a local file (`.safetensors`, or what `torch.save` wrote) with the encoder's state dict.
        loss: `bce_dice`, `bce` or `dice`: see baselines/losses.py.
        options: further arguments of the smp architecture.

    Raises:
        ValueError: an unknown name, weights that can't be had or don't fit; the message says what there is.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        architecture: str = "unet",
        encoder_name: str = "resnet18",
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
        **options: Any,
    ) -> None:
        super().__init__()
        if architecture.lower() not in _ARCHITECTURES:
            raise unknown("architecture", architecture, _ARCHITECTURES)
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        _check_encoder(encoder_name)
        tag = encoder_weights if encoder_weights in _hub_tags(encoder_name) else None
        if tag is not None:
            _require_hub_weights(encoder_name, tag)
        try:
            network = smp.create_model(
                architecture,
                encoder_name,
                # timm's encoders take a flag: the tag is part of their name.
                encoder_weights=True if tag and encoder_name.startswith("tu-") else tag,
                in_channels=3,
                classes=1,
                **options,
            )
        except (ValueError, NotImplementedError) as error:
            raise ValueError(f"{architecture} can't be built on the encoder {encoder_name}: {error}") from error
        if encoder_weights is not None and tag is None:
            _load_encoder(network.encoder, encoder_name, encoder_weights)
        # Channels last: on a CPU a U-Net trains about an eighth faster in float32 so, and a quarter in bfloat16.
        self.network = _with_safe_batch_norm(network).to(memory_format=torch.channels_last)
        self.loss = LOSSES[loss]
        # Constants, not weights: kept out of checkpoints.
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> logits (B, 1, H, W)."""
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        x = F.pad(x, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits[..., :height, :width]

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64 -> logits (B, 1, H, W)."""
        logits: Tensor = self(images)
        return logits

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch with `images` (B, 3, H, W) and `masks` (B, 1, H, W), and its parts."""
        return self.loss(self(batch.images), batch.masks)


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


def _check_encoder(name: str) -> None:
    if name.startswith("tu-"):
        if not timm.is_model(name[3:]):
            raise unknown("timm encoder", name, [f"tu-{model}" for model in timm.list_models()])
    elif name not in smp.encoders.encoders:
        raise unknown("encoder", name, smp.encoders.get_encoder_names())


def _hub_tags(encoder_name: str) -> list[str]:
    """Names of the pretrained weights that the library knows for an encoder."""
    if encoder_name.startswith("tu-"):
        return ["imagenet"] if timm.is_model_pretrained(encoder_name[3:]) else []
    return sorted(smp.encoders.encoders[encoder_name]["pretrained_settings"])


def _require_hub_weights(encoder_name: str, tag: str) -> None:
    """Fails within seconds where the download would retry for half a minute (no network, and not in the cache)."""
    if encoder_name.startswith("tu-"):
        return
    import huggingface_hub

    settings = smp.encoders.encoders[encoder_name]["pretrained_settings"][tag]
    place = {"repo_id": settings["repo_id"], "revision": settings["revision"], "filename": "model.safetensors"}
    if isinstance(huggingface_hub.try_to_load_from_cache(**place), str):
        return
    try:
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**place), timeout=5)
    except Exception as error:  # of several libraries, by what failed: name, connection, certificate, proxy
        raise ValueError(
            f"The weights '{tag}' of {encoder_name} are neither in the local Hugging Face cache nor reachable"
            f" ({type(error).__name__}). Run once with network access to {settings['repo_id']}, give encoder_weights"
            " the path of a local file, or train from scratch with encoder_weights=null."
        ) from error


def _load_encoder(encoder: nn.Module, name: str, source: str) -> None:
    path = Path(source).expanduser()
    if not path.is_file():
        tags = _hub_tags(name)
        raise ValueError(
            f"encoder_weights={source}: there is no such file. Expected null, the path of a file, or for {name} one of:"
            f" {', '.join(tags) or 'none known'}."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise errors of their own for each kind of damage
        raise ValueError(f"{path} can't be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state dict (name -> tensor) of the encoder {name}.")
    try:
        # A copy, because smp's encoders drop the classifier's entries from what they are given.
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the encoder {name}: {error}") from error

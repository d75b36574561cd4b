"""Every network of the baselines in a small size, with images for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from support.copies import copies_of
from torch import Tensor

from baselines.networks import monai
from baselines.networks.base import Network
from baselines.networks.smp import SmpNetwork

MODALITIES = ["dermoscopy", "xray"]


@dataclass
class Batch:
    images: Tensor
    masks: Tensor
    modality: Tensor


def _smp(architecture: str, encoder: str = "tu-test_resnet", **options: object) -> Callable[[], Network]:
    return partial(SmpNetwork, MODALITIES, architecture=architecture, encoder_name=encoder, **options)


# With the smallest encoder that there is, where the library lets one choose.
NETWORKS: dict[str, Callable[[], Network]] = {
    "unet": _smp("unet"),
    "unetplusplus": _smp("unetplusplus"),
    "manet": _smp("manet"),
    "linknet": _smp("linknet"),
    "fpn": _smp("fpn"),
    "pspnet": _smp("pspnet", "resnet18", psp_out_channels=64),
    "deeplabv3": _smp("deeplabv3", decoder_channels=16),
    "deeplabv3plus": _smp("deeplabv3plus", decoder_channels=16),
    "pan": _smp("pan"),
    "upernet": _smp("upernet", decoder_channels=32),
    "segformer": _smp("segformer", "mit_b0"),
    "dpt": _smp(
        "dpt",
        "tu-test_vit",
        dynamic_img_size=True,
        decoder_intermediate_channels=[8, 16, 32, 64],
        decoder_fusion_channels=16,
    ),
    "attention_unet": partial(monai.AttentionUnet, MODALITIES, widths=[8, 16, 32]),
    "swin_unetr": partial(monai.SwinUnetr, MODALITIES, feature_size=12),
    "unetr": partial(monai.Unetr, MODALITIES, grid=4, feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2),
    "segresnet": partial(monai.SegResNet, MODALITIES, filters=8),
    "dynunet": partial(monai.DynUnet, MODALITIES, image_size=64, narrowest=8, widest=32),
    "flexible_unet": partial(monai.FlexibleUnet, MODALITIES, backbone="resnet10"),
}

# Families of encoders that lay out features in other ways: inverted residuals, no stem at half the size, channels last.
ENCODERS = {
    f"unet on {encoder}": _smp("unet", encoder) for encoder in ("mobilenet_v2", "tu-convnext_atto", "tu-mambaout_femto")
}


def build(name: str, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return {**NETWORKS, **ENCODERS}[name]()


@cache
def _built(name: str) -> Callable[[], Network]:
    return copies_of(build(name))


def fresh(name: str) -> Network:
    """A copy of one that was built once, with the weights of seed 0."""
    return _built(name)()


def disks(count: int, height: int, width: int, seed: int = 0) -> Batch:
    """Bright disks on dark noise, of alternating modalities."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.rand(count, 2, 1, 1, generator=generator) * 0.5 + 0.25
    distance = ((y - centres[:, 0] * height) ** 2 + (x - centres[:, 1] * width) ** 2).sqrt()
    masks = (distance < min(height, width) / 4)[:, None].float()
    images = (0.3 + 0.4 * masks + 0.1 * torch.rand(count, 3, height, width, generator=generator)).clamp(0, 1)
    return Batch(images, masks, torch.arange(count) % len(MODALITIES))


def logits_of(method: Network, batch: Batch) -> Tensor:
    method.eval()
    with torch.inference_mode():
        return method.predict(batch.images, batch.modality)

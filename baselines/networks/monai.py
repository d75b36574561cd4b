"""Networks of MONAI as methods: standards of medical segmentation that segmentation_models_pytorch lacks, in 2D.

MONAI is an extra: pip install '.[networks]'. It has no weights for them; each is trained from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.networks.base import Network


class MonaiNetwork(Network):
    """What the networks of MONAI share: no pretrained weights, and one layer deepest.

    Args:
        network: as for Network.
        deepest: the name of the part of it that ends with its deepest features.
    """

    def __init__(
        self,
        network: nn.Module,
        deepest: str,
        loss: str = "bce_dice",
        stride: int = 32,
        least: int = 0,
    ) -> None:
        super().__init__(network, loss, stride, least)
        self._deepest_name = deepest

    def _deepest(self) -> nn.Module:
        return self.network.get_submodule(self._deepest_name)


class AttentionUnet(MonaiNetwork):
    """U-Net whose skip connections are weighted by attention gates.

    Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", MIDL 2018. Widths as in the authors' code
    (64 to 1024, divided by their feature_scale of 4); without the deep supervision of that code.

    Args:
        widths: channels at each resolution, halved from one to the next.
        encoder_weights: None; MONAI has none.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        halvings = len(widths) - 1
        network = nets.AttentionUnet(2, 3, 1, channels=list(widths), strides=[2] * halvings)
        # Each level holds the next in its own middle: Sequential(down, level below).
        deepest = "model.1.submodule" + ".1.submodule" * (halvings - 1)
        super().__init__(network, deepest, loss, stride=2**halvings)


class SwinUnetr(MonaiNetwork):
    """Swin transformer as encoder, convolutional decoder, in 2D.

    Hatamizadeh et al., "Swin UNETR", BrainLes 2021 (arXiv 2201.01266): embedding of 48, two blocks a stage, windows of 7.
    Windows are as large as the features where these are smaller.

    Args:
        feature_size: channels of the first stage, a multiple of 12.
        encoder_weights: None; MONAI has none in 2D.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        feature_size: int = 48,
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        network = nets.SwinUNETR(3, 1, feature_size=feature_size, spatial_dims=2)
        # Instance normalisation needs more than one position at a 32nd of the image.
        super().__init__(network, "swinViT", loss, stride=32, least=64)


class Unetr(MonaiNetwork):
    """Vision transformer as encoder, convolutional decoder, in 2D.

    Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022: ViT-B/16, features of 16.
    Position embeddings are learned for `grid` x `grid` patches and interpolated for images of other sizes.

    Args:
        grid: patches of 16 x 16 pixels along a side: 16 are images of 256 x 256.
        feature_size, hidden_size, mlp_dim, num_heads: sizes, as MONAI calls them.
        encoder_weights: None; MONAI has none.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        grid: int = 16,
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        network = nets.UNETR(
            3,
            1,
            img_size=16 * grid,
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            spatial_dims=2,
        )
        network.vit.patch_embedding = AnySizeEmbedding(network.vit.patch_embedding, grid)
        super().__init__(network, "vit", loss, stride=16, least=32)

    def _run(self, x: Tensor) -> Tensor:
        # MONAI folds tokens back into a map by the size it was built for.
        network: Any = self.network
        network.proj_view_shape = [*(side // 16 for side in x.shape[-2:]), network.hidden_size]
        return super()._run(x)


class AnySizeEmbedding(nn.Module):
    """MONAI's patch embedding for images of any multiple of 16 pixels: (B, 3, H, W) -> tokens (B, H / 16 x W / 16, C).

    Args:
        block: its `PatchEmbeddingBlock`, of grid x grid patches, whose weights are taken over.
    """

    def __init__(self, block: Any, grid: int) -> None:
        super().__init__()
        self.patches, self.dropout = block.patch_embeddings, block.dropout
        self.positions = nn.Parameter(block.position_embeddings.detach().mT.unflatten(2, (grid, grid)).clone())

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        positions = self.positions
        if positions.shape[-2:] != x.shape[-2:]:
            # As is usual for vision transformers (Dosovitskiy et al., ICLR 2021), in float32.
            positions = F.interpolate(positions, size=x.shape[-2:], mode="bicubic", antialias=True, align_corners=False)
        tokens: Tensor = self.dropout((x + positions).flatten(2).mT)
        return tokens


class SegResNet(MonaiNetwork):
    """Residual encoder-decoder with group normalisation, in 2D.

    Myronenko, "3D MRI Brain Tumor Segmentation Using Autoencoder Regularization", BrainLes 2018: 32 filters, (1, 2, 2, 4)
    blocks, dropout of 0.2 after the first convolution; without the autoencoder's branch.

    Args:
        filters: channels at full resolution, a multiple of 8.
        dropout: the chance of each channel to be left out after the first convolution.
        encoder_weights: None; MONAI has none.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        filters: int = 32,
        dropout: float = 0.2,
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        network = nets.SegResNet(2, filters, 3, 1, dropout_prob=dropout or None)
        super().__init__(network, "down_layers.3", loss, stride=8)


class FlexibleUnet(MonaiNetwork):
    """U-Net on an EfficientNet or ResNet of MONAI.

    Ronneberger et al., MICCAI 2015, with an encoder of Tan and Le, "EfficientNet", ICML 2019.

    Args:
        backbone: `efficientnet-b0` to `b8`, `resnet10` to `resnet200`.
        encoder_weights: None. MONAI could fetch some of EfficientNet; here they come through smp's U-Net.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        backbone: str = "efficientnet-b0",
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        network = nets.FlexibleUNet(3, 1, backbone=backbone)
        super().__init__(network, "encoder", loss, stride=32)


class DynUnet(MonaiNetwork):
    """The network of nnU-Net in its plain 2D configuration, with deep supervision.

    Isensee et al., "nnU-Net", Nature Methods 18, 2021. The plan follows version 2 for isotropic images: two convolutions
    a stage, 32 channels doubled at each halving up to 512, halvings as long as a feature map has 8 or more positions a
    side. It is the network alone: no self-configuration from a dataset's fingerprint, no ensemble of five folds, and the
    bench's own loss and training.

    Args:
        image_size: side of the training images in pixels, for which the network is planned.
        widest: the most channels of a stage.
        narrowest: channels at full resolution.
        encoder_weights: None; MONAI has none.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        image_size: int,
        narrowest: int = 32,
        widest: int = 512,
        encoder_weights: str | None = None,
        loss: str = "bce_dice",
    ) -> None:
        nets = _monai_nets(type(self).__name__, encoder_weights)
        halvings = planned_halvings(image_size)
        network = nets.DynUNet(
            2,
            3,
            1,
            kernel_size=[3] * (halvings + 1),
            strides=[1] + [2] * halvings,
            upsample_kernel_size=[2] * halvings,
            filters=[min(narrowest * 2**level, widest) for level in range(halvings + 1)],
            # All of the decoder but its lowest resolution, whose weight in nnU-Net's loss is zero.
            deep_supervision=True,
            deep_supr_num=halvings - 2,
        )
        # Instance normalisation needs more than one position at the bottom.
        super().__init__(network, "bottleneck", loss, stride=2**halvings, least=2 * 2**halvings)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> logits (B, 1, H, W)."""
        return self._outputs(images)[0]

    def _outputs(self, images: Tensor) -> list[Tensor]:
        """The logits, then those at half the resolution, a quarter, ... of the image, rounded up."""
        network: Any = self.network
        logits = network.output_block(network.skip_layers(self._prepared(images)))
        outputs = [logits, *network.heads]
        # MONAI keeps them on the module, where copies of the module would stumble over them.
        network.heads[:] = [torch.zeros(1)] * len(network.heads)
        height, width = images.shape[-2:]
        return [x[..., : -(-height // 2**i), : -(-width // 2**i)] for i, x in enumerate(outputs)]

    def _loss(self, outputs: Sequence[Tensor], masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """nnU-Net's deep supervision: the loss at each resolution, on nearest masks, with weights 1, 1/2, 1/4, ..."""
        loss, parts = self.loss(outputs[0], masks)
        for index, output in enumerate(outputs[1:], start=1):
            smaller = F.interpolate(masks.float(), size=output.shape[-2:], mode="nearest-exact")
            loss = loss + self.loss(output, smaller)[0] / 2**index
        return loss / (2 - 2 ** (1 - len(outputs))), parts


def planned_halvings(image_size: int) -> int:
    """How often nnU-Net v2 halves square images of `image_size` pixels: while there are 8 positions a side or more.

    Raises:
        ValueError: fewer than 32 pixels, which leave less than the three resolutions that the network needs.
    """
    if image_size < 32:
        raise ValueError(f"image_size={image_size}: expected 32 or more pixels, or there is nothing to halve.")
    halvings = 0
    while image_size >= 8:
        image_size = -(-image_size // 2)
        halvings += 1
    return halvings


def _monai_nets(name: str, encoder_weights: str | None) -> Any:
    """MONAI's networks.

    Raises:
        ValueError: MONAI is not installed, or pretrained weights were asked for.
    """
    if encoder_weights is not None:
        raise ValueError(
            f"{name} has no pretrained weights, asked for were '{encoder_weights}'. Train it from scratch: encoder_weights"
            "=null, or leave pretrained=... away. Networks of segmentation_models_pytorch have weights of ImageNet."
        )
    try:
        import einops  # noqa: F401  # MONAI asks for it only once a transformer is built
        import monai.networks.nets
    except ImportError as error:
        raise ValueError(f"{name} needs MONAI: pip install '.[networks]' ({error}).") from error
    return monai.networks.nets

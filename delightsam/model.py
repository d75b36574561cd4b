"""De-LightSAM: a light SAM whose encoder, prompts and mask query know the modality of the image.

Xu et al., "De-LightSAM: Modality-Decoupled Lightweight SAM for Generalizable Medical Segmentation", IEEE TCSVT 2025,
arXiv 2407.14153v5.
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.config import DeLightSAMConfig
from delightsam.controllers import BlockController, Controller, Group, group_by_modality
from delightsam.decoder import Decoder
from delightsam.encoder import Encoder
from delightsam.inference import fuse_modules
from delightsam.preprocessing import normalise
from delightsam.prompts import SelfPatchPrompts
from delightsam.tiny_vit import TinyViT


class Outputs(NamedTuple):
    """All that one pass gives.

    Attributes:
        logits: (B, 1, S, S) mask logits at the input's resolution.
        patch_logits: (B, 1, S/32, S/32) logits of the SP-Generator ("pixel" stem: S/8).
        embedding: (B, 256, S/16, S/16) of the encoder, before the prompt is added ("pixel" stem: S/4).
    """

    logits: Tensor
    patch_logits: Tensor
    embedding: Tensor


class DeLightSAM(nn.Module):
    """The whole model. Images of one batch may be of different modalities.

    Args:
        config: the architecture; or give its fields as keywords, `DeLightSAM(modalities=(0, 3), stem="pixel")`.

    Fresh weights have controllers of (nearly) zero effect: the model starts as its shared part alone.
    """

    def __init__(self, config: DeLightSAMConfig | None = None, **fields: Any) -> None:
        super().__init__()
        if config is not None and fields:
            raise TypeError("Give either a config or its fields, not both.")
        self.config = DeLightSAMConfig(**fields) if config is None else config
        c = self.config
        self.encoder = Encoder(c.stem)
        blocks = TinyViT.attention_blocks()
        self.controllers = nn.ModuleDict(
            {str(k): Controller(blocks, c.controllers, c.tied_tokens) for k in c.modalities}
            if c.controllers != "none"
            else {}
        )
        self.prompts = SelfPatchPrompts(c.prompt_threshold)
        self.decoder = Decoder(c.modalities, c.queries, c.hypernetworks)
        self.fused = False
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        # SAM's decoder was designed with PyTorch's wider default for linear layers; keep it there.
        for module in self.decoder.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        for module in self.controllers.modules():
            if isinstance(module, BlockController):
                module.initialise()

    def forward(self, images: Tensor, modality: Tensor | int) -> Tensor:
        """Mask logits (B, 1, S, S) of normalised images (B, 3, S, S); `modality` (B,) int64 or one number for all.

        Sides are multiples of 32 ("pixel" stem: of 8) and need not be equal.

        Raises:
            ValueError: a wrong shape, a side that does not divide, or a modality that the model does not know.
        """
        return self.outputs(images, modality).logits

    def outputs(self, images: Tensor, modality: Tensor | int) -> Outputs:
        """As `forward`, with the patch logits and the embedding beside the mask logits."""
        self._check(images)
        order, groups = self._groups(modality, len(images))
        moved = order != list(range(len(order)))
        index = torch.tensor(order, device=images.device) if moved else None
        embedding = self._embed(images if index is None else images[index], groups)
        patch_logits, prompt = self.prompts(embedding)
        masks = self.decoder(embedding + prompt, groups)
        logits = F.interpolate(masks, images.shape[-2:], mode="bilinear", align_corners=False)
        if index is None:
            return Outputs(logits, patch_logits, embedding)
        back = torch.argsort(index)
        return Outputs(logits[back], patch_logits[back], embedding[back])

    def encode(self, images: Tensor, modality: Tensor | int | None) -> Tensor:
        """Embeddings (B, 256, S/16, S/16); with `modality=None` of the shared encoder alone, without controllers."""
        self._check(images)
        if modality is None:
            return self._embed(images, ())
        order, groups = self._groups(modality, len(images))
        index = torch.tensor(order, device=images.device)
        return self._embed(images[index], groups)[torch.argsort(index)]

    def predict(self, images: Tensor, modality: Tensor | int) -> Tensor:
        """Mask logits (B, 1, S, S) of images with values in [0, 1], normalised here by the config's preset."""
        return self(normalise(images, self.config.preprocessing), modality)

    @torch.no_grad()
    def segment(self, image: np.ndarray, modality: int) -> np.ndarray:
        """The mask of one image of any size, at that size.

        Args:
            image: (H, W, 3) uint8, RGB.
            modality: its number.

        Returns:
            (H, W) bool.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"An image is an (H, W, 3) uint8 array; found shape {image.shape} of {image.dtype}.")
        was_training = self.training
        self.eval()
        try:
            device = self.decoder.queries.device
            pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255
            side = self.config.image_size
            resized = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True, align_corners=False)
            logits = self.predict(resized.clamp(0, 1), int(modality)).float()
            native = F.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
        finally:
            self.train(was_training)
        return (native[0, 0] > 0).cpu().numpy()

    def fuse(self) -> Self:
        """Turns the model into its inference form, in place: same function, faster; it can no longer be trained.

        Raises:
            ValueError: the model is in training mode.
        """
        if self.training:
            raise ValueError(
                "fuse() is for inference: call model.eval() first (BatchNorm statistics become constants)."
            )
        if not self.fused:
            fuse_modules(self)
            self.requires_grad_(False)
            self.to(memory_format=torch.channels_last)
            self.fused = True
        return self

    def train(self, mode: bool = True) -> Self:
        if mode and getattr(self, "fused", False):
            raise ValueError("A fused model can't be trained: load the checkpoint again.")
        return super().train(mode)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters in all ("total"), and those one image meets ("active": shared parts and one controller)."""
        total = sum(p.numel() for p in self.parameters())
        owned = [*self.controllers.values()]
        if self.config.hypernetworks == "per_modality":
            owned += list(self.decoder.hypernetworks.values())
        per_modality = sum(p.numel() for module in owned for p in module.parameters())
        return {"total": total, "active": total - per_modality + per_modality // len(self.config.modalities)}

    def _embed(self, images: Tensor, groups: Sequence[Group]) -> Tensor:
        controllers: list[tuple[Controller, Group]] = []
        if self.controllers and groups:
            controllers = [(self.controllers[str(g.modality)], g) for g in groups]  # type: ignore[misc]
        # Channels last: the tokens of the attention stages are then a view of the convolutions' maps.
        return self.encoder(images.contiguous(memory_format=torch.channels_last), controllers)

    def _groups(self, modality: Tensor | int, batch: int) -> tuple[list[int], list[Group]]:
        numbers = [int(modality)] * batch if isinstance(modality, int) else [int(k) for k in modality.tolist()]
        if len(numbers) != batch:
            raise ValueError(f"{batch} images need {batch} modality numbers; found {len(numbers)}.")
        unknown = sorted(set(numbers) - set(self.config.modalities))
        if unknown:
            known = ", ".join(map(str, self.config.modalities))
            raise ValueError(f"This model knows the modality numbers {known}; found {', '.join(map(str, unknown))}.")
        return group_by_modality(numbers)

    def _check(self, images: Tensor) -> None:
        multiple = self.config.size_multiple
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Images are (B, 3, H, W); found shape {tuple(images.shape)}.")
        if images.shape[2] % multiple or images.shape[3] % multiple or not images.shape[2] or not images.shape[3]:
            size = f"{images.shape[2]} x {images.shape[3]}"
            raise ValueError(f"Image sides must be multiples of {multiple} pixels; found {size}. Resize or pad first.")

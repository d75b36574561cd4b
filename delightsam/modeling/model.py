"""De-LightSAM: a light SAM whose encoder, prompts and mask query know the modality of the image.

Xu et al., "De-LightSAM: Modality-Decoupled Lightweight SAM for Generalizable Medical Segmentation", IEEE TCSVT 2025,
arXiv 2407.14153v5.
"""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.modeling.config import DeLightSAMConfig
from delightsam.modeling.controllers import (
    BlockController,
    Controller,
    Controllers,
    Group,
    MixedControllers,
    Mixture,
    as_list,
    group_by_modality,
    put_back,
    taken,
)
from delightsam.modeling.convolutional_decoder import ConvolutionalDecoder
from delightsam.modeling.decoder import Decoder
from delightsam.modeling.encoder import Encoder
from delightsam.modeling.fused import fuse_modules
from delightsam.modeling.modality_guess import ModalityGuess
from delightsam.modeling.preprocessing import normalise
from delightsam.modeling.prompts import SelfPatchPrompts
from delightsam.modeling.segmentation import Mask, segment
from delightsam.modeling.tiny_vit import TinyViT

Numbers = Tensor | Sequence[int] | int
"""Modality numbers of a batch: (B,) int64, or B of them in a list (which no GPU has to be asked for), or one for all."""
Modality = Numbers | Mixture
"""The same, or what `DeLightSAM.mixture` makes of numbers that only a GPU knows."""


class Outputs(NamedTuple):
    """All that one pass gives.

    Attributes:
        logits: (B, 1, S, S) mask logits at the input's resolution.
        patch_logits: (B, 1, S/32, S/32) logits of the SP-Generator ("pixel" stem: S/8); None where the model has none.
        embedding: (B, 256, S/16, S/16) of the encoder, before the prompt is added ("pixel" stem: S/4).
    """

    logits: Tensor
    patch_logits: Tensor | None
    embedding: Tensor


class DeLightSAM(nn.Module):
    """The whole model. Images of one batch may be of different modalities.

    Args:
        config: the architecture; or give its fields as keywords, `DeLightSAM(modalities=(0, 3), stem="pixel")`.

    Fresh weights have controllers of (nearly) zero effect and prompts of none: the model starts as its shared part alone.
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
        self.prompts = SelfPatchPrompts(c.prompt_threshold) if c.prompts == "self" else None
        self.decoder = (
            Decoder(c.modalities, c.queries, c.hypernetworks, c.added)
            if c.decoder == "query"
            else ConvolutionalDecoder()
        )
        self.guess = ModalityGuess(c.modalities) if c.guesses_modality else None
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

    def forward(self, images: Tensor, modality: Modality) -> Tensor:
        """Mask logits (B, 1, S, S) of normalised images (B, 3, S, S); `modality` numbers, or one number for all.

        Sides are multiples of 32 ("pixel" stem: of 8) and need not be equal.

        Raises:
            ValueError: a wrong shape, a side that does not divide, or a modality that the model does not know.
        """
        return self.outputs(images, modality).logits

    def outputs(self, images: Tensor, modality: Modality, patches: Tensor | None = None) -> Outputs:
        """As `forward`, with the patch logits and the embedding beside the mask logits.

        Args:
            patches: (B, 1, S/32, S/32) zeros and ones that take the place of the self-made prompt ("pixel" stem: S/8).

        Raises:
            ValueError: as `forward`; or patches of another shape, or for a model without SP-Generator.
        """
        self._check(images)
        order, groups = self._groups(modality, images.shape[0])
        embedding = self._embed(taken(images, order), groups)
        return self._decode(embedding, groups, images.shape[-2:], order, patches)

    def decode(
        self, embedding: Tensor, modality: Modality, size: Sequence[int], patches: Tensor | None = None
    ) -> Outputs:
        """What `outputs` does after the encoder.

        Args:
            embedding: (B, 256, h, w) of `encode`.
            size: (height, width) of the mask logits.
            patches: (B, 1, h/2, w/2), as for `outputs`.
        """
        order, groups = self._groups(modality, embedding.shape[0])
        return self._decode(taken(embedding, order), groups, size, order, patches)

    def encode(self, images: Tensor, modality: Modality | None) -> Tensor:
        """Embeddings (B, 256, S/16, S/16); with `modality=None` of the shared encoder alone, without controllers."""
        self._check(images)
        if modality is None:
            return self._embed(images, ())
        order, groups = self._groups(modality, images.shape[0])
        return put_back(self._embed(taken(images, order), groups), order)

    def guess_modality(self, images: Tensor) -> Tensor:
        """The likeliest modality's number, (B,) int64, of normalised images (B, 3, S, S).

        Raises:
            ValueError: the model has no head for it (see `enable_guess`), or the head has not seen training images yet.
        """
        if self.guess is None:
            raise ValueError("This model can't tell an image's modality (guesses_modality = False): give its number.")
        return self.guess(self.encode(images, None))

    def mixture(self, modality: Tensor, among: Sequence[int]) -> Mixture:
        """Modality numbers (B,) on a GPU, all of them among those given, in a form whose values the program never asks for:
        more arithmetic, fewer launches, and the same ones for all such batches of a size."""
        return Mixture.of_numbers(modality, self._numbers(among, len(among)))

    def enable_guess(self) -> ModalityGuess:
        """The head that tells an image's modality; a model that has none gets one.

        It learns by `model.enable_guess().observe(model.encode(images, None), modality)` on all training images.
        """
        if self.guess is None:
            self.config = replace(self.config, guesses_modality=True)
            self.guess = ModalityGuess(self.config.modalities).to(next(self.parameters()).device)
        return self.guess

    def predict(self, images: Tensor, modality: Modality) -> Tensor:
        """Mask logits (B, 1, S, S) of images with values in [0, 1], normalised here by the config's preset."""
        return self(normalise(images, self.config.preprocessing), modality)

    def segment(self, image: np.ndarray, modality: str | int, *, probabilities: bool = False) -> Mask:
        """The mask of one image of any size, at that size. See `delightsam.modeling.segmentation` for how.

        Args:
            image: (H, W, 3) uint8 RGB, or (H, W) uint8 grey.
            modality: its name or number, or "auto" for a model that guesses it.
            probabilities: give (H, W) float32 in [0, 1] in place of the mask.

        Returns:
            (H, W) bool.

        Raises:
            ValueError: an image of another shape or dtype, or a modality that the model does not know.
        """
        return segment(self, [image], modality, probabilities=probabilities)[0]

    def segment_batch(
        self,
        images: Sequence[np.ndarray],
        modality: str | int | Sequence[str | int],
        *,
        batch_size: int = 8,
        probabilities: bool = False,
    ) -> list[Mask]:
        """As `segment`, for images of different sizes, `batch_size` of them at once; one modality, or one for each."""
        return segment(self, images, modality, batch_size=batch_size, probabilities=probabilities)

    def fuse(self, dtype: torch.dtype = torch.float32) -> Self:
        """Turns the model into its inference form, in place: same function, faster; it can no longer be trained.

        Args:
            dtype: of weights and activations: float32, or bfloat16 for speed. Mask logits stay float32.

        Raises:
            ValueError: the model is in training mode.
        """
        if self.training:
            raise ValueError(
                "fuse() is for inference: call model.eval() first (BatchNorm statistics become constants)."
            )
        if not self.fused:
            fuse_modules(self, dtype)
            self.requires_grad_(False)
            self.to(memory_format=torch.channels_last)
            self.fused = True
        return self

    def checkpoint_activations(self, enabled: bool = True) -> Self:
        """Has the encoder's activations computed again in the backward pass: less memory, more time, same gradients."""
        self.encoder.backbone.checkpoint = enabled
        return self

    def train(self, mode: bool = True) -> Self:
        if mode and getattr(self, "fused", False):
            raise ValueError("A fused model can't be trained: load the checkpoint again.")
        return super().train(mode)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters in all ("total"), and those one image meets ("active": shared parts and one controller)."""
        total = sum(p.numel() for p in self.parameters())
        owned = [*self.controllers.values()]
        if isinstance(self.decoder, Decoder) and self.config.hypernetworks == "per_modality":
            owned += list(self.decoder.hypernetworks.values())
        per_modality = sum(p.numel() for module in owned for p in module.parameters())
        return {"total": total, "active": total - per_modality + per_modality // len(self.config.modalities)}

    def _embed(self, images: Tensor, groups: Sequence[Group] | Mixture) -> Tensor:
        controllers: Controllers = ()
        if self.controllers and isinstance(groups, Mixture):
            own = [self.controllers[str(k)] for k in groups.modalities]
            controllers = MixedControllers(own, groups)  # type: ignore[arg-type]
        elif self.controllers and not isinstance(groups, Mixture):
            controllers = [(self.controllers[str(g.modality)], g) for g in groups]  # type: ignore[misc]
        if self.fused:
            images = images.to(next(self.encoder.parameters()).dtype)
        # Channels last: the tokens of the attention stages are then a view of the convolutions' maps.
        return self.encoder(images.contiguous(memory_format=torch.channels_last), controllers)

    def _decode(
        self,
        embedding: Tensor,
        groups: Sequence[Group] | Mixture,
        size: Sequence[int],
        order: list[int],
        patches: Tensor | None,
    ) -> Outputs:
        """All outputs in the order of the batch, of its embedding sorted by modality."""
        patch_logits, prompted = None, embedding
        if self.prompts is not None:
            patch_logits, prompt = self.prompts(embedding, None if patches is None else taken(patches, order))
            prompted = embedding + prompt
        elif patches is not None:
            raise ValueError("This model has no SP-Generator (prompts = 'none'): it takes no patches.")
        masks = self.decoder(prompted, groups)
        # Enlarged in bfloat16, borders of masks would move.
        masks = masks.to(torch.promote_types(masks.dtype, torch.float32))
        logits = F.interpolate(masks, tuple(size), mode="bilinear", align_corners=False)
        return Outputs(
            put_back(logits, order),
            None if patch_logits is None else put_back(patch_logits, order),
            put_back(embedding, order),
        )

    def _groups(self, modality: Modality, batch: int) -> tuple[list[int], Sequence[Group] | Mixture]:
        """The order that sorts the batch by modality (empty where it is sorted), and its groups."""
        if isinstance(modality, Mixture):
            return [], modality
        numbers = self._numbers(modality, batch)
        if isinstance(modality, int):
            # Not counted out: an exported model's batch has no size yet.
            return [], [Group(modality, 0, batch)]
        return group_by_modality(numbers)

    def checked_numbers(self, images: Tensor, modality: Numbers) -> list[int]:
        """The modality number of each image, or one for all.

        Raises:
            ValueError: as `forward`.
        """
        self._check(images)
        return self._numbers(modality, images.shape[0])

    def _numbers(self, modality: Numbers, batch: int) -> list[int]:
        numbers = [modality] if isinstance(modality, int) else as_list(modality)
        if len(numbers) != batch and not isinstance(modality, int):
            raise ValueError(f"{batch} images need {batch} modality numbers; found {len(numbers)}.")
        unknown = sorted(set(numbers) - set(self.config.modalities))
        if unknown:
            known = ", ".join(map(str, self.config.modalities))
            raise ValueError(f"This model knows the modality numbers {known}; found {', '.join(map(str, unknown))}.")
        return numbers

    def _check(self, images: Tensor) -> None:
        multiple = self.config.size_multiple
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Images are (B, 3, H, W); found shape {tuple(images.shape)}.")
        if images.shape[2] % multiple or images.shape[3] % multiple or not images.shape[2] or not images.shape[3]:
            size = f"{images.shape[2]} x {images.shape[3]}"
            raise ValueError(f"Image sides must be multiples of {multiple} pixels; found {size}. Resize or pad first.")

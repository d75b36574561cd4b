"""The SAM family under the method contract: oracle boxes, oracle points or the whole image; as it is, or fine-tuned.

Kirillov et al., "Segment Anything", ICCV 2023. What an oracle-prompted row scores is how well objects are outlined once
somebody has found them: it is no rival of a method that finds them by itself, and reports rank it apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.losses import LOSSES
from baselines.names import unknown
from baselines.sam.lora import add_lora, attention_projections
from baselines.sam.prompts import Objects, find_objects, jittered
from baselines.stages import Stage

# name -> (module, class); imported when asked for, because transformers takes seconds.
FAMILIES = {
    "lite_medsam": ("baselines.sam.light", "LightSam"),
    "mobile_sam": ("baselines.sam.light", "LightSam"),
    "sam": ("baselines.sam.hub", "HubSam"),
    "medsam": ("baselines.sam.hub", "HubSam"),
    "sam_hq": ("baselines.sam.hub", "HubSamHQ"),
    "sam2": ("baselines.sam.hub", "HubSam2"),
}
# Those that learnt to draw three masks for an ambiguous prompt; MedSAM's authors trained the single mask alone.
_AMBIGUOUS = ("mobile_sam", "sam", "sam_hq", "sam2")
MODES = ("zero_shot", "decoder", "lora")
# Logits where there is no object and so no prompt: beyond any doubt, yet finite.
_NOTHING = -10.0
# Prompts that pass the mask decoder together. Each takes some 30 MB at 64 x 64 tokens: on a CPU one alone stays in the cache
# (0.095 s of one core against 0.125 s in eights).
_TOGETHER = {"cpu": 1, "cuda": 32}


class SamMethod(nn.Module):
    """What all prompts share.

    Args:
        modalities: names of the modalities; unused, every method is given them.
        family: a name of FAMILIES.
        weights: a file (lite_medsam, mobile_sam), or a folder or hub name (the others).
        mode: "zero_shot": nothing learns. "decoder": the mask decoder learns. "lora": the mask decoder, and low-rank updates
            of the image encoder's attention (SAMed).
        per_component: a prompt for each connected component, their masks united; False: one for all of the foreground.
        jitter: pixels, of the network's square, by which each side of a box is moved at most; see `prompts.jittered`.
        rank: of LoRA; SAMed's default.
        objects_per_image: so many objects of an image are prompted at most while it learns, chosen at random and with only
            themselves as target: every prompt keeps a decoder's activations.
        loss: `bce_dice`, `bce` or `dice`.

    Raises:
        ValueError: an unknown name, weights that can't be had or don't fit; the message says what to do.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        family: str,
        weights: str,
        mode: str = "zero_shot",
        per_component: bool = True,
        jitter: int = 0,
        rank: int = 4,
        objects_per_image: int = 8,
        loss: str = "bce_dice",
    ) -> None:
        super().__init__()
        if family not in FAMILIES:
            raise unknown("family", family, FAMILIES)
        if mode not in MODES:
            raise unknown("mode", mode, MODES)
        if loss not in LOSSES:
            raise unknown("loss", loss, LOSSES)
        for name, value, least in (
            ("jitter", jitter, 0),
            ("rank", rank, 1),
            ("objects_per_image", objects_per_image, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value}: expected {least} or more.")
        module, class_name = FAMILIES[family]
        self.network = getattr(importlib.import_module(module), class_name)(weights, family)
        self.draws_three = family in _AMBIGUOUS and mode == "zero_shot"
        self.mode, self.per_component, self.jitter = mode, per_component, jitter
        self.objects_per_image, self.loss = objects_per_image, LOSSES[loss]
        self.requires_grad_(False)
        learned = [] if mode == "zero_shot" else self.network.decoder_parameters()
        if mode == "lora":
            learned += add_lora(attention_projections(self.network.encoder), rank)
        for parameter in learned:
            parameter.requires_grad_(True)

    def prompts(self, objects: Objects) -> Tensor:
        """Boxes (N, 4) or points (N, 2) in pixels of the mask."""
        raise NotImplementedError

    def objects(self, mask: Tensor) -> Objects:
        """What is prompted in a mask (H, W)."""
        return find_objects(mask, self.per_component)

    def train(self, mode: bool = True) -> SamMethod:
        """The image encoder stays in evaluation mode: its batch statistics are part of what it was trained to be."""
        super().train(mode)
        self.network.encoder.eval()
        return self

    def stages(self) -> list[Stage]:
        if self.mode == "zero_shot":
            return [Stage("observe", trainable=(), gradient=False)]
        return [Stage("train")]

    def observe(self, batch: Any) -> None:
        """Zero-shot: training images teach it nothing."""

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch with `images` (B, 3, S, S) and `masks` (B, 1, S, S), prompted as in the test."""
        return self.loss(*self._prompted(batch))

    def losses_by_image(self, batch: Any, step: Any) -> tuple[Tensor, Tensor]:
        """The loss of `training_loss`, and each image's own (B,)."""
        logits, masks = self._prompted(batch)
        own = [self.loss(one, mask)[0] for one, mask in zip(logits.split(1), masks.split(1), strict=True)]
        return self.loss(logits, masks)[0], torch.stack(own)

    def _prompted(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Logits, and the masks of the objects that were prompted."""
        found = [self._some(self.objects(mask)) for mask in batch.masks[:, 0]]
        masks = torch.stack([torch.from_numpy(one.labels > 0) for one in found])[:, None].to(batch.masks)
        return self.logits(batch.images, found), masks

    def _some(self, objects: Objects) -> Objects:
        if objects.count <= self.objects_per_image:
            return objects
        chosen = torch.randperm(objects.count)[: self.objects_per_image]
        return objects.only((chosen + 1).tolist())

    def logits(self, images: Tensor, found: Sequence[Objects]) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] and what is prompted in each -> logits (B, 1, H, W)."""
        height, width = images.shape[-2:]
        preprocessing = self.network.preprocessing
        pixels = preprocessing.pixels(images)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode == "lora"):
            embeddings = self.network.embed(pixels)
        united = []
        for image, embedding, objects in zip(images, embeddings, found, strict=True):
            prompts = preprocessing.coordinates(self.prompts(objects), height, width)
            prompts = jittered(prompts, self.jitter, preprocessing.size(height, width), image)
            united.append(self._united(embedding, prompts.to(images.device)))
        return preprocessing.logits(torch.stack(united)[:, None], height, width)

    def _united(self, embedding: tuple[Tensor, ...], prompts: Tensor) -> Tensor:
        """(h, w) logits of one image: the highest that any prompt gives a pixel, as the union of masks cut at 0."""
        if len(prompts) == 0:
            # No prompt, no object; the loss of such an image still has to hang on the parameters.
            corner = embedding[0].new_zeros(1, prompts.shape[1], dtype=torch.float32)
            return 0 * self._best(embedding, corner)[0] + _NOTHING
        best = [self._best(embedding, some).amax(0) for some in prompts.split(_TOGETHER.get(prompts.device.type, 8))]
        return torch.stack(best).amax(0)

    def _best(self, embedding: tuple[Tensor, ...], prompts: Tensor) -> Tensor:
        """(N, h, w): for each prompt one mask. A point is ambiguous, so a network that learnt to draw three does so, and
        the one that it trusts most is taken, as SAM's authors do; fine-tuning teaches the single mask."""
        multimask = prompts.shape[1] == 2 and self.draws_three
        masks, quality = self.network.masks(embedding, prompts, multimask)
        return masks[torch.arange(len(masks), device=masks.device), quality.argmax(1)]


class OracleSam(SamMethod):
    """Prompted from the true mask."""

    def predict_oracle(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64, (B, 1, H, W) 0 or 1 -> logits (B, 1, H, W)."""
        return self.logits(images, [self.objects(mask) for mask in masks[:, 0]])


class BoxSam(OracleSam):
    """A box around each object."""

    def prompts(self, objects: Objects) -> Tensor:
        return objects.boxes()


class PointSam(OracleSam):
    """A point inside each object."""

    def prompts(self, objects: Objects) -> Tensor:
        return objects.points()


class WholeSam(SamMethod):
    """One box, the whole image: nobody shows where the object is."""

    def prompts(self, objects: Objects) -> Tensor:
        height, width = objects.labels.shape
        return torch.tensor([[0.0, 0.0, width - 1.0, height - 1.0]])

    def objects(self, mask: Tensor) -> Objects:
        """All of the foreground as one; it is the target, never the prompt."""
        return find_objects(mask, per_component=False)

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1], (B,) int64 -> logits (B, 1, H, W)."""
        empty = [find_objects(image[0] * 0, per_component=False) for image in images]
        return self.logits(images, empty)


PROMPTS = {"oracle box": BoxSam, "oracle point": PointSam, "none": WholeSam}


def build(modalities: Sequence[str], prompt: str, **settings: Any) -> SamMethod:
    """The method for a prompt: "oracle box", "oracle point", or "none" (the whole image); settings are SamMethod's.

    Raises:
        ValueError: see SamMethod; an unknown prompt; jitter where there is no box to move.
    """
    if prompt not in PROMPTS:
        raise unknown("prompt", prompt, PROMPTS)
    if settings.get("jitter") and prompt != "oracle box":
        raise ValueError(f"jitter={settings['jitter']} moves an oracle's boxes; found prompt '{prompt}'. Set jitter=0.")
    return PROMPTS[prompt](modalities, **settings)

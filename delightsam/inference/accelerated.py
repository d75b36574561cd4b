"""`accelerate`: a copy of a model in the fastest form for its device."""

# torch types the call of a module as Any.
from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delightsam.inference.decoder import FastDecoder, FastPrompts
from delightsam.inference.encoder import FastEncoder
from delightsam.inference.graphs import GraphedFunction
from delightsam.inference.stacks import Chosen
from delightsam.modeling import kernels
from delightsam.modeling.decoder import Decoder
from delightsam.modeling.model import DeLightSAM, Numbers
from delightsam.modeling.preprocessing import normalise
from delightsam.modeling.segmentation import Mask, segment
from delightsam.modeling.tiny_vit import STEMS
from delightsam.modeling.transfer import sent

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Up to here a CPU, too, is faster with few operations; larger maps leave its cache, and pass the model in pieces.
_SMALL = 128 * 128


def accelerate(
    model: DeLightSAM,
    *,
    image_size: int | None = None,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
    controllers: bool = True,
) -> AcceleratedDeLightSAM:
    """A copy of a model that predicts as fast as its device can; the model itself is left as it is.

    Args:
        image_size: side of the square images that it is made for; None: the config's. Others work as well, a little slower.
        batch_size: images at once that it is made for; likewise.
        dtype: of weights and activations: float32, where logits differ from the model's by 1e-4 at most (by more where a
            GPU may compute convolutions in TF32, as PyTorch lets it); or bfloat16 or float16, for speed. Logits are
            float32.
        compiled: have `torch.compile` merge operations, too. The first call then takes a minute or more.
        controllers: False: the encoder works without them, as `model.encode(images, None)`; so it was trained in a stage
            `decode`. Prompts and decoder are those of the image's modality all the same.

    Raises:
        ValueError: another dtype, a size that the model can't take, or a model that is fused already.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` is torch.float32, torch.bfloat16 or torch.float16; found {dtype}.")
    if model.fused:
        raise ValueError("A fused model may have lost digits: accelerate the model that it was made of.")
    side = model.config.image_size if image_size is None else image_size
    multiple = model.config.size_multiple
    if side <= 0 or side % multiple or batch_size < 1:
        raise ValueError(
            f"Expected an `image_size` that is a multiple of {multiple}, and a `batch_size` of 1 or more; found {side} and"
            f" {batch_size}."
        )
    return AcceleratedDeLightSAM(model, (batch_size, 3, side, side), dtype, compiled, controllers)


class AcceleratedDeLightSAM(nn.Module):
    """Computes what a `DeLightSAM` in eval mode does, for inference alone: see `accelerate`.

    On a GPU a pass takes few, large operations, and one of the shape it was made for is a recorded graph: one launch. On a
    CPU large images pass the model in pieces that stay in the cache. It stays on its device and in its type.
    """

    def __init__(
        self,
        model: DeLightSAM,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        compiled: bool,
        controllers: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.dtype, self._controllers = model.config, dtype, controllers
        exact = copy.deepcopy(model).eval().fuse()
        self.model = exact if dtype == torch.float32 else copy.deepcopy(model).eval().fuse(dtype)
        self._shape = shape
        with torch.inference_mode():
            self._encoder = FastEncoder(exact, self.model)
            self._prompts = None
            if exact.prompts is not None and self.model.prompts is not None:
                self._prompts = FastPrompts(exact.prompts, self.model.prompts)
            # Images of modalities that were added see other queries.
            kinds = {number in self.config.added for number in self.config.modalities}
            self._decoders = {kind: self._decoder(exact, kind) for kind in kinds}
        self._small = _SMALL * STEMS[self.config.stem] ** 2 // STEMS["standard"] ** 2
        self._position = {number: position for position, number in enumerate(self.config.modalities)}
        run = torch.compile(self._run, dynamic=False) if compiled else self._run
        self._full_size = GraphedFunction(run) if self.device.type == "cuda" else run
        self.eval()

    def _decoder(self, exact: DeLightSAM, added: bool) -> FastDecoder | None:
        if not isinstance(exact.decoder, Decoder):
            return None
        return FastDecoder(exact.decoder, self.config, self.dtype, added)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def forward(self, images: Tensor, modality: Numbers) -> Tensor:
        """As `DeLightSAM.forward`; logits (B, 1, S, S) are float32.

        Raises:
            ValueError: as there.
        """
        if kernels.fast_path(images) and images.shape[2] * images.shape[3] > self._small:
            if self._controllers:
                return self.model(images, modality)
            return self.model.decode(self.model.encode(images, None), modality, images.shape[2:]).logits
        numbers = self.model.checked_numbers(images, modality)
        added = [number in self.config.added for number in numbers]
        with torch.autocast(images.device.type, enabled=False):
            images, chosen = images.to(self.dtype), self._chosen(numbers, len(images))
            if any(added) and not all(added):
                return self._of_both_kinds(images, chosen, added)
            run = self._full_size if images.shape == self._shape else self._run
            return run(images, chosen, added[0])

    def predict(self, images: Tensor, modality: Numbers) -> Tensor:
        """As `forward`, of images with values in [0, 1]."""
        return self(normalise(images, self.config.preprocessing), modality)

    def guess_modality(self, images: Tensor) -> Tensor:
        """As `DeLightSAM.guess_modality`."""
        return self.model.guess_modality(images)

    def segment(self, image: np.ndarray, modality: str | int, *, probabilities: bool = False) -> Mask:
        """As `DeLightSAM.segment`."""
        return segment(self, [image], modality, probabilities=probabilities)[0]

    def segment_batch(
        self,
        images: Sequence[np.ndarray],
        modality: str | int | Sequence[str | int],
        *,
        batch_size: int = 8,
        probabilities: bool = False,
    ) -> list[Mask]:
        """As `DeLightSAM.segment_batch`."""
        return segment(self, images, modality, batch_size=batch_size, probabilities=probabilities)

    def train(self, mode: bool = True) -> AcceleratedDeLightSAM:
        if mode:
            raise ValueError("An accelerated model can't be trained: train the model that it was made from.")
        return super().train(mode)

    def _chosen(self, numbers: Sequence[int], batch: int) -> Chosen:
        """Positions of modality numbers; where all are one, an int, which takes fewer operations."""
        positions = [self._position[number] for number in numbers]
        if len(set(positions)) == 1:
            return positions[0]
        return sent(torch.tensor(positions), self.device)

    def _run(self, images: Tensor, chosen: Chosen, added: bool) -> Tensor:
        return self._draw(self._embed(images, chosen), chosen, added, images.shape[-2:])

    def _embed(self, images: Tensor, chosen: Chosen) -> Tensor:
        """Embedding (B, h, w, 256)."""
        return self._encoder(images, chosen if self._controllers else None)

    def _draw(self, embedding: Tensor, chosen: Chosen, added: bool, size: Sequence[int]) -> Tensor:
        """Logits of an embedding (B, h, w, 256)."""
        if self._prompts is not None:
            _, embedding = self._prompts(embedding)
        decoder = self._decoders[added]
        masks = self.model.decoder(embedding.permute(0, 3, 1, 2), ()) if decoder is None else decoder(embedding, chosen)
        return F.interpolate(masks.float(), tuple(size), mode="bilinear", align_corners=False)

    def _of_both_kinds(self, images: Tensor, chosen: Chosen, added: Sequence[bool]) -> Tensor:
        """A batch in which some images see the query table alone, and some a query of their own beside it."""
        assert isinstance(chosen, Tensor)
        embedding = self._embed(images, chosen)
        logits = images.new_empty((len(images), 1, *images.shape[-2:]), dtype=torch.float32)
        for kind in (False, True):
            rows = sent(torch.tensor([i for i, one in enumerate(added) if one == kind]), images.device)
            logits[rows] = self._draw(embedding[rows], chosen[rows], kind, images.shape[-2:])
        return logits

"""What a frozen encoder makes of images: computed once for all methods that start from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from delightsam.training.embedding_cache import EmbeddingCache, WeightsDigest, embedding_setting, pixel_names


class FrozenEmbeddings:
    """Embeddings of an encoder that does not learn, kept in a folder that trainings share.

    What is kept depends on the encoder's weights and on what it is shown, not on who asks: methods with the same encoder and
    the same preprocessing find each other's embeddings, and get the same bits as if they had computed them. Without a
    folder, or for images that have no name, they are computed each time, and then not rounded through float16.

    Attributes:
        cache: what keeps them; None: nothing does.
    """

    cache: EmbeddingCache | None

    def __init__(self) -> None:
        self.cache = None
        self._digest = WeightsDigest()

    def use(self, folder: str | Path) -> None:
        """Keeps embeddings in `folder` from here on."""
        self.cache = EmbeddingCache(folder)

    @torch.no_grad()
    def __call__(
        self,
        encoder: nn.Module,
        encode: Callable[[Tensor], Tensor],
        images: Tensor,
        names: Sequence[str] | None,
        *,
        preprocessing: str,
        come_again: bool,
    ) -> Tensor:
        """The embeddings (B, C, h, w) of preprocessed images (B, 3, H, W), without gradient, channels last.

        Args:
            encoder: is put into evaluation mode.
            encode: preprocessed images -> embeddings, by nothing but the encoder's weights and buffers.
            names: for each image one that no other image has, of its pixels before the preprocessing; None: there is none.
            preprocessing: what was done to the images, in words.
            come_again: where there are no names, whether the same pixels may be asked for again: on a CPU they are then
                named by their content. On a GPU encoding again is faster than that.
        """
        encoder.eval()

        def encoded(part: Tensor) -> Tensor:
            # In one order of memory: sums over another one have other last bits.
            return encode(part.contiguous(memory_format=torch.channels_last))

        if self.cache is not None and names is None and come_again and not images.is_cuda:
            names = pixel_names(images)
        if self.cache is None or names is None:
            return encoded(images)
        setting = embedding_setting(self._digest(encoder), images, preprocessing)
        keys = [f"{setting} {name}" for name in names]
        kept = self.cache.get_or_compute(keys, lambda rows: encoded(images[rows]), images.device)
        # As the encoder gives them: a decoder's tokens are then a view.
        return kept.contiguous(memory_format=torch.channels_last)

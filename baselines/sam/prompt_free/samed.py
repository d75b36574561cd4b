"""SAMed: low-rank updates of the image encoder's queries and values; the mask decoder and the default prompt learn.

Zhang and Liu, "Customized Segment Anything Model for Medical Image Segmentation", arXiv 2304.13785, 2023.

As in the paper: updates of rank 4 of the query and value projections of every transformer block, zero at the start; the encoder
itself is frozen; the default embedding of the prompt encoder, the only prompt there is, and the whole mask decoder learn.
Other than in the paper: TinyViT's ten attention blocks take the place of ViT-B's twelve (its convolutional stage gets no update);
one foreground mask, SAM's single one, takes the place of a mask for each class; loss (there 0.8 Dice + 0.2 cross-entropy),
warm-up and learning rate are those of the bench.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baselines.sam.lora import add_query_value_lora
from baselines.sam.prompt_free.adaptation import Adaptation


class SAMed(Adaptation):
    """SAMed.

    Args:
        rank: of the updates; the paper's.
        **settings: see Adaptation.

    Raises:
        ValueError: a rank below 1; and see Adaptation.
    """

    def __init__(self, modalities: Sequence[str], rank: int = 4, **settings: Any) -> None:
        if rank < 1:
            raise ValueError(f"rank={rank}: expected 1 or more.")
        super().__init__(modalities, **settings)
        start = self.start
        self.learn([start.no_mask, *start.decoder.parameters()])
        for layer, heads in start.projections():
            self.learn(add_query_value_lora(layer, rank, heads))

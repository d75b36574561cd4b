"""Full fine-tuning: image encoder, default prompt and mask decoder all learn.

As MedSAM came from SAM (Ma et al., "Segment anything in medical images", Nature Communications 15, 654, 2024), which trained encoder and
decoder at one rate, with boxes. Here nobody prompts, and the encoder learns at a tenth of the decoder's rate, which is usual where
an encoder is pretrained: 1 gives one rate for all. BatchNorms keep their statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baselines.sam.prompt_free.adaptation import Adaptation
from baselines.stages import Stage


class FineTuning(Adaptation):
    """Everything learns.

    Args:
        encoder_rate: factor on the learning rate, for the image encoder.
        **settings: see Adaptation.

    Raises:
        ValueError: a factor of 0 or below; and see Adaptation.
    """

    def __init__(self, modalities: Sequence[str], encoder_rate: float = 0.1, **settings: Any) -> None:
        if encoder_rate <= 0:
            raise ValueError(f"encoder_rate={encoder_rate}: expected more than 0. A frozen encoder is DecoderHead's.")
        super().__init__(modalities, **settings)
        self.encoder_rate = encoder_rate
        self.learn(self.start.parameters())

    def stages(self) -> list[Stage]:
        return [Stage("train", learning_rate={"start.encoder.*": self.encoder_rate})]

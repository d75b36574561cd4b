"""Every adaptation, by a short name, and how the tests train one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from support.copies import copies_of

from baselines.sam.prompt_free.adaptation import Adaptation
from baselines.sam.prompt_free.autosam import AutoSam
from baselines.sam.prompt_free.fine_tuning import FineTuning
from baselines.sam.prompt_free.heads import ConvolutionalHead, DecoderHead, LinearProbe
from baselines.sam.prompt_free.medical_sam_adapter import MedicalSamAdapter
from baselines.sam.prompt_free.samed import SAMed
from harness.methods.adapter import MethodAdapter, checked_loss
from harness.training.stages import freeze_all_but, train_mode
from tests.baselines.sam.tiny import MODALITIES, Batch

ADAPTATIONS: dict[str, type[Adaptation]] = {
    "samed": SAMed,
    "medical_sam_adapter": MedicalSamAdapter,
    "autosam": AutoSam,
    "mask_decoder": DecoderHead,
    "conv_decoder": ConvolutionalHead,
    "finetune": FineTuning,
    "linear_probe": LinearProbe,
}
# Those that draw with SAM's own decoder, and so begin as SAM.
WITH_DECODER = ("samed", "medical_sam_adapter", "autosam", "mask_decoder", "finetune")


def make_anew(name: str, family: str, weights: object, seed: int = 0, **settings: Any) -> Adaptation:
    """AutoSAM's guide is a small one, unless another is asked for."""
    if name == "autosam":
        settings = {"guide": "mobilenet_v2", **settings}
    torch.manual_seed(seed)
    return ADAPTATIONS[name](MODALITIES, family=family, weights=str(weights), **settings).eval()


def make(name: str, family: str, weights: object, seed: int = 0, **settings: Any) -> Adaptation:
    """A copy of what `make_anew` made once: its file need not be read again."""
    if settings:
        return make_anew(name, family, weights, seed, **settings)
    made = _made(name, family, str(weights), seed)()
    torch.manual_seed(seed)
    return made


@lru_cache(maxsize=20)
def _made(name: str, family: str, weights: str, seed: int) -> Callable[[], Adaptation]:
    return copies_of(make_anew(name, family, weights, seed))


def step(made: Adaptation, batch: Batch, steps: int, rate: float = 1e-3) -> list[float]:
    """Trains as the harness does; the losses before each step."""
    (stage,) = MethodAdapter(made).stages()
    learnable = {name for name, value in made.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(freeze_all_but(made, stage.trainable, learnable).values(), lr=rate)
    train_mode(made)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = checked_loss(made, made.training_loss(batch, None))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    made.eval()
    return losses


def names_within(names: Sequence[str] | set[str], *prefixes: str) -> set[str]:
    return {name for name in names if name.startswith(prefixes)}

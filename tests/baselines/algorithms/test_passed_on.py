"""What an algorithm does not change reaches the method that it wraps, and comes back from it."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.ema import EMA
from baselines.algorithms.swad import SWAD
from harness.methods.adapter import MethodAdapter
from tests.baselines.algorithms.toy import MODALITIES, Step


class Own(nn.Module):
    """Counts what it is called with, and says its stages in mappings."""

    def __init__(self, modalities: list[str]) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.called: list[Any] = []

    def stages(self) -> list[dict[str, Any]]:
        return [{"name": "a", "trainable": "layer.*", "share": 2}, {"name": "b", "learning_rate": {"layer.*": 0.5}}]

    def after_step(self, step: Any) -> None:
        self.called.append(step.index)

    def after_epoch(self, score: float) -> None:
        self.called.append(score)


@pytest.mark.parametrize("algorithm", [Algorithm, EMA, SWAD])
def test_the_methods_own_steps_and_stages(algorithm: type[Algorithm]) -> None:
    wrapper = algorithm(MODALITIES, Own)
    adapter = MethodAdapter(wrapper)
    adapter.after_step(Step(0, 1))
    adapter.after_epoch(0.5)
    assert wrapper.method.called == [0, 0.5]
    first, second = adapter.stages()
    assert (first.trainable, first.share) == (("method.layer.*",), 2)
    assert second.learning_rate == {"method.layer.*": 0.5}

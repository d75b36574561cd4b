"""EMA: the average is what is tested, and only that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.algorithms.ema import EMA
from tests.baselines.algorithms.toy import Step, ToyMethod, disks, loss_of, make

BATCH = disks(4)


def train(method: Any, steps: int) -> list[dict[str, Tensor]]:
    """Trains, and returns the method's own state after each step."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.1)
    states = []
    for index in range(steps):
        optimizer.zero_grad()
        loss_of(method.train(), disks(4, seed=index)).backward()
        optimizer.step()
        method.after_step(Step(index, steps))
        states.append({name: value.clone() for name, value in method.method.state_dict().items()})
    return states


def test_average_by_hand_with_its_warm_up() -> None:
    method = make(EMA, decay=0.15)
    states = train(method, 4)
    for name, value in method.average.state_dict().items():
        expected = states[0][name]
        for n, state in enumerate(states[1:], start=1):
            kept = min(0.15, n / (n + 9))  # 0.1, then 0.15
            expected = state[name] if name.endswith("tracked") else kept * expected + (1 - kept) * state[name]
        torch.testing.assert_close(value, expected, msg=name)


def test_evaluation_predicts_by_the_average_and_training_learns_without_it() -> None:
    method, alone = make(EMA), make(EMA, decay=0.0)
    states = train(method, 5), train(alone, 5)
    assert all(torch.equal(states[0][-1][name], states[1][-1][name]) for name in states[0][-1])
    averaged = method.eval().predict(BATCH.images, BATCH.modality)
    assert torch.equal(averaged, method.average.predict(BATCH.images, BATCH.modality))
    assert not torch.equal(averaged, method.method.eval().predict(BATCH.images, BATCH.modality))
    newest = alone.eval().predict(BATCH.images, BATCH.modality)
    assert torch.equal(newest, alone.method.predict(BATCH.images, BATCH.modality))


def test_the_average_never_trains_and_counts_once() -> None:
    method = make(EMA)
    train(method, 2)
    assert not any(parameter.requires_grad for parameter in method.average.parameters())
    assert all(parameter.grad is None for parameter in method.average.parameters())
    deployed = {id(parameter) for parameter in method.deployed_parameters()}
    assert deployed == {id(parameter) for parameter in method.average.parameters()}
    assert method.active_parameters() == sum(p.numel() for p in method.method.parameters())


def test_what_else_a_method_offers_comes_from_the_average() -> None:
    class Guessing(ToyMethod):
        def __init__(self, modalities: list[str]) -> None:
            super().__init__(modalities)
            self.register_buffer("seen", torch.tensor(0))
            self.register_buffer("joint", torch.tensor(False))

        def training_loss(self, batch: Any, step: Any) -> Any:
            self.joint.fill_(True)
            return super().training_loss(batch, step)

        def guess_modality(self, images: Tensor) -> Tensor:
            return self.seen + (self(images).mean((1, 2, 3)) > 0)

        def observe(self, batch: Any) -> None:
            self.seen += len(batch)

    method = make(EMA, method=Guessing)
    train(method, 2)
    assert method.average.joint, "a state of the method is copied"
    method.eval().observe(BATCH)
    assert method.method.seen == method.average.seen == 4
    assert method.guess_modality.__self__ is method.average
    assert not hasattr(make(EMA), "guess_modality") and not hasattr(make(EMA), "predict_oracle")


def test_wrong_settings() -> None:
    with pytest.raises(ValueError, match="EMA: expected decay of 0 to 1, found 2"):
        make(EMA, decay=2.0)

"""Optimisers and schedules against hand-worked values."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from harness.config import TrainingConfig
from harness.training.optimizers import make_optimizer, make_schedule


def parameters() -> dict[str, torch.nn.Parameter]:
    return dict(torch.nn.Conv2d(2, 3, 3).named_parameters())


def rates(config: TrainingConfig, epochs: int, steps_per_epoch: int) -> list[float]:
    """The learning rate that each step is taken with."""
    optimizer = make_optimizer(parameters(), config)
    schedule = make_schedule(optimizer, config, epochs, steps_per_epoch)
    taken = []
    for _ in range(epochs * steps_per_epoch):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return taken


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_the_optimiser_has_its_name_rate_and_decay(name: str, kind: type[torch.optim.Optimizer]) -> None:
    optimizer = make_optimizer(parameters(), TrainingConfig(optimizer=name, learning_rate=0.3, weight_decay=0.2))
    assert isinstance(optimizer, kind)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]
    by_dimensions = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert by_dimensions == {4: 0.2, 1: 0.0}
    if name == "sgd":
        assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_it_takes_torchs_steps_and_never_needs_its_compiler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch imports its compiler in a step; two seconds of every process that trains."""

    def walked(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        for number in range(3):
            optimizer.zero_grad()
            network(torch.full((1, 2, 3, 3), number + 1.0)).square().sum().backward()
            scaler.step(optimizer)
            optimizer.load_state_dict(optimizer.state_dict())
        assert all(not value.requires_grad for value in optimizer.state[next(network.parameters())].values())
        return [parameter.detach().clone() for parameter in network.parameters()]

    config = TrainingConfig(optimizer=name, learning_rate=0.01, weight_decay=0.1)
    networks = [torch.nn.Conv2d(2, 3, 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    theirs = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    more = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    groups = [
        {"params": [networks[0].weight], "weight_decay": 0.1},
        {"params": [networks[0].bias], "weight_decay": 0.0},
    ]
    expected = walked(networks[0], theirs(groups, lr=0.01, fused=True, **more))
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # to import it is an error from here on
    found = walked(networks[1], make_optimizer(dict(networks[1].named_parameters()), config))
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))


def test_each_parameter_is_optimised_once_even_when_all_are_vectors() -> None:
    vectors = {name: torch.nn.Parameter(torch.zeros(3)) for name in "ab"}
    optimizer = make_optimizer(vectors, TrainingConfig())
    assert [p for group in optimizer.param_groups for p in group["params"]] == list(vectors.values())


def test_one_cycle_warms_up_to_the_rate_and_ends_near_nothing() -> None:
    taken = rates(TrainingConfig(schedule="one_cycle", learning_rate=0.1), epochs=10, steps_per_epoch=10)
    assert max(taken) == pytest.approx(0.1, rel=1e-3)
    assert 8 <= taken.index(max(taken)) <= 11  # a tenth of a hundred steps
    assert taken[0] == pytest.approx(0.1 / 25)
    assert taken[-1] < 1e-3
    assert sorted(taken[12:], reverse=True) == taken[12:]


def test_cosine_falls_along_a_cosine() -> None:
    taken = rates(TrainingConfig(schedule="cosine", learning_rate=0.1), epochs=2, steps_per_epoch=4)
    assert taken == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])


def test_exponential_falls_after_each_epoch_and_not_within() -> None:
    config = TrainingConfig(schedule="exponential", learning_rate=0.1, decay=0.5)
    assert rates(config, 3, 2) == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])


def test_constant_stays() -> None:
    assert rates(TrainingConfig(schedule="constant", learning_rate=0.1), 2, 2) == [0.1] * 4


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
def test_any_small_budget_works(schedule: str) -> None:
    for steps in range(1, 25):
        taken = rates(TrainingConfig(schedule=schedule, learning_rate=0.1), 1, steps)
        assert len(taken) == steps
        assert all(0 < rate <= 0.1 for rate in taken)
        if schedule == "one_cycle":
            assert taken[0] == pytest.approx(0.1 / 25)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
def test_a_schedule_goes_on_from_its_state(schedule: str) -> None:
    config = TrainingConfig(schedule=schedule, decay=0.5)
    optimizer = make_optimizer(parameters(), config)
    first = make_schedule(optimizer, config, 2, 3)
    for _ in range(4):
        optimizer.step()
        first.step()
    other = make_optimizer(parameters(), config)
    second = make_schedule(other, config, 2, 3)
    other.load_state_dict(optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        for pair in ((optimizer, first), (other, second)):
            pair[0].step()
            pair[1].step()
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_the_first_pattern_that_fits_a_name_says_its_rate() -> None:
    named = {name: torch.nn.Parameter(torch.zeros(3, 3)) for name in ("encoder.neck", "encoder.stem", "decoder")}
    config = TrainingConfig(learning_rate=0.1)
    optimizer = make_optimizer(named, config, {"encoder.neck": 0.5, "encoder.*": 0.01, "*.stem": 7.0})
    found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: found[id(p)] for name, p in named.items()} == pytest.approx(
        {"encoder.neck": 0.05, "encoder.stem": 0.001, "decoder": 0.1}
    )
    halved = make_optimizer(named, config, 0.5)
    assert [group["lr"] for group in halved.param_groups] == [0.05]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
def test_every_part_keeps_its_factor_along_the_schedule(schedule: str) -> None:
    named = {name: torch.nn.Parameter(torch.zeros(3, 3)) for name in "ab"}
    config = TrainingConfig(learning_rate=0.1, schedule=schedule, decay=0.5)
    optimizer = make_optimizer(named, config, {"b": 0.2})
    changing = make_schedule(optimizer, config, 4, 5)
    highest = 0.0
    for _ in range(20):
        full, fifth = (group["lr"] for group in optimizer.param_groups)
        assert fifth == pytest.approx(0.2 * full)
        highest = max(highest, full)
        optimizer.step()
        changing.step()
    assert highest == pytest.approx(0.1, rel=1e-2)

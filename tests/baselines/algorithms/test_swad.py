"""SWAD: which epochs are averaged, and where the average goes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.algorithms.swad import SWAD
from tests.baselines.algorithms.toy import MODALITIES, Step, disks, make

STEPS = 2  # an epoch
FALLING = [0.9, 0.8, 0.7, 0.6, 0.5]


def averaged_epochs(losses: Sequence[float], start: int = 3, end: int = 6, tolerance: float = 1.3) -> list[int]:
    """Algorithm 1 of the paper by its definition, with a list of all epochs; numbers from 0."""
    for i in range(start - 1, len(losses)):
        window = losses[i - start + 1 : i + 1]
        if window[0] == min(window):
            first, limit = i - start + 1, tolerance * sum(window) / start
            break
    else:
        return [len(losses) - 1]
    for i in range(first + end - 1, len(losses)):
        if min(losses[i - end + 1 : i + 1]) > limit:
            return list(range(first, i - end + 1))
    inside = [i for i in range(first, len(losses)) if losses[i] <= limit]
    return list(range(first, inside[-1] + 1))


def trained(losses: Sequence[float], stop_after: int | None = None, method: Any = None, **settings: int) -> Any:
    """A training whose weights are all set to the number of the step (from 1), judged by these losses."""
    method = method or make(SWAD, **settings)
    total, resumed = STEPS * len(losses), getattr(method, "epochs_done", 0)
    for epoch in range(resumed, len(losses) if stop_after is None else stop_after):
        for number in range(STEPS):
            index = epoch * STEPS + number
            with torch.no_grad():
                for value in [*method.method.parameters(), *method.method.buffers()]:
                    value.fill_(index + 1)
            method.after_step(Step(index, total, epoch))
        method.after_epoch(1 - losses[epoch])
    return method


def steps_of(epochs: Sequence[int]) -> list[int]:
    return [epoch * STEPS + number + 1 for epoch in epochs for number in range(STEPS)]


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        (FALLING, [4]),  # no start: the last epoch
        ([*FALLING, 0.5, 0.5, 0.5], [4, 5, 6, 7]),  # a plateau up to the end
        ([0.5, 0.6, 0.6, 0.55, 0.9], [0, 1, 2, 3]),  # the last epoch is out of the valley
        ([0.5, 0.5, 0.5, *[0.7] * 6, 0.1, 0.1], [0, 1, 2]),  # six are out: what comes later does not count
        ([0.5, 0.5, 0.5, *[0.7] * 5, 0.1, 0.1], list(range(10))),  # five are not enough
        ([float("nan")] * 4, [3]),  # not judged
    ],
)
def test_the_valley(losses: list[float], epochs: list[int]) -> None:
    assert averaged_epochs(losses) == epochs or losses[0] != losses[0]
    method = trained(losses)
    expected = torch.tensor(steps_of(epochs), dtype=torch.float32).mean()
    for name, value in [*method.method.named_parameters(), *method.method.named_buffers()]:
        if name.endswith("num_batches_tracked"):
            assert value == STEPS * len(losses), "a counter is not averaged"
        else:
            torch.testing.assert_close(value, expected.expand_as(value), msg=name)


def test_random_losses_agree_with_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for number in range(24):
        losses = (torch.rand(12, generator=generator) * 0.5 + 0.2 + 0.03 * (number % 4)).tolist()
        settings = {"start_patience": 2 + number % 2, "end_patience": 1 + number % 4}
        epochs = averaged_epochs(losses, settings["start_patience"], settings["end_patience"])
        mean = trained(losses, **settings).method.last.bias.item()
        assert mean == pytest.approx(sum(steps_of(epochs)) / len(steps_of(epochs)), rel=1e-5), (losses, settings)
        seen.add((epochs[0] > 0, epochs[-1] < 11))
    assert len(seen) == 4, "early and late starts and ends were met"


def test_goes_on_from_a_checkpoint_bit_by_bit(tmp_path: Path) -> None:
    losses = [0.9, 0.5, 0.55, 0.6, 0.5, 0.52, 0.9, 0.5]
    for stop in (1, 3, 6):
        method = trained(losses, stop_after=stop)
        torch.save(method.state_dict(), tmp_path / "state.pt")
        other = make(SWAD, seed=1)
        other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        other.epochs_done = method.epochs_done = stop
        ends = [trained(losses, method=run).state_dict() for run in (method, other)]
        assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_each_stage_has_a_valley_of_its_own() -> None:
    method = trained([0.5, 0.5, 0.5, 0.5])
    assert trained(FALLING, method=method).method.last.bias.item() == sum(steps_of([4])) / 2


def test_before_the_end_epochs_are_those_of_the_method_alone() -> None:
    method = trained([0.5] * 8, stop_after=7)
    assert (method.method.last.bias == 14).all()
    batch = disks(2)
    predicted = method.eval().predict(batch.images, batch.modality)
    assert torch.equal(predicted, method.method.predict(batch.images, batch.modality))


def test_what_is_left_at_the_end_is_one_copy() -> None:
    method = trained([0.5] * 8)
    kept = sum(value.numel() for value in method.state_dict().values())
    assert kept < sum(value.numel() for value in method.method.state_dict().values()) + 10
    assert sum(1 for _ in method.parameters()) == sum(1 for _ in method.deployed_parameters())
    copy.deepcopy(method)


def test_wrong_settings() -> None:
    for name in ("start_patience", "end_patience", "tolerance"):
        with pytest.raises(ValueError, match=f"SWAD: expected {name} of 1 or more"):
            SWAD(MODALITIES, lambda modalities: torch.nn.Linear(1, 1), **{name: 0})

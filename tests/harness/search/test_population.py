"""Population based training: exploiting copies states on the same folds, and everything repeats to the bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from harness.config import SweepConfig, TrainingConfig
from harness.errors import UserError
from harness.planning.plan import Plan, build_plan
from harness.search import population
from harness.search.configurations import configured
from harness.search.population import _attempt, _generations, _Member, check_population
from harness.search.population_member import Step, _inherit, evaluate_member, read_step_result, take_step
from harness.search.ray_search import Setting
from harness.search.scheduling import Budget
from harness.search.space import Parameter
from harness.store.store import Store
from harness.training.optimizers import make_optimizer, make_schedule
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec

SPACE = [
    Parameter("training.learning_rate", "log_uniform", (1e-4, 1e-1)),
    Parameter("training.weight_decay", "log_uniform", (1e-6, 1e-2)),
]
EPOCHS = 4


@pytest.fixture
def suite(toy_config: Callable[..., Any]) -> Plan:
    config = toy_config("TwoStages", epochs=EPOCHS)
    config.protocol.max_folds = 2
    return build_plan(config)


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    return TrialContext(str(tmp_path / "runs"), str(tmp_path / "cache"))


def population_of(suite: Plan, context: TrialContext, folder: Path, most: float = math.inf) -> list[_Member]:
    """A population of four, trained here and not by Ray, until `most` steps were taken."""
    sweep = SweepConfig(scheduler="pbt")
    setting = Setting(sweep, SPACE, context, EPOCHS, folder)
    rates = (0.01, 1e-4, 0.03, 0.05)
    values = [{"training.learning_rate": rate, "training.weight_decay": 1e-4} for rate in rates]
    members = [_Member(number, each, each) for number, each in enumerate(values, 1)]
    budget, taken = Budget(math.inf, math.inf, 0.0), 0
    for batch in _generations(members, "all folds", suite.trials, setting, budget):
        for step in batch:
            if taken == most:
                return members
            take_step(step, trained_with(step, suite.trials), context)
            taken += 1
    return members


def trained_with(step: Step, trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    return [configured(trial, SPACE, step.values) for trial in trials]


def weights(member: _Member) -> list[bytes]:
    assert member.folder is not None
    return [path.read_bytes() for path in sorted(member.folder.glob("*/model.safetensors"))]


def test_a_population_repeats_to_the_bit_after_a_kill(suite: Plan, context: TrialContext, tmp_path: Path) -> None:
    whole = population_of(suite, context, tmp_path / "whole")
    population_of(suite, context, tmp_path / "killed", most=6)
    resumed = population_of(suite, context, tmp_path / "killed")
    assert [member.schedule for member in whole] == [member.schedule for member in resumed]
    assert [member.result for member in whole] == [member.result for member in resumed]
    assert [weights(member) for member in whole] == [weights(member) for member in resumed]
    assert len(weights(whole[0])) == 2
    # The worst took over from the best, and went on from its values times 0.8 or 1.2.
    changed = [member for member in whole if len({str(part["values"]) for part in member.schedule}) > 1]
    assert changed
    for member in changed:
        rates = [part["values"]["training.learning_rate"] for part in member.schedule]
        assert all(
            new == pytest.approx(old * factor) or new == old or new in SPACE[0].values
            for old, new in itertools.pairwise(rates)
            for factor in (0.8 if new < old else 1.2,)
        )
        assert [part["to_epoch"] for part in member.schedule] == [1, 2, 3, 4]
    attempt = _attempt(whole[0], 2, True)
    assert attempt.state == "done" and attempt.history[-1][0] == 8 and len(attempt.history) == EPOCHS


def test_a_member_that_changes_nothing_is_the_ordinary_trial(
    suite: Plan, context: TrialContext, tmp_path: Path
) -> None:
    (trial, _), values = suite.trials, {"training.learning_rate": 0.01, "training.weight_decay": 1e-4}
    parent = None
    for begin in range(EPOCHS):
        step = Step(1, tmp_path / "member" / str(begin), parent, values, values, begin, begin + 1)
        take_step(step, [trial], context)
        parent = step.folder
    run_trial(trial, context)
    record = Store(context.store_root).load(trial.ids)
    assert parent is not None and record.curves is not None and record.samples is not None
    result = read_step_result(step)
    assert result is not None and result.reason is None
    one, two = (
        load_file(parent / "0" / "model.safetensors"),
        load_file(record.folder / "weights.safetensors"),
    )
    assert all(torch.equal(one[name], two[name]) for name in two)
    evaluate_member(parent, [trial], context)
    tested = pd.read_parquet(parent / "tested.parquet")
    expected = record.samples[record.samples["role"] == "test"]
    assert tested["dice"].tolist() == expected["dice"].tolist() and tested["key"].tolist() == expected["key"].tolist()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
def test_the_schedule_goes_on_with_every_rate_multiplied(schedule: str, tmp_path: Path) -> None:
    def made(rate: float, decay: float) -> tuple[Any, Any]:
        model = torch.nn.Linear(2, 1)
        config = TrainingConfig(learning_rate=rate, weight_decay=decay, schedule=schedule)
        optimizer = make_optimizer(dict(model.named_parameters()), config)
        return optimizer, make_schedule(optimizer, config, epochs=5, steps_per_epoch=2)

    def walk(optimizer: Any, steps: Any, count: int) -> list[float]:
        rates = []
        for _ in range(count):
            optimizer.step()
            steps.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    optimizer, steps = made(0.01, 1e-4)
    walk(optimizer, steps, 4)
    torch.save({"optimizer": optimizer.state_dict(), "schedule": steps.state_dict()}, tmp_path / "parent.pt")
    before = {"training.learning_rate": 0.01, "training.weight_decay": 1e-4}
    after = {"training.learning_rate": 0.012, "training.weight_decay": 8e-5}
    _inherit(Step(1, tmp_path, None, before, after, 2, 3), tmp_path / "parent.pt", tmp_path / "child.pt")
    saved = torch.load(tmp_path / "child.pt", weights_only=True)
    child, child_steps = made(0.012, 8e-5)
    child.load_state_dict(saved["optimizer"])
    child_steps.load_state_dict(saved["schedule"])
    assert [group["weight_decay"] for group in child.param_groups] == [8e-5, 0.0]
    reference = walk(*made(0.012, 8e-5), 9)
    assert walk(child, child_steps, 5) == pytest.approx(reference[4:])


def test_a_failed_member_takes_over_from_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [_Member(number, {each.key: each.values[0] for each in SPACE}, {}) for number in range(1, 5)]
    for member, dice in zip(members, (0.5, 0.4, 0.3, math.nan), strict=True):
        member.result = population.StepResult([dice], [[dice]], "loss became NaN" if math.isnan(dice) else None)
        member.folder, member.schedule = tmp_path / str(member.number), [{"from_epoch": 1}]
    setting = Setting(SweepConfig(), SPACE, TrialContext("", ""), EPOCHS, tmp_path)
    population._exploit(members, setting, 1)
    assert [member.folder.name for member in members if member.folder] == ["1", "2", "3", "1"]


@pytest.mark.parametrize(
    ("space", "sampler", "message"),
    [
        ([Parameter("training.batch_size", "int", (2, 4))], "random", "training.batch_size can't be changed"),
        ([Parameter("methods.unet.model.width", "uniform", (2.0, 4.0))], "random", "can't be changed"),
        (SPACE, "optuna", r"expected sweep\.sampler=random, found optuna"),
    ],
)
def test_what_can_not_change_midway_is_refused(suite: Plan, space: list[Parameter], sampler: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_population(SweepConfig(sampler=sampler), space, suite.trials[0])

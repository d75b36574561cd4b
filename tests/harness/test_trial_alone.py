"""An algorithm that acts at test time alone has the weights of the method by itself, which are trained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

import suites
from baselines.algorithms.flips import Flips
from harness.cli.run import _trials_to_run
from harness.config import RunConfig
from harness.errors import UserError
from harness.methods.crossing import WRAPPED
from harness.planning.checks import check_methods
from harness.planning.plan import Plan, build_plan
from harness.store.store import Store
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec

ToyConfig = Callable[..., RunConfig]
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in Path(suites.__path__[0]).glob("algorithm/*.yaml")}
AT_TEST_TIME = sorted(name for name, file in FILES.items() if not file.get("changes_training", True))


class Leaning(Flips):
    """Flips, with a weight of its own."""

    def __init__(self, modalities: Any, method: Any) -> None:
        super().__init__(modalities, method)
        self.slope = nn.Parameter(torch.ones(()))


class Shouting(Flips):
    """Flips that looks on at every step, and could change what is learned."""

    def after_step(self, step: Any) -> None:
        super().after_step(step)


def plan_of(toy_config: ToyConfig, *algorithms: str, target: str | None = None) -> Plan:
    config = toy_config("TinyConv", epochs=3)
    config.algorithms = {name: dict(FILES[name]) for name in algorithms}
    if target is not None:
        config.algorithms[algorithms[-1]]["model"] = {"_target_": target}
    return build_plan(config)


def refuse_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fit(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("harness.training.fit.fit", no_fit)


def weights(context: TrialContext, trial: TrialSpec) -> dict[str, Tensor]:
    return load_file(Store(context.store_root).weights(trial.id))


def test_those_that_look_at_the_test_alone_say_so() -> None:
    assert AT_TEST_TIME == ["batch_norm", "flips", "tent"]


@pytest.mark.parametrize("name", AT_TEST_TIME)
def test_trained_by_itself_it_has_the_same_bits(toy_config: ToyConfig, context: TrialContext, name: str) -> None:
    alone, pair = plan_of(toy_config, "erm", name).trials
    assert pair.alone_id == alone.id != pair.id
    assert run_trial(pair, context)["state"] == run_trial(alone, context)["state"] == "done"
    first, second = weights(context, alone), weights(context, pair)
    assert [WRAPPED + key for key in first] == [*second]
    assert all(torch.equal(tensor, second[WRAPPED + key]) for key, tensor in first.items())


def test_weights_of_the_method_by_itself_are_taken_over(
    toy_config: ToyConfig, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, pair = plan_of(toy_config, "erm", "flips").trials
    run_trial(alone, context)
    refuse_to_fit(monkeypatch)
    assert run_trial(pair, context)["state"] == "done"

    store = Store(context.store_root)
    first, second = store.load(alone.ids), store.load(pair.ids)
    assert first.result is not None and second.result is not None
    assert second.result["weights_of"] == alone.id and second.result["id"] != first.result["id"]
    for key in ("training_seconds", "epochs", "chosen_epoch", "images_seen"):
        assert second.result[key] == first.result[key]
    assert second.provenance == first.provenance
    pd.testing.assert_frame_equal(second.curves, first.curves)
    assert store.spec(pair.ids) == pair
    assert second.samples is not None and first.samples is not None
    assert not np.array_equal(second.samples["dice"], first.samples["dice"])


def test_without_them_it_is_trained(
    toy_config: ToyConfig, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None are there, they are damaged, or `reuse=never` wants none."""
    alone, pair = plan_of(toy_config, "erm", "flips").trials
    run_trial(alone, context)
    store = Store(context.store_root)
    refuse_to_fit(monkeypatch)
    anew = TrialContext(context.store_root, context.cache_folder, take_over=False)
    assert "trained again" in run_trial(pair, anew)["reason"]
    whole = store.weights(alone.id).read_bytes()
    store.weights(alone.id).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "trained again" in run_trial(pair, context)["reason"]
    store.weights(alone.id).unlink()
    assert "trained again" in run_trial(pair, context)["reason"]


def test_the_method_by_itself_comes_first(toy_config: ToyConfig) -> None:
    plan = plan_of(toy_config, "flips", "ema", "erm")
    names = [trial.method.name for trial in _trials_to_run(plan, done=())]
    assert names == ["tinyconv+ema", "tinyconv", "tinyconv+flips"]


def test_one_that_changes_the_training_takes_nothing_over(toy_config: ToyConfig) -> None:
    assert all(trial.alone_id is None for trial in plan_of(toy_config, "erm", "ema").trials)


@pytest.mark.parametrize(("kind", "own"), [("Leaning", "the weights 'slope'"), ("Shouting", "the function after_step")])
def test_one_that_changes_training_is_refused(toy_config: ToyConfig, kind: str, own: str) -> None:
    with pytest.raises(UserError, match=rf"changes_training: false.*{kind} has {own}.*self\.method"):
        check_methods(plan_of(toy_config, "flips", target=f"{Leaning.__module__}.{kind}").trials)

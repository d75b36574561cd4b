"""Configurations: ordinary trials of `<method>_tuned`, and a YAML that asks for the same trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.loading import load_config
from harness.errors import UserError
from harness.planning.plan import Plan, build_plan
from harness.search.configurations import check_space, configured, default_values, method_yaml, tuned_name
from harness.search.space import Parameter
from harness.search.sweep import plan_sweep

SPACE = [
    Parameter("training.learning_rate", "log_uniform", (1e-4, 1e-1)),
    Parameter("methods.tinyconv.model.width", "int", (2, 6)),
]


@pytest.fixture
def suite(toy_plan: Callable[..., Plan]) -> Plan:
    made = toy_plan("TinyConv")
    made.config.methods["tinyconv"]["model"]["width"] = 4
    return build_plan(made.config)


def test_the_default_is_the_methods_own_trial(suite: Plan) -> None:
    (trial,) = suite.trials
    default = default_values(trial, SPACE)
    assert default == {"training.learning_rate": 0.01, "methods.tinyconv.model.width": 4}
    assert configured(trial, SPACE, default) == trial
    other = configured(trial, SPACE, {**default, "methods.tinyconv.model.width": 6})
    assert other.id != trial.id and other.method.name == "tinyconv_tuned"
    assert other.method.model["width"] == 6 and trial.method.model["width"] == 4


def test_the_yaml_asks_for_the_searched_trials(suite: Plan, tmp_path: Path) -> None:
    (trial,) = suite.trials
    values = {"training.learning_rate": 0.03, "methods.tinyconv.model.width": 2}
    text = method_yaml(suite.config.methods["tinyconv"], trial, SPACE, values, ["Found by a test."])
    path = tmp_path / "own" / "method" / "tinyconv_tuned.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert text.splitlines()[0] == "# @package methods.tinyconv_tuned"
    words = [
        "method=tinyconv_tuned", f"data.root={trial.data.root}", "protocol.max_folds=1", "training.image_size=32",
        "training.epochs=2", "training.augmentation=flips", "training.learning_rate=0.01", "training.amp=off",
        f"training.batch_size={trial.training.batch_size}",
    ]  # fmt: skip
    config = load_config(words, tmp_path / "own")
    (found,) = build_plan(config).trials
    assert found.id == configured(trial, SPACE, values).id


@pytest.mark.parametrize(
    ("key", "kind", "values", "message"),
    [
        ("training.learning_rat", "uniform", (0.1, 0.2), "Did you mean 'training.learning_rate'"),
        ("methods.tinyconv.model.widht", "int", (2, 4), "Did you mean 'methods.tinyconv.model.width'"),
        ("methods.unet.model.width", "int", (2, 4), "no setting of method tinyconv"),
        ("training.learning_rate", "uniform", (0.1, 1000.0), r"learning_rate=1000.0 is out of range"),
        ("training.optimizer", "choice", ("adam", "adamm"), "Did you mean 'adam'"),
        ("training.batch_size", "uniform", (1.5, 4.5), "expected a whole number"),
        ("training.image_size", "choice", (32, 50), "no multiple of 32"),
        ("training.epochs", "int", (2, 4), "equal budgets"),
        ("training.selection", "choice", ("last", "oracle"), "can't be searched"),
        ("methods.tinyconv.model.width", "choice", (2, "wide"), "width"),
    ],
)
def test_what_a_method_can_not_have_is_refused_before_anything_runs(
    suite: Plan, key: str, kind: str, values: tuple[object, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_space(suite.trials[0], [Parameter(key, kind, values)])


def test_crossed_methods_are_searched_in_both_parts(tmp_path: Path) -> None:
    words = ["method=unet", "algorithm=mixstyle", "data.modalities=[xray]", "data.phantoms.images_per_domain=2",
             "data.phantoms.image_size=64", f"store.root={tmp_path}"]  # fmt: skip
    trial = build_plan(load_config(words)).trials[0]
    space = [
        Parameter("methods.unet.model.encoder_name", "choice", ("resnet18", "mobilenet_v2")),
        Parameter("algorithms.mixstyle.model.alpha", "uniform", (0.1, 0.5)),
    ]
    default = default_values(trial, space)
    changed = configured(trial, space, {**default, space[0].key: "mobilenet_v2", space[1].key: 0.4}).method
    assert changed.model["method"]["encoder_name"] == "mobilenet_v2" and changed.model["alpha"] == 0.4
    assert changed.name == tuned_name("unet+mixstyle") == "unet_mixstyle_tuned"


def test_what_a_search_can_not_judge_is_refused(toy_config: Callable[..., object]) -> None:
    config = toy_config("TinyConv", selection="oracle")
    config.sweep.parameters = {"training.learning_rate": {"uniform": [0.1, 0.2]}}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="oracle looks at the test domain"):
        plan_sweep(config, build_plan(config))  # type: ignore[arg-type]
    config = toy_config("Floor")
    config.sweep.parameters = {"training.learning_rate": {"uniform": [0.1, 0.2]}}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="learns nothing by epochs"):
        plan_sweep(config, build_plan(config))  # type: ignore[arg-type]


def test_a_larger_budget_is_the_same_search(toy_config: Callable[..., object]) -> None:
    folders = []
    for trials, seed in ((4, 0), (8, 0), (4, 1)):
        config = toy_config("TinyConv")
        config.sweep.parameters = {"training.learning_rate": {"uniform": [0.1, 0.2]}}  # type: ignore[attr-defined]
        config.sweep.budget.trials, config.sweep.seed = trials, seed  # type: ignore[attr-defined]
        folders.append(plan_sweep(config, build_plan(config)).folder)  # type: ignore[arg-type]
    assert folders[0] == folders[1] != folders[2]

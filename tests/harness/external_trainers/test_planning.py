"""What a trial of an outside trainer is: its ids, and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.config import RunConfig
from harness.errors import UserError
from harness.external_trainers.folder import names_of
from harness.methods.card import check_method_config
from harness.methods.crossing import crossed
from harness.planning.checks import check_methods
from harness.planning.plan import build_plan
from harness.protocols.split import Split
from harness.search.sweep import plan_sweep
from harness.trial_spec import TrialSpec

from .conftest import CARD, trainer

Trial = Callable[..., TrialSpec]


def test_ids_change_with_what_decides_on_the_masks(outside_trial: Trial) -> None:
    plain = outside_trial().ids
    assert outside_trial().ids == plain
    assert outside_trial(timeout_hours=3).ids == plain
    assert outside_trial(training={"learning_rate": 0.5, "augmentation": "none"}).ids == plain
    for change in (
        {"train": ["{python}", "-c", "pass"]}, {"training": {"epochs": 3}}, {"training": {"cpu_threads": 2}},
        {"settings": ["epochs"]}, {"package": "numpy"},
    ):  # fmt: skip
        assert outside_trial(**change).ids.training != plain.training, change
    other = outside_trial(predict=["{python}", "-c", "pass"]).ids
    assert other.training == plain.training and other.prediction != plain.prediction


def test_the_version_of_the_package_is_part_of_the_ids(outside_trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    first = outside_trial(package="numpy")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0")
    second = outside_trial(package="numpy")
    assert second.method.outside.package_version == "99.0" and first.id != second.id
    with pytest.raises(UserError, match=r"expected numpy .* as it was planned, found 99\.0"):
        check_methods([first])


def test_settings_name_only_what_the_trainer_follows(outside_trial: Trial) -> None:
    assert outside_trial(settings=["epochs"]).settings()["training"] == {"selection": "trainer", "epochs": 2}
    followed = outside_trial(settings=["selection"]).settings()["training"]
    assert followed == {"selection": "training_domain_validation"}
    assert TrialSpec.from_json(outside_trial().to_json()) == outside_trial()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"package": "no_such_package"}, r"needs the package no_such_package.*pip install no_such_package"),
        ({"package": "no_such_package", "install": "make it"}, r"Install it: make it"),
        ({"train": ["no_such_program", "x"]}, r"there is no program 'no_such_program'"),
        ({"train": ["{python}", "no_such_script.py"]}, r"names no_such_script\.py, and .* has no such file"),
        ({"training": {"selection": "oracle"}}, r"gets no test masks"),
    ],
)
def test_refused_before_the_run(changes: dict[str, Any], words: str, outside_trial: Trial) -> None:
    with pytest.raises(UserError, match=words):
        check_methods([outside_trial(**changes)])


def test_corruptions_and_sweeps_are_not_for_it(outside_config: Callable[..., RunConfig]) -> None:
    config = outside_config()
    config.protocol = replace(config.protocol, name="corruptions", corruptions=["noise"], severities=[1])
    with pytest.raises(UserError, match="corrupts images batch by batch"):
        check_methods(build_plan(config).trials)
    config = outside_config()
    with pytest.raises(UserError, match="a sweep can't search it"):
        plan_sweep(config, build_plan(config))


def test_algorithms_pass_it_by() -> None:
    method = {"card": CARD, "trainer": trainer()}
    algorithm = {
        "card": {"title": "A", "paper": "none", "licence": "MIT", "sees_test_images": False},
        "model": {"_target_": "a.B"},
    }
    assert list(crossed({"outside": method}, {"mixup": algorithm})) == ["outside"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"trainer": {"train": "a word", "predict": ["a"]}},
            r"trainer\.train=a word: expected a command as a list.*my_trainer\.py,train\], found 'a word'",
        ),
        ({"trainer": {"train": ["a"]}}, r"trainer\.predict is missing: expected a command as a list"),
        ({"trainer": trainer(settings=["epoch"])}, r"settings\[0\]=epoch is unknown: .* Did you mean 'epochs'"),
        ({"trainer": trainer(timeout_hours=0)}, r"timeout_hours=0: expected a number above 0"),
        ({"trainer": trainer(pakage="x")}, r"pakage is unknown\. Did you mean 'package'"),
        ({"trainer": trainer(package=3)}, r"package=3: expected a text"),
        ({"trainer": ["a"]}, r"trainer=\['a'\]: expected one of its keys.*\(train, predict, "),
        ({"trainer": trainer(), "model": {"_target_": "a.B"}}, r"neither model: nor supports_algorithms"),
    ],
)
def test_faults_of_a_method_file_are_named(config: dict[str, Any], words: str) -> None:
    check_method_config("mine", {"card": CARD, "trainer": trainer()})
    with pytest.raises(UserError, match=words):
        check_method_config("mine", {"card": CARD, **config})


def test_two_images_of_one_file_name_are_refused(outside_trial: Trial) -> None:
    split = Split("fold0", ("xray/a__b/c",), (), ("xray/a/b__c",), ())
    with pytest.raises(UserError, match=r"same file name xray__a__b__c\.png"):
        names_of(replace(outside_trial(), split=split))

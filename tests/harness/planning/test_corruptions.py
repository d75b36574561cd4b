"""protocol=corruptions: the splits and the weights of leave_one_domain_out, predictions of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from support.specs import trial_spec

from harness.config import RunConfig, check_config
from harness.config.loading import load_config
from harness.data.corruptions.form import CorruptedForm, CorruptionSpec
from harness.data.corruptions.registry import corruptions_of
from harness.errors import UserError
from harness.planning.estimate import _work
from harness.planning.plan import build_plan
from harness.trial_spec import TrialSpec

ToyConfig = Callable[..., RunConfig]


def corrupting(config: RunConfig, **changes: object) -> RunConfig:
    return replace(config, protocol=replace(config.protocol, name="corruptions", **changes))


def test_splits_and_training_ids_are_those_of_leave_one_domain_out(toy_config: ToyConfig) -> None:
    clean, other = build_plan(toy_config()), build_plan(corrupting(toy_config()))
    assert other.splits == clean.splits
    for one, two in zip(clean.trials, other.trials, strict=True):
        assert two.ids.training == one.ids.training
        assert two.ids.prediction != one.ids.prediction and two.ids.measurement != one.ids.measurement
        assert one.corruptions is None and one.corrupted() == []


def test_every_test_image_has_the_corruptions_of_its_modality(toy_config: ToyConfig) -> None:
    (trial,) = build_plan(corrupting(toy_config(), severities=[5, 2])).trials
    found = {(form.name, form.severity): keys for form, keys in trial.corrupted()}
    for key in trial.split.test:
        names = {name for (name, _), keys in found.items() if key in keys}
        assert names == {each.name for each in corruptions_of(key.split("/")[0])}
    assert {severity for _, severity in found} == {2, 5}
    assert all(key.startswith("dermoscopy/") for key in found["hair", 2]) and found["hair", 2]
    assert not {key for keys in found.values() for key in keys} & {*trial.split.train, *trial.split.validation}
    assert _work(trial, True) > _work(replace(trial, corruptions=None), True)


def test_the_prediction_id_holds_what_is_asked_for(toy_config: ToyConfig) -> None:
    base = corrupting(toy_config(), corruptions=["noise", "blur"], severities=[1, 3])
    (first,) = build_plan(base).trials
    others = {
        "names": corrupting(base, corruptions=["noise"]),
        "severities": corrupting(base, severities=[1, 4]),
    }
    for config in others.values():
        (trial,) = build_plan(config).trials
        assert trial.ids.training == first.ids.training and trial.ids.prediction != first.ids.prediction
    (same,) = build_plan(corrupting(base, corruptions=["blur", "noise"], severities=[3, 1])).trials
    assert same.ids == first.ids
    assert first.corruptions is not None
    for change in ({"version": 99}, {"seed": 7}):
        changed = replace(first, corruptions=replace(first.corruptions, **change))
        assert changed.ids.training == first.ids.training and changed.ids.prediction != first.ids.prediction


def test_a_spec_travels_as_json_with_its_corruptions(toy_config: ToyConfig) -> None:
    (trial,) = build_plan(corrupting(toy_config())).trials
    assert TrialSpec.from_json(json.loads(json.dumps(trial.to_json()))) == trial


def test_a_spec_that_was_written_before_there_were_corruptions_is_read() -> None:
    spec = trial_spec()
    content = spec.to_json()
    for key in ("corruptions", "protocol"):
        del content["prediction"][key]
    for key in ("corruptions", "severities"):
        del content["training"]["protocol"][key]
    old = TrialSpec.from_json(content)
    assert old.ids == spec.ids and old.corruptions is None and old.protocol == spec.protocol


def test_the_protocol_of_a_prediction_is_not_that_which_the_weights_were_trained_under(toy_config: ToyConfig) -> None:
    (clean,), (other,) = build_plan(toy_config()).trials, build_plan(corrupting(toy_config())).trials
    mixed = {**other.to_json(), "training": clean.to_json()["training"]}  # as in a store that had trained the first
    assert TrialSpec.from_json(mixed) == other


def test_roles_and_forms_are_one_to_one() -> None:
    spec = CorruptionSpec({"fundus": ["noise", "colour_cast"], "xray": ["noise"]}, [1, 5], 0, 1)
    forms = spec.forms()
    assert [(form.name, form.severity) for form in forms] == [
        ("noise", 1), ("noise", 5), ("colour_cast", 1), ("colour_cast", 5),
    ]  # fmt: skip
    assert [CorruptedForm.of_role(form.role) for form in forms] == forms
    assert CorruptedForm.of_role("test") is None
    assert spec.has(forms[0], "xray/a/1") and not spec.has(forms[2], "xray/a/1") and not spec.has(forms[0], "mri/a/1")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blurr"], "Did you mean 'blur'"),
        (["stain"], "stain occurs in microscopy; the data have dermoscopy, ultrasound"),
        ([], "is empty"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(toy_config: ToyConfig, names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_plan(corrupting(toy_config(), corruptions=names))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["protocol=corruptions", "protocol.severities=[0,3]"], "expected some of 1 to 5"),
        (["protocol=corruptions", "protocol.severities=[3,3]"], "none twice"),
        (["protocol=corruptions", "protocol.severities=[]"], "expected some of 1 to 5"),
        (["protocol=corruptions", "protocol.severities=strong"], r"for example protocol.severities=\[1,3,5\]"),
        (["protocol.corruptions=[noise]"], "read by protocol=corruptions alone"),
        (["protocol=corruption"], "Did you mean 'corruptions'"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_expected(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_config(load_config(words))


def test_the_command_line_sets_them(tmp_path: Path) -> None:
    config = load_config(
        [
            "protocol=corruptions",
            "protocol.corruptions=[noise,hair]",
            "protocol.severities=[2]",
            f"store.root={tmp_path}",
        ]
    )
    found = asdict(config.protocol)
    assert (found["name"], found["corruptions"], found["severities"]) == ("corruptions", ["noise", "hair"], [2])


def test_plan_shows_how_many_corrupted_images_are_predicted(toy_config: ToyConfig) -> None:
    from harness.cli.plan import _splits_table

    (trial,) = build_plan(corrupting(toy_config(), corruptions=["noise"], severities=[1, 5])).trials
    for config, expected in (
        (toy_config(), None),
        (corrupting(toy_config(), corruptions=["noise"], severities=[1, 5]), 2),
    ):
        table = _splits_table(build_plan(config))
        columns = {str(column.header): list(column.cells) for column in table.columns}
        assert columns.get("corrupted") == (expected and [str(expected * len(trial.split.test))])

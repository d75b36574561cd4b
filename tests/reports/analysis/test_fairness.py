"""Equal terms: what differs between methods is listed, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.methods.contract import Stage
from harness.store.store import Store
from reports.analysis.fairness import differences, equal_terms
from reports.analysis.setting import headline
from reports.build import build_report
from reports.records.reading import read_records
from reports.records.records import Records
from reports.records.runs import find_suite
from reports.tables.columns import columns, informative_columns
from reports.tables.leaderboard import Leaderboard, build_leaderboard

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def records(complete: Any) -> Records:
    store = Store(complete.root)
    found = read_records(store, find_suite(store))
    trials = [replace(trial, summary={"images_seen": 480}) for trial in found.trials]
    return replace(found, trials=trials)


def change(records: Records, method: str, summary: dict[str, Any] | None = None, **training: Any) -> Records:
    trials = [
        replace(
            trial,
            spec=replace(trial.spec, training=replace(trial.spec.trained, **training)),
            summary={**trial.summary, **(summary or {})},
        )
        if trial.method == method and trial.spec
        else trial
        for trial in records.trials
    ]
    return replace(records, trials=trials)


def test_alike_is_said_too(records: Records) -> None:
    assert differences(records) == []
    assert equal_terms([]).startswith("Same budget")


def test_a_setting_that_differs_stands_beside_that_of_the_others(records: Records) -> None:
    (found,) = differences(change(records, "unet", augmentation="bigger", patience=3))
    assert found.title == "U-Net (ResNet-18)"
    assert found.what == ("augmentation bigger (others: standard)", "patience 3 (others: none)")


def test_the_geometry_is_shown_where_it_is_not_the_same_for_all(records: Records) -> None:
    (found,) = differences(change(records, "unet", geometry="tiles"))
    assert found.what == ("geometry tiles (others: stretch)",)
    facts = records.methods["unet"]
    assert facts.geometry == "stretch"
    alike = build_leaderboard(records)
    methods = {
        **records.methods,
        "unet": replace(facts, geometry="tiles"),
        "otsu": replace(records.methods["otsu"], geometry=""),
    }
    differs = build_leaderboard(replace(records, methods=methods))

    def shown(board: Leaderboard) -> list[str]:
        return [column.key for column in informative_columns(columns([], unseen=True), board.table)]

    assert "geometry" not in shown(alike) and "geometry" in shown(differs)
    assert differs.table.set_index("method").loc["unet", "geometry"] == "tiles"
    assert "64 px stretch, tiles" in headline(change(records, "unet", geometry="tiles"))
    assert "64 px ·" in headline(records)


def given(
    records: Records, method: str, card: dict[str, Any] | None = None, model: dict[str, Any] | None = None
) -> Records:
    facts = records.methods[method]
    own = replace(facts, card={**facts.card, **(card or {})}, model={**(facts.model or {}), **(model or {})})
    return replace(records, methods={**records.methods, method: own})


FROM_WEIGHTS: dict[str, Any] = {
    "stages": [{"name": "decode", "share": 2, "views": 4}, {"name": "joint", "share": 1, "learning_rate": 0.6}]
}


@pytest.mark.parametrize(
    ("card", "model", "words"),
    [
        ({"uses_modality": False}, {}, ["modality of each image not given (others: given)"]),
        ({"uses_modality": "inferred"}, {}, ["modality of each image guessed by the method (others: given)"]),
        ({"passes": 4}, {}, ["passes over a tested image 4 (others: 1)"]),
        ({}, {"views": 4}, ["augmented views of an image 4 fixed ones (others: new ones each time)"]),
        ({}, {"views": 0}, ["augmented views of an image the image as it is (others: new ones each time)"]),
        ({}, {"encoder_rate": 0.1}, ["parts at another learning rate encoder x 0.1 (others: none)"]),
        (
            {},
            FROM_WEIGHTS,
            [
                "stages decode (2/3 of the epochs), then joint (1/3 of the epochs) (others: one)",
                "augmented views of an image 4 fixed ones in decode, not recorded in joint (others: new ones each time)",
                "parts at another learning rate x 0.6 in joint (others: none)",
            ],
        ),
        (
            {},
            {"stages": ["common", {"name": "joint", "views": None, "learning_rate": {"encoder.*": 0.01, "*": 1}}]},
            [
                "stages common, then joint (others: one)",
                "augmented views of an image not recorded in common (others: new ones each time)",
                "parts at another learning rate encoder.* x 0.01 in joint (others: none)",
            ],
        ),
        # Of a network that has such arguments for something else.
        ({}, {"stages": [2, 2, 6, 2], "views": "axial", "encoder_rate": None}, []),
        ({}, {"stages": 4, "views": True}, []),
    ],
)
def test_what_a_method_brings_along_is_listed(
    records: Records, card: dict[str, Any], model: dict[str, Any], words: list[str]
) -> None:
    for name in records.methods:
        records = given(records, name, {"uses_modality": True})
    changed = [given(records, "unet", card, model), given(records, "unet", card, {"method": model})]
    assert [[what for found in differences(each) for what in found.what] for each in changed] == [words] * 2


def test_stages_are_those_that_a_trial_recorded(records: Records) -> None:
    stages = [
        Stage("look", gradient=False), Stage("decode", share=3, views=4),
        Stage("joint", learning_rate={"encoder.*": 0.01}), Stage("last", views=0, learning_rate=0.5),
    ]  # fmt: skip
    for name in records.methods:
        records = change(records, name, {"stages": [Stage("train").to_json()]})
    assert differences(records) == []
    # Whatever the arguments are called, and whatever they say.
    others = given(records, "unet", model={"stages": ["decode"], "views": 7})
    (found,) = differences(change(others, "unet", {"stages": [stage.to_json() for stage in stages]}))
    assert found.what == (
        "stages look, then decode (3/5 of the epochs), then joint (1/5 of the epochs), then last (1/5 of the epochs) (others: one)",
        "augmented views of an image 4 fixed ones in decode, the image as it is in last (others: new ones each time)",
        "parts at another learning rate encoder.* x 0.01 in joint, x 0.5 in last (others: none)",
    )


def test_where_starts_differ_each_method_is_named_with_its_own(records: Records) -> None:
    own = {"pretrained": "LiteMedSAM", "start": "medical images", "pretrained_on": ["busi"], "passes": 4}
    (found,) = differences(given(records, "unet", own))
    assert found.title == "U-Net (ResNet-18) [medical-image start]"
    assert found.what == (
        "passes over a tested image 4 (others: 1)", "start: medical images (busi) (others: scratch)"
    )  # fmt: skip


def test_a_second_start_is_named(records: Records) -> None:
    medical = {"start": "medical images", "pretrained": "LiteMedSAM", "pretrained_on": ["busi"]}
    for name in ("delightsam", "boxed"):
        records = given(records, name, medical)
    (found,) = differences(given(records, "unet", medical | {"pretrained_on": ["ImageNet-1k", "busi"]}))
    assert found.what == ("its weights learnt on ImageNet-1k, too (others: not)",)


@pytest.mark.parametrize(("seen", "listed"), [(484, False), (960, True)])
def test_another_budget_is_listed_but_not_the_rounding_of_batches(records: Records, seen: int, listed: bool) -> None:
    found = differences(change(records, "unet", {"images_seen": seen}))
    assert bool(found) == listed
    if listed:
        assert found[0].what == ("saw 960 images in training (others: 480)",)


def test_floors_are_trained_by_no_setting(records: Records) -> None:
    assert differences(change(records, "otsu", {"images_seen": 24}, epochs=1)) == []


def test_the_report_says_who_sees_test_images(make_store: Callable[..., Any], tmp_path: Any) -> None:
    simulated = make_store(
        faults={},
        predictions=False,
        cards={"unet": {"title": "U-Net + TENT", "start": "scratch", "sees_test_images": True}},
    )
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    page, document = paths.html.read_text("utf-8"), json.loads(paths.json.read_text("utf-8"))
    assert page.count(">sees test images</abbr>") == 1
    assert document["differences"] == [
        {"title": "U-Net + TENT", "what": ["adapts to the unlabelled test images of each domain"]}
    ]
    assert "adapts to the unlabelled test images" in paths.markdown.read_text("utf-8")
    assert {row["method"]: row["sees_test_images"] for row in document["methods"]}["unet"] is True

"""Equal terms in numbers: budgets in images seen, and what nested searches chose, fold by fold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.files import sha256_json
from harness.store.records import SearchChoice, TrialEntry
from harness.store.store import Store
from harness.trial_spec import TrialIds
from reports.analysis.fairness import differences
from reports.analysis.terms import Terms, chosen_title, search_words, terms_of
from reports.build import build_report, build_report_of
from reports.records.reading import read_records
from reports.records.records import Records, ReportedTrial
from reports.records.runs import find_suite, read_runs
from tests.reports.simulated_store import Simulated, write_store

pytestmark = pytest.mark.usefixtures("without_figures")
RATE = "training.learning_rate"
CHOICES = {
    "fold0": SearchChoice({RATE: 0.003}, 6, 1, 0.71, at_edge=(RATE,)),
    "fold1": SearchChoice({RATE: 0.001}, 6, 0, 0.62),
    "fold2": SearchChoice({}, 4, 0, missing="The search of this fold is incomplete: its hours are used up."),
}
NOWHERE = TrialIds(*[sha256_json("nowhere")] * 3)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A plain run, and one in which U-Net was searched and has no choice on fold2."""
    simulated = write_store(tmp_path_factory.mktemp("tuned"), faults={})
    store = Store(simulated.root)
    entries = [
        TrialEntry(ids, method, fold, seed, CHOICES[fold] if method == "unet" else None)
        for (method, fold, seed), ids in simulated.ids.items()
    ]
    entries = [replace(each, ids=NOWHERE) if each.search and each.search.missing else each for each in entries]
    config = (simulated.suite / "config.yaml").read_text("utf-8")
    return replace(simulated, suite=store.start_suite("simulated_tuned", config, entries))


def terms(records: Records) -> dict[str, Terms]:
    return {each.method: each for each in terms_of(records)}


def changed(records: Records, method: str, change: Callable[[ReportedTrial], ReportedTrial]) -> Records:
    return replace(records, trials=[change(t) if t.method == method else t for t in records.trials])


def test_the_page_names_the_rates_the_budget_and_the_hole(tuned: Simulated, tmp_path: Path) -> None:
    paths = build_report(tuned.root, tuned.suite, tmp_path / "out")
    page, document = paths.html.read_text("utf-8"), json.loads(paths.json.read_text("utf-8"))
    text = paths.markdown.read_text("utf-8")
    for words in (
        "fold0: 0.003 (at the edge of what was tried)",
        "fold1: 0.001",
        "fold2: none. The search of this fold is",
    ):
        assert words in page and words in text
    assert page.count(">nested search</abbr>") == 1 and "U-Net (ResNet-18) [tuned]" in page
    assert "6 a fold, 1 failed" in page and "with the run&#39;s first seed" in page
    (own,) = [each for each in document["terms"] if each["configurations"]]
    assert own["method"] == "unet" and [each["values"] for each in own["choices"]] == [{RATE: 0.003}, {RATE: 0.001}, {}]
    # No default stands in: the row is incomplete, and its hole has the reason.
    rows = {row["method"]: row for row in document["methods"]}
    assert rows["unet"]["track"] == "incomplete" and rows["unet"]["searched"] and not rows["delightsam"]["searched"]
    (hole,) = [trial for trial in document["trials"] if trial["state"] != "done"]
    assert (hole["method"], hole["fold"], hole["state"]) == ("unet", "fold2", "missing")
    assert "its hours are used up" in hole["reason"]


def test_a_plain_run_says_that_nothing_was_searched(complete: Simulated) -> None:
    records = read_records(Store(complete.root), find_suite(Store(complete.root)))
    found = terms(records)
    assert found["unet"].chosen == ("0.001, not searched",) and found["unet"].tried == "none"
    assert "No learning rate was searched" in search_words(list(found.values()))


def test_a_searched_rate_is_no_difference_but_others_are(tuned: Simulated) -> None:
    records = read_records(Store(tuned.root), find_suite(Store(tuned.root), "simulated_tuned"))

    def rate_by_fold(trial: ReportedTrial, search: bool = True) -> ReportedTrial:
        if trial.spec is None:
            return trial
        training = replace(trial.spec.trained, learning_rate=0.1 if trial.fold == "fold0" else 0.2)
        return replace(trial, spec=replace(trial.spec, training=training), search=trial.search if search else None)

    assert differences(changed(records, "unet", rate_by_fold)) == []
    # Where nobody says that they were searched, rates that differ from trial to trial are shown, all of them.
    (found,) = differences(changed(records, "unet", lambda trial: rate_by_fold(trial, search=False)))
    assert found.what == ("learning_rate 0.1, 0.2 in different trials (others: 0.001)",)


def seen(images: int, epochs: int, **spec: Any) -> Callable[[ReportedTrial], ReportedTrial]:
    def change(trial: ReportedTrial) -> ReportedTrial:
        assert trial.spec is not None
        method = replace(trial.spec.method, **spec)
        summary = {"images_seen": images + 10 * (trial.fold == "fold1"), "epochs": epochs}
        return replace(trial, summary=summary, spec=replace(trial.spec, method=method))

    return change


def test_budgets_are_reported_for_every_kind_of_method(complete: Simulated) -> None:
    records = read_records(Store(complete.root), find_suite(Store(complete.root)))

    def words(change: Callable[[ReportedTrial], ReportedTrial]) -> tuple[str, str, tuple[str, ...]]:
        found = terms(changed(records, "unet", change))["unet"]
        return found.images, found.tried, found.chosen

    assert words(seen(480, 15)) == ("480 to 490 (15 epochs)", "none", ("0.001, not searched",))
    assert words(seen(32, 0))[0] == "32 to 42, looked at once: it learns nothing by epochs"
    trainer = {"train": ["a"], "predict": ["a"], "settings": ["epochs"]}
    assert words(seen(70, 7, trainer=trainer)) == (
        "70 to 80, as its own program tells", "none", ("its own program's",)
    )  # fmt: skip
    assert words(lambda trial: replace(seen(0, 0, trainer=trainer)(trial), summary={}))[0] == (
        "not reported by its own program"
    )
    assert words(lambda trial: replace(trial, state="failed", summary={}))[0].endswith("no trial is finished")


def test_several_hyperparameters_are_named(tuned: Simulated) -> None:
    records = read_records(Store(tuned.root), find_suite(Store(tuned.root), "simulated_tuned"))
    both = SearchChoice({RATE: 0.003, "training.weight_decay": 1e-5}, 6, at_edge=("training.weight_decay",))
    found = terms(changed(records, "unet", lambda trial: replace(trial, search=both)))
    assert found["unet"].chosen[0] == ("fold0: learning rate 0.003, weight decay 1e-05 (at the edge of what was tried)")
    assert chosen_title(list(found.values())) == "Hyperparameters"


def test_a_tuned_and_a_plain_row_stay_apart_in_a_joint_report(tuned: Simulated, tmp_path: Path) -> None:
    store = Store(tuned.root)
    runs = [(store, find_suite(store, name)) for name in ("simulated", "simulated_tuned")]
    records = read_runs(runs)
    (own,) = [name for name in records.methods if name.startswith("unet (")]
    # The same trials stand under both names, whole under the first.
    assert [trial.state for trial in records.trials_of("unet")] == ["done"] * 3
    assert [trial.state for trial in records.trials_of(own)] == ["done", "done", "missing"]
    assert len(records.trials) == 4 * 3 + 3 and len({trial.id for trial in records.trials}) == len(records.trials)
    counts = records.samples.groupby("method")["trial"].nunique()
    assert counts["unet"] == 3 and counts[own] == 2
    titles = {name: records.methods[name].title for name in ("unet", own)}
    assert titles == {"unet": "U-Net (ResNet-18)", own: "U-Net (ResNet-18) [tuned]"}
    build_report_of(runs, tmp_path / "out")

"""The line and the banners at the head: what the numbers are, and why they may say little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.store.store import Store
from reports.analysis.setting import TINY_BUDGET, cautions, headline
from reports.build import build_report
from reports.records.reading import read_records
from reports.records.records import Records
from reports.records.runs import find_suite

pytestmark = pytest.mark.usefixtures("without_figures")


def read(simulated: Any) -> Records:
    store = Store(simulated.root)
    return read_records(store, find_suite(store))


def configure(simulated: Any, **parts: dict[str, Any]) -> None:
    """Changes the run's configuration."""
    path = simulated.suite / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    for name, values in parts.items():
        config[name] = {**(config.get(name) or {}), **values}
    path.write_text(yaml.safe_dump(config), "utf-8")


def budget(records: Records, epochs: int) -> None:
    for number, trial in enumerate(records.trials):
        assert trial.spec is not None
        spec = replace(trial.spec, training=replace(trial.spec.trained, epochs=epochs))
        records.trials[number] = replace(trial, spec=spec, summary=trial.summary | {"epochs": epochs})


def test_the_line_says_what_the_numbers_are(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, seeds=(0, 3), predictions=False)
    configure(simulated, data={"max_per_domain": 40})
    assert headline(read(simulated)) == (
        "leave_one_domain_out, one model for all modalities, 3 folds · 64 px · 2 epochs · selection: validation · seeds 0, 3"
        " · data: simulated, at most 40 images per domain"
    )


def test_no_budget_is_too_small_for_what_learns_nothing_by_epochs(without_masks: Any) -> None:
    records = read(without_masks)
    budget(records, 1)
    assert "at most 1 epoch of" in cautions(records)[0]
    budget(records, 0)
    assert cautions(records) == []


def test_the_line_names_the_training_settings_that_were_used_unchanged(make_store: Callable[..., Any]) -> None:
    from dataclasses import asdict

    from harness.config import TrainingConfig
    from harness.config.yaml_tree import config_folder

    preset = yaml.safe_load((config_folder() / "training" / "quick.yaml").read_text("utf-8"))
    simulated = make_store(faults={}, predictions=False)
    configure(simulated, training=asdict(TrainingConfig(**preset)))
    assert "(training=quick)" in headline(read(simulated))
    configure(simulated, training={"learning_rate": 0.123})
    assert "training=" not in headline(read(simulated))


def test_before_any_trial_the_configuration_tells(make_store: Callable[..., Any]) -> None:
    methods = ("delightsam", "unet", "boxed", "otsu")
    simulated = make_store(faults={(method, fold): "missing" for method in methods for fold in range(3)})
    assert headline(read(simulated)) == "3 folds · 64 px · selection: validation · seed 0"
    configure(simulated, data={"root": "/somewhere/lesions/"})
    assert headline(read(simulated)).endswith("· data: lesions") and cautions(read(simulated)) == []


def test_phantoms_are_said_before_anything_else(make_store: Callable[..., Any], tmp_path: Path) -> None:
    from rich.console import Console

    simulated = make_store(faults={}, predictions=False)
    configure(simulated, data={"root": None})
    words = "Phantoms: drawn images. Shows that everything works, not how good a method is."
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    page, markdown = paths.html.read_text("utf-8"), paths.markdown.read_text("utf-8")
    assert page.index(words) < page.index('id="ranking"') and "Tiny budget" not in page
    assert markdown.index(words) < markdown.index("## ")
    # In HTML and Markdown the line stands at the head, too; the terminal has both.
    assert page.index("3 folds · 64 px") < page.index("<main>") and "3 folds · 64 px" in markdown.splitlines()[2]
    text = StringIO()
    paths.print_table(Console(file=text, width=200))
    assert words in text.getvalue() and "3 folds · 64 px" in text.getvalue()


def test_a_tiny_budget_is_said_and_a_large_one_is_not(without_masks: Any) -> None:
    records = read(without_masks)
    assert cautions(records) == [
        "Tiny budget: at most 2 epochs of 20 training images. Shows what methods learn in a short time, not how good they"
        " become."
    ]
    budget(records, TINY_BUDGET // 20 - 1)
    assert len(cautions(records)) == 1
    budget(records, TINY_BUDGET // 20)
    assert cautions(records) == []


def test_a_budget_is_what_was_trained(without_masks: Any) -> None:
    """Each of several stages has an epoch at least, so more may be trained than were asked for."""
    records = read(without_masks)
    records.trials[0] = replace(records.trials[0], summary=records.trials[0].summary | {"epochs": 40})
    assert "at most 40 epochs of 20 training images" in cautions(records)[0]

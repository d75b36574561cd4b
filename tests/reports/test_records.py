"""What was expected, what was found, and what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from harness.errors import UserError
from harness.store import Store
from reports.records import MethodFacts, find_suite, read_records


def read(simulated: Any) -> Any:
    store = Store(simulated.root)
    return read_records(store, find_suite(store))


def test_every_expected_trial_is_there_with_its_state(holed: Any) -> None:
    records = read(holed)
    assert Counter(trial.state for trial in records.trials) == {"done": 10, "failed": 1, "missing": 1}
    failed = next(trial for trial in records.trials if trial.state == "failed")
    assert (failed.method, failed.fold) == ("unet", "fold2") and "NaN in epoch 2" in failed.reason
    assert len(records.samples) == 10 * (16 + 12)


def test_cells_say_which_domains_have_holes(holed: Any) -> None:
    cells = read(holed).cells.set_index(["method", "role", "domain"])
    assert cells.loc[("unet", "test", "fundus/screening"), "state"] == "failed"
    assert cells.loc[("unet", "test", "fundus/atlas"), "state"] == "done"
    # The trial that was never begun has no spec: its split is known from other methods.
    assert cells.loc[("otsu", "test", "dermoscopy/clinic"), "state"] == "missing"
    # Seen images of `atlas` come from folds 1 and 2; one of them failed.
    assert cells.loc[("unet", "validation", "fundus/atlas"), ["expected", "found"]].tolist() == [2, 1]


def test_interrupted_and_damaged_trials_are_holes_not_errors(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={("unet", 0): "running"}, predictions=False)
    damaged = simulated.root / "trials" / simulated.ids["otsu", "fold0", 0]
    (damaged / "samples.parquet").write_bytes(b"half a file")
    states = {(trial.method, trial.fold): trial for trial in read(simulated).trials if trial.state != "done"}
    assert states["unet", "fold0"].state == "unfinished" and states["unet", "fold0"].reason == "stopped in epoch 1 of 2"
    # The store moved the damaged one aside: for this run it is as if never begun.
    assert states["otsu", "fold0"].state in ("damaged", "missing")
    assert len(states) == 2


def test_a_finished_trial_without_all_images_is_damaged(make_store: Callable[..., Any]) -> None:
    def drop_one(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.iloc[1:] if method == "unet" else frame

    records = read(make_store(faults={}, change=drop_one, predictions=False))
    broken = [trial for trial in records.trials if trial.state == "damaged"]
    assert {trial.method for trial in broken} == {"unet"} and len(broken) == 3
    assert broken[0].reason == "16 test images expected, rows found for 15 of them"


def test_a_table_without_a_column_is_damaged(make_store: Callable[..., Any]) -> None:
    records = read(make_store(faults={}, change=lambda method, frame: frame.drop(columns="empty"), predictions=False))
    assert {trial.state for trial in records.trials} == {"damaged"} and "no column empty" in records.trials[0].reason


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (["Screening"], ["fundus/screening"]),
        (["fundus/clinic"], ["fundus/clinic"]),
        (["Kvasir-SEG"], ["colonoscopy/kvasir_seg"]),
        (["screen", "fundus", ""], []),
        (None, []),
    ],
)
def test_possibly_seen_compares_names_without_case_and_signs(known: list[str] | None, expected: list[str]) -> None:
    facts = MethodFacts("m", "M", {"pretrained_on": known}, "last", 64)
    assert facts.possibly_seen(["fundus/screening", "fundus/clinic", "colonoscopy/kvasir_seg"]) == expected


def test_unknown_runs_are_named(holed: Any, tmp_path: Any) -> None:
    store = Store(holed.root)
    with pytest.raises(UserError, match="Did you mean 'simulated'"):
        find_suite(store, "simulatd")
    with pytest.raises(UserError, match="no run at '2001'"):
        find_suite(store, time="2001")
    with pytest.raises(UserError, match="found none"):
        find_suite(Store(tmp_path))

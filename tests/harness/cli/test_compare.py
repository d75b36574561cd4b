"""`compare`: a significant loss is 1, a mistake is 2, everything else 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.specs import trial_spec
from support.stores import finished_trial

from harness.cli import main
from harness.store.records import TrialEntry
from harness.store.store import Store

KEYS = [f"fundus/{domain}/{index:02d}" for domain in ("a", "b") for index in range(15)]
CARD = {"title": "Toy", "prompt": "none"}


def write_run(
    root: Path,
    dice: dict[str, np.ndarray],
    *,
    failed: tuple[str, ...] = (),
    tolerance: float = 2.0,
    pixels: int = 100,
    version: int = 1,
    starts: dict[str, str] | None = None,
) -> Path:
    """A run with one trial for each method; `dice` is one value for each of KEYS."""
    store = Store(root)
    store.prepare()
    entries = []
    for method, values in dice.items():
        card = {**CARD, "start": (starts or {}).get(method, "scratch")}
        # The root stands in the spec's model: two runs of one method are two trials.
        spec = trial_spec(
            method={"name": method, "model": {"_target_": method, "width": len(dice), "run": str(root)}, "card": card},
            split={"held_out": [], "train": [], "test": KEYS},
            metrics={"nsd_tolerance": tolerance},
        )
        store.start_trial(spec)
        entries.append(TrialEntry.of(spec))
        if method in failed:
            store.write_status(spec.id, "failed", reason="NaN")
            continue
        parts = pd.DataFrame([key.split("/") for key in KEYS], columns=["modality", "domain", "id"])
        numbers = dict.fromkeys(("dice", "nsd", "precision", "recall"), values)
        numbers |= dict.fromkeys(("hd95", "hd95_max"), 50 * (1 - values))
        table = parts.assign(
            key=KEYS, subject=None, role="test", width=64, height=64, empty="none", reference_pixels=pixels,
            predicted_pixels=90, **numbers,
        )  # fmt: skip
        finished_trial(store, spec, table)
        versions = dict.fromkeys(numbers, version)
        store.finish_measurement(spec.ids, samples=table, metrics=versions, summary={"warnings": []})
    return store.start_suite("toys", "name: toys\n", entries)


@pytest.fixture
def base() -> np.ndarray:
    return np.random.default_rng(0).beta(6, 2, len(KEYS)) * 0.8


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.01, len(KEYS))


@pytest.fixture
def compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Exit code and words of comparing two runs, each given as for `write_run`."""
    monkeypatch.setenv("COLUMNS", "200")

    def compare(first: dict, second: dict, *options: str, first_run: dict | None = None, **second_run: object):  # type: ignore[no-untyped-def, type-arg]
        a = write_run(tmp_path / "a", first, **(first_run or {}))
        write_run(tmp_path / "b", second, **second_run)  # type: ignore[arg-type]
        code = main(["compare", str(a), str(tmp_path / "b"), *options])
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    return compare


def test_a_significant_loss_is_1(compared: Callable[..., tuple[int, str]], base: np.ndarray, noise: np.ndarray) -> None:
    code, said = compared({"m": base, "n": base}, {"m": base - 0.02 + noise, "n": base + noise})
    assert code == 1
    assert "LOSS: worse" in said and "no significant difference" in said
    assert f"{(base - 0.02 + noise).reshape(2, 15).mean():.3f}" in said


@pytest.mark.parametrize("metric", ["dice", "hd95"])
def test_a_gain_or_noise_is_0_in_either_direction_of_merit(
    compared: Callable[..., tuple[int, str]], base: np.ndarray, noise: np.ndarray, metric: str
) -> None:
    code, said = compared({"m": base, "n": base}, {"m": base + 0.02 + noise, "n": base}, "--metric", metric)
    assert code == 0 and "better" in said and "equal on every image" in said


def test_worse_distances_are_a_loss(
    compared: Callable[..., tuple[int, str]], base: np.ndarray, noise: np.ndarray
) -> None:
    assert compared({"m": base}, {"m": base - 0.02 + noise}, "--metric", "hd95")[0] == 1


def test_a_method_that_is_complete_no_more_is_a_loss(
    compared: Callable[..., tuple[int, str]], base: np.ndarray
) -> None:
    code, said = compared({"m": base, "n": base}, {"m": base, "n": base}, failed=("n",))
    assert code == 1 and "incomplete in B: 1 of 1 trials (failed)" in said


def test_one_that_was_never_complete_is_none(compared: Callable[..., tuple[int, str]], base: np.ndarray) -> None:
    code, said = compared({"m": base, "n": base}, {"m": base, "n": base, "o": base}, first_run={"failed": ("n",)})
    assert code == 0 and "incomplete in A" in said and "not in A" in said
    assert "m: model.width 2 → 3" in said


def test_many_methods_are_corrected_for(compared: Callable[..., tuple[int, str]], base: np.ndarray) -> None:
    """A difference that one test calls significant at 0.05 is none among five."""
    step = np.random.default_rng(1).normal(-0.006, 0.02, len(KEYS))
    alone = compared({"m": base}, {"m": base + step})
    assert alone[0] == 1


def test_five_methods_lose_nothing_by_one_that_is_nearly_worse(
    compared: Callable[..., tuple[int, str]], base: np.ndarray
) -> None:
    step = np.random.default_rng(1).normal(-0.006, 0.02, len(KEYS))
    before = {f"m{index}": base for index in range(5)}
    assert compared(before, {**before, "m0": base + step})[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tolerance": 3.0}, "different rules: metrics.nsd_tolerance is 2.0 in A and 3.0 in B"),
        ({"version": 2}, "dice has versions 1 and 2"),
        ({"pixels": 7}, "true masks of 30 images changed"),
    ],
)
def test_what_can_not_be_compared_is_2(
    compared: Callable[..., tuple[int, str]], base: np.ndarray, change: dict[str, object], said: str
) -> None:
    code, words = compared({"m": base}, {"m": base}, **change)
    assert code == 2 and said in words


def test_runs_are_found_by_folder_store_name_and_time(
    tmp_path: Path, base: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_run(tmp_path / "runs", {"m": base})
    other = write_run(tmp_path / "other", {"m": base})
    monkeypatch.chdir(tmp_path)
    for word in (str(first), "runs", "toys", first.name, f"toys/{first.name}"):
        assert main(["compare", word, str(other)]) == 0
    assert main(["compare", "runs", "toys"]) == 2
    assert "the same run" in capsys.readouterr().err
    assert main(["compare", "tois/x", "other"]) == 2
    assert "neither a run's folder, nor a store" in capsys.readouterr().err
    assert main(["compare", "runs", "other", "--metric", "dise"]) == 2
    assert "Did you mean 'dice'" in capsys.readouterr().err


def test_unequal_starts_are_marked(compared: Callable[..., tuple[int, str]], base: np.ndarray) -> None:
    run = {"m": base, "n": base}
    code, said = compared(run, {"m": base + 0.02, "n": base}, starts={"m": "natural images"})
    assert code == 0 and "(unequal starts)" in said and "scratch → natural images" in said
    assert "m: UNEQUAL STARTS: scratch in A, natural images in B. The change may be the pretraining's." in said
    assert "n: UNEQUAL" not in said
    assert "Methods start from different weights" in said


def test_methods_of_unequal_starts_in_one_table_are_marked(
    compared: Callable[..., tuple[int, str]], base: np.ndarray
) -> None:
    starts = {"m": "natural images"}
    said = compared({"m": base, "n": base}, {"m": base, "n": base}, starts=starts, first_run={"starts": starts})[1]
    assert "UNEQUAL" not in said and "Methods start from different weights (column start)" in said


def test_equal_starts_need_no_mark(compared: Callable[..., tuple[int, str]], base: np.ndarray) -> None:
    said = compared({"m": base}, {"m": base})[1]
    assert "scratch" in said and "UNEQUAL" not in said and "different weights" not in said

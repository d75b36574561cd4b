"""A hyperparameter search from the command line: its outputs, a kill in the middle, and mistakes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from .chaos import TINY_ENVIRONMENT, tiny_words
from .chaos import WORDS as LEAST
from .forked import Forked, finished

pytestmark = pytest.mark.e2e

# A tiny method, trained long enough that a kill meets it.
SEARCH = (
    *(word for word in LEAST if not word.startswith(("method=", "data.modalities", "training.epochs"))),
    "data.modalities=[xray]", "method=tiny", "training.epochs=12", "protocol.max_folds=1", "executor=serial",
    "sweep=asha", "sweep.budget.trials=3",
)  # fmt: skip


def decisions(store: Path) -> list[dict[str, Any]]:
    (path,) = store.glob("sweeps/*/search.json")
    return list(json.loads(path.read_text())["overall"]["attempts"])


def test_a_killed_search_goes_on_and_decides_the_same(tmp_path: Path, shared_cache: Path) -> None:
    words = tiny_words("sweep", tmp_path, *SEARCH, f"data.cache={shared_cache}")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = finished(words, tmp_path / "whole", **TINY_ENVIRONMENT)
    assert whole.returncode == 0, whole.stderr
    assert "Validation Dice over 1 fold: best" in whole.stdout
    assert "Unseen Dice with parameters chosen without the test domain" in whole.stdout

    store = tmp_path / "killed" / "runs"
    process = Forked(words, tmp_path / "killed", **TINY_ENVIRONMENT)
    limit = time.monotonic() + 300

    def half_way() -> bool:
        """The default is done, others have been trained for an epoch."""
        return bool(list(store.glob("trials/*/result.json"))) and len(list(store.glob("sweeps/*/epochs/*"))) > 1

    while time.monotonic() < limit and process.poll() is None and not half_way():
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("trials/*/result.json")}
    assert kept and not list(store.glob("sweeps/*/search.json"))
    again = finished(words, tmp_path / "killed", **TINY_ENVIRONMENT)
    assert again.returncode == 0, again.stderr
    assert decisions(store) == decisions(tmp_path / "whole" / "runs")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "a finished trial ran again"
    (page,) = store.glob("sweeps/*/search.html")
    assert "Phantoms" in page.read_text("utf-8")


# Two methods that learn and one that does not; two rates beside the default. One fold, since each search starts a worker:
# several folds are in tests/harness/search/test_blindness.py.
TUNED = (
    *(word for word in LEAST if not word.startswith(("method=", "data.modalities", "training.epochs"))),
    "data.modalities=[xray]", "method=[tiny,wide,mean_mask]", "training.epochs=6", "protocol.max_folds=1", "executor=serial",
    "sweep=grid", "sweep.parameters={training.learning_rate:{grid:[0.00001,0.02]}}", "seeds=[0,1]",
)  # fmt: skip


def trained(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("trials/*/result.json")}


def test_several_methods_are_searched_killed_resumed_and_stand_in_one_report(
    tmp_path: Path, shared_cache: Path
) -> None:
    words = tiny_words("sweep", tmp_path, *TUNED, f"data.cache={shared_cache}")
    wide = (tmp_path / "mine" / "method" / "tiny.yaml").read_text().replace("methods.tiny", "methods.wide")
    wide = wide.replace("title: Tiny", "title: Wide").replace("width: 4", "width: 8")
    (tmp_path / "mine" / "method" / "wide.yaml").write_text(wide)
    store = tmp_path / "runs"
    process = Forked(words, tmp_path, **TINY_ENVIRONMENT)
    limit = time.monotonic() + 300
    while time.monotonic() < limit and process.poll() is None and len(trained(store)) < 2:
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = trained(store)
    assert kept and not list(store.glob("suites/*"))

    again = finished(words, tmp_path, **TINY_ENVIRONMENT)
    assert again.returncode == 0, again.stderr
    assert {path: trained(store)[path] for path in kept} == kept, "a finished trial was trained again"
    assert "Chosen by nested search, seed 0" in again.stdout and "mean_mask: not searched" in again.stdout
    # Two methods: three configurations with the first seed, the choice with the second; the trivial one with both.
    assert len(trained(store)) == 2 * (3 + 1) + 2
    (folder,) = store.glob("suites/*_tuned/*")
    asked = json.loads((folder / "trials.json").read_text())["trials"]
    document = json.loads((folder / "report" / "leaderboard.json").read_text())
    assert {trial["state"] for trial in document["trials"]} == {"done"} and len(asked) == 3 * 2
    page = (folder / "report" / "leaderboard.html").read_text("utf-8")
    for row in document["terms"]:
        assert len(row["choices"]) == (0 if row["method"] == "mean_mask" else 1)
        for choice in row["choices"]:
            (search,) = store.glob(f"sweeps/grid-{row['method']}-*/search.json")
            folds = {each["name"]: each["search"] for each in json.loads(search.read_text())["folds"]}
            attempts = folds[choice["fold"]]["attempts"]
            best = max(attempts, key=lambda each: (each["objective"], -each["number"]))
            rate = choice["values"]["training.learning_rate"]
            assert best["values"] == choice["values"] and f"{choice['fold']}: {rate:.3g}" in page
            own = [t for t in asked if (t["method"], t["fold"]) == (row["method"], choice["fold"])]
            for entry in own:
                spec = json.loads((store / "trials" / entry["training"] / "spec.json").read_text())
                assert spec["training"]["learning_rate"] == rate
            assert sorted(entry["seed"] for entry in own) == [0, 1]

    measured = finished(
        ["measure", *words[1:], f"name={folder.parent.name}", "metrics.nsd_tolerance=3"], tmp_path, **TINY_ENVIRONMENT
    )
    assert "6 trials measured" in measured.stdout, measured.stderr
    newest = max(store.glob("suites/*_tuned/*/trials.json"))
    assert [each.get("search") for each in json.loads(newest.read_text())["trials"]] == [e.get("search") for e in asked]


def test_a_search_of_nothing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/mine.yaml").write_text("name: mine\n")
    from harness.cli import main

    assert main(["sweep", "--config-dir", str(tmp_path), "sweep=mine", "method=otsu"]) == 2
    assert "sweep=mine: its file has no parameters to search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which search? Add sweep=NAME"),
        (["sweep=ahsa"], "Did you mean 'asha'"),
        (["sweep=asha", "sweep.name='a/b'", "method=unet"], "sweep.name=a/b: expected the name of a folder"),
        (["sweep=asha", "method=[unet,otzu]"], "Did you mean 'otsu'"),
        (["sweep=asha", "method=otsu"], "Method otsu learns nothing by epochs"),
        (
            ["sweep=asha", "method=[mean_mask,otsu]"],
            "at least one method that a sweep can search, found none: mean_mask",
        ),
        (["sweep=pbt", "method=[unet,otsu]"], "search one method: method=NAME"),
        (["sweep=asha", "sweep.sampler=radnom"], "Did you mean 'random'"),
        (
            ["sweep=asha", "+sweep.parameters.training.learning_rat={choice:[1]}"],
            "Did you mean 'training.learning_rate'",
        ),
        (["sweep=asha", "sweep.parameters={training.learning_rate:{log_uniform:[0,1]}}"], "both ends above 0"),
    ],
)
def test_mistakes_end_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, shared_cache: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    given = [word for word in SEARCH if not word.startswith(("sweep", "method="))]
    method = [] if any(word.startswith("method=") for word in words) else ["method=unet"]
    assert main(["sweep", *given, *method, *words, f"data.cache={shared_cache}"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/trials/*"))

"""A hyperparameter search from the command line: its outputs, a kill in the middle, and mistakes."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .chaos import TINY_ENVIRONMENT, tiny_words
from .chaos import WORDS as LEAST
from .conftest import command, environment
from .forked import Forked, finished

pytestmark = pytest.mark.e2e

# A tiny method, trained long enough that a kill meets it.
SEARCH = (
    *(word for word in LEAST if not word.startswith(("method=", "data.modalities", "training.epochs"))),
    "data.modalities=[xray]", "method=tiny", "training.epochs=24", "protocol.max_folds=1", "executor=serial",
    "sweep=asha", "sweep.budget.trials=3",
)  # fmt: skip


def decisions(store: Path) -> list[dict[str, Any]]:
    (path,) = store.glob("sweeps/*/search.json")
    return list(json.loads(path.read_text())["overall"]["attempts"])


def test_a_killed_search_goes_on_and_decides_the_same(tmp_path: Path, shared_cache: Path) -> None:
    words = tiny_words("sweep", tmp_path, *SEARCH, f"data.cache={shared_cache}")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    typed, own = command(*words), {**environment(), **TINY_ENVIRONMENT}
    whole = subprocess.run(typed, cwd=tmp_path / "whole", env=own, capture_output=True, text=True, timeout=400)
    assert whole.returncode == 0, whole.stderr
    assert "Validation Dice over 1 folds: best" in whole.stdout
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which search? Add sweep=NAME"),
        (["sweep=ahsa"], "Did you mean 'asha'"),
        (["sweep=asha", "method=[unet,otsu]"], "one method at a time, found 2"),
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

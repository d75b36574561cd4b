"""The main job from the command line: run, resume, plan, report, and equal numbers however it is run."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from .chaos import TINY_ENVIRONMENT, Chaos, Kill, busy, tiny_words
from .chaos import WORDS as LEAST
from .conftest import command, environment
from .forked import Forked, finished

pytestmark = pytest.mark.e2e

WORDS = (*LEAST, "protocol.max_folds=2")
TRIALS = 4  # two methods, two folds


def samples_of(store: Path) -> dict[str, str]:
    """Trial id -> SHA-256 of its samples, of all finished trials."""
    return {
        path.parts[-6]: hashlib.sha256((path.parent / "samples.parquet").read_bytes()).hexdigest()
        for path in store.glob("trials/*/predictions/*/measurements/*/result.json")
    }


def harness(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return finished(tiny_words(name, folder, *WORDS, *words), folder, **TINY_ENVIRONMENT)


def typed(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As users type it."""
    words, own = tuple(tiny_words(name, folder, *WORDS, *words)), {**environment(), **TINY_ENVIRONMENT}
    return subprocess.run(command(*words), cwd=folder, env=own, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def undisturbed(shared_folder: Path, shared_cache: Path) -> Path:
    """The store of a serial run that nothing disturbed; the first process that needs it makes it."""
    folder = shared_folder / "undisturbed"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            done = typed("run", folder, "executor=serial", f"data.cache={shared_cache}")
            assert done.returncode == 0, done.stderr
    return folder / "runs"


def test_run_leaves_whole_trials_and_a_report(undisturbed: Path) -> None:
    assert len(samples_of(undisturbed)) == TRIALS
    (report,) = undisturbed.glob("suites/domain_generalization/*/report")
    names = {path.name for path in report.iterdir()}
    assert {"leaderboard.html", "leaderboard.csv", "leaderboard.md"} <= names
    html = (report / "leaderboard.html").read_text("utf-8")
    assert "Tiny" in html and "Mean training mask" in html
    assert not list(undisturbed.rglob("*.tmp")), "temporary files were left behind"


def test_other_rules_are_measured_without_a_run_and_the_next_run_runs_nothing(
    undisturbed: Path, tmp_path: Path, shared_cache: Path
) -> None:
    store = tmp_path / "runs"
    shutil.copytree(undisturbed, store)
    # Its own processes import what was typed.
    done = typed("measure", tmp_path, "metrics.nsd_tolerance=5", f"data.cache={shared_cache}")
    assert done.returncode == 0 and f"{TRIALS} trials measured" in done.stdout, done.stderr
    before = {path: path.stat().st_mtime_ns for path in store.glob("trials/*/*")}
    again = harness("run", tmp_path, "metrics.nsd_tolerance=5", "executor=serial", f"data.cache={shared_cache}")
    assert again.returncode == 0 and f"{TRIALS} of them already" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in store.glob("trials/*/*")}
    newest = max(store.glob("suites/*/*/report/leaderboard.html"), key=lambda path: path.stat().st_mtime_ns)
    assert "NSD (5 px)" in newest.read_text("utf-8")


def test_plan_runs_nothing_and_knows_what_is_done(undisturbed: Path, tmp_path: Path, shared_cache: Path) -> None:
    fresh = harness("plan", tmp_path, f"data.cache={shared_cache}")
    assert fresh.returncode == 0, fresh.stderr
    assert "4 of 4 trials are still to run" in fresh.stdout
    assert not (tmp_path / "runs" / "trials").exists()
    again = harness("plan", tmp_path, f"store.root={undisturbed}", "seeds=[0,1]", f"data.cache={shared_cache}")
    assert "4 of 8 trials are still to run" in again.stdout
    assert "Estimate for 4 of them" in again.stdout


def test_a_serial_run_killed_twice_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, shared_cache: Path
) -> None:
    """SIGKILL at random moments, then the same command; `python -m tests.e2e.chaos` is the long version."""
    draw = random.Random("serial")
    kills = [[Kill("driver", draw.uniform(0.0, 0.2), draw.uniform(0.0, 1.0))] for _ in range(2)]
    killed = Chaos(tmp_path, shared_cache, "serial", WORDS, trials=TRIALS, forked=True)
    starts, hit = killed.until_done(kills)
    assert (starts, [kill.victim for kill in hit]) == (3, ["driver", "driver"])
    assert killed.samples() == samples_of(undisturbed)
    assert killed.outlived() == []


def test_a_run_by_ray_that_loses_the_raylet_ends_with_the_same_bytes(
    undisturbed: Path, tmp_path: Path, shared_cache: Path
) -> None:
    """A worker is lost in tests/harness/execution/test_executors.py, the driver in test_external_trainer.py."""
    draw = random.Random("ray")
    kills = [Kill("raylet", draw.uniform(0.0, 0.2), draw.uniform(0.0, 1.0))]
    killed = Chaos(tmp_path, shared_cache, "ray", WORDS, trials=TRIALS, forked=True)
    code, hit = killed.live(kills)
    assert (code, hit) == (1, kills)
    assert "To try again" in killed.tail() or "the same command goes on" in killed.tail()
    killed.executor = "serial"  # starts sooner, and makes the same trials
    assert killed.until_done([]) == (1, [])
    assert killed.samples() == samples_of(undisturbed)
    assert killed.outlived() == []


@pytest.mark.parametrize("executor", ["serial", "ray"])
def test_ctrl_c_stops_and_the_same_command_goes_on(
    executor: str, undisturbed: Path, tmp_path: Path, shared_cache: Path
) -> None:
    # One fold: the others are stopped in the same way.
    words = [*WORDS[:-1], "protocol.max_folds=1", f"data.cache={shared_cache}"]
    words = tiny_words("run", tmp_path, *words)
    process = Forked([*words, f"executor={executor}"], tmp_path, **TINY_ENVIRONMENT)
    begun, limit = time.time(), time.monotonic() + 60
    while time.monotonic() < limit and not busy(tmp_path / "runs", begun):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command goes on from here" in errors
    assert "Traceback" not in errors
    # Who goes on does not matter: serial, since Ray takes long to start.
    done = finished([*words, "executor=serial"], tmp_path, **TINY_ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    found = samples_of(tmp_path / "runs")
    assert len(found) == TRIALS // 2 and found.items() <= samples_of(undisturbed).items()

"""`status`: the state of a run, read from its store alone."""

from __future__ import annotations

import fcntl
import json
import platform
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.stores import ids

from harness.cli import main
from harness.cli.status import duration, text_of
from harness.errors import UserError
from harness.files import atomic_write_json
from harness.store.queries import find_run
from harness.store.records import SearchChoice, TrialEntry
from harness.store.run_status import RunStatus, StatusReader, TrialStatus, time_left
from harness.store.store import Store

COMMAND = ("python", "-m", "harness", "run", "suite=toys", "training=quick")


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    store.prepare()
    return store


@pytest.fixture
def suite(store: Store) -> Path:
    """A run of five trials, `a` to `e`."""
    entries = [TrialEntry(ids(name), "unet", f"fold{i}", 0) for i, name in enumerate("abcde")]
    return store.start_suite("toys", "name: toys\n", entries, COMMAND)


def finish(store: Store, trial_id: str) -> None:
    # Under an id of its own choice: a status reads no spec.
    trial, table = ids(trial_id), pd.DataFrame({"dice": [0.5]})
    for folder in store.folders(trial):
        atomic_write_json(folder / "spec.json", {})
    store.finish_training(trial, curves=table, provenance={}, summary={"training_seconds": 60.0})
    store.finish_prediction(trial, masks=None, summary={"prediction_seconds": 0.0})
    store.finish_measurement(trial, samples=table, metrics={"dice": 1}, summary={})
    store.write_status(trial_id, "done", seconds=60.0)


def states(store: Store, suite: Path) -> dict[str, str]:
    return {row.id: row.state for row in StatusReader(store).read(suite).rows}


def test_every_state_is_read_from_the_store_alone(store: Store, suite: Path) -> None:
    finish(store, "a")
    place = {"started": ago(100), "host": "node7", "pid": 1}
    store.write_status("b", "running", **place, epoch=4, epochs=10, dice=0.75, epoch_seconds=20.0)
    store.write_status("c", "failed", reason="the loss became nan")
    store.record_attempt("d", "its process died")
    with store.trial_lock("b"):
        status = StatusReader(store).read(suite)
    assert status.counts == {"done": 1, "running": 1, "pending": 1, "failed": 1, "interrupted": 1}
    a, b, c, d, e = status.rows
    assert (a.state, a.seconds) == ("done", 60.0)
    assert (b.epoch, b.epochs, b.dice, b.host, b.attempts) == (4, 10, 0.75, "node7", 1)
    assert (c.reason, c.attempts) == ("the loss became nan", 1)
    assert (d.state, d.reason, d.attempts) == ("interrupted", "its process died", 1)
    assert (e.state, e.attempts) == ("pending", 0)
    assert status.command == COMMAND


def test_attempts_that_died_count(store: Store, suite: Path) -> None:
    for _ in range(3):
        store.record_attempt("a", "its process died")
    store.write_status("a", "failed", reason="its process died (3 attempts); the same command goes on")
    store.record_attempt("b", "its node was lost")
    store.write_status("b", "failed", reason="the loss became nan")
    rows = StatusReader(store).read(suite).rows
    assert (rows[0].attempts, rows[1].attempts) == (3, 2)


def test_a_trial_whose_process_is_gone_is_interrupted(store: Store, suite: Path) -> None:
    with store.trial_lock("a"):
        pass
    store.write_status("a", "running", host=platform.node(), epoch=1)
    assert states(store, suite)["a"] == "interrupted"


def test_a_trial_of_another_machine_that_was_just_heard_of_runs(store: Store, suite: Path) -> None:
    store.write_status("a", "running", host="elsewhere", epoch=1)
    path = store.trial_folder("b") / "status.json"
    atomic_write_json(path, {"schema_version": 2, "state": "running", "host": "elsewhere", "updated": ago(500)})
    atomic_write_json(store.trial_folder("c") / "status.json", {**json.loads(path.read_text()), "epoch_seconds": 300})
    assert list(states(store, suite).values())[:3] == ["running", "interrupted", "running"]


def test_a_kill_between_result_and_status_is_done(store: Store, suite: Path) -> None:
    finish(store, "a")
    store.write_status("a", "running", epoch=2)
    (row, *_) = StatusReader(store).read(suite).rows
    assert (row.state, row.seconds) == ("done", 60.0)


def test_damaged_and_half_written_files_are_no_end(store: Store, suite: Path) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", "\xff"), ("d", '{"state": "nonsense"}')):
        store.trial_folder(name).mkdir(parents=True)
        (store.trial_folder(name) / "status.json").write_text(text, "latin1")
    store.trial_folder("e").mkdir()
    assert list(states(store, suite).values()) == ["interrupted"] * 4 + ["pending"]


def test_newer_schemas_are_refused(store: Store, suite: Path) -> None:
    atomic_write_json(store.trial_folder("a") / "status.json", {"schema_version": 99, "state": "done"})
    with pytest.raises(UserError, match="schema_version 99"):
        StatusReader(store).read(suite)


def test_what_failed_before_this_run_is_pending_while_it_runs(store: Store, suite: Path) -> None:
    old = {"schema_version": 2, "state": "failed", "reason": "x", "updated": ago(1000)}
    atomic_write_json(store.trial_folder("a") / "status.json", old)
    assert states(store, suite)["a"] == "failed"
    holder = {"pid": 1, "host": "h", "since": ago(10)}
    with store.exclusive():
        atomic_write_json(store.root / "run.holder.json", holder)
        status = StatusReader(store).read(suite)
        assert status.at_work and status.holder == holder
        assert status.rows[0].state == "pending"


def test_a_store_held_by_a_later_command_is_not_this_run(store: Store, suite: Path) -> None:
    with store.exclusive():
        atomic_write_json(store.root / "run.holder.json", {"pid": 1, "host": "h", "since": ago(-60)})
        status = StatusReader(store).read(suite)
    assert not status.at_work
    assert "the store is held by process 1 on h" in text_of(status, 80)


def test_looking_never_keeps_a_run_from_starting(store: Store) -> None:
    with store.exclusive():
        pass
    with (store.root / "run.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="in use"), store.exclusive():
            pass
        fcntl.flock(file, fcntl.LOCK_UN)
        with store.exclusive():
            pass


def test_done_trials_are_read_once(store: Store, suite: Path) -> None:
    finish(store, "a")
    reader = StatusReader(store)
    reader.read(suite)
    (store.trial_folder("a") / "status.json").write_text("gone")
    assert reader.read(suite).rows[0].seconds == 60.0


def row(state: str, method: str = "unet", **fields: Any) -> TrialStatus:
    return TrialStatus(f"{state}{fields}", method, "fold0", 0, state, **fields)


def test_time_left() -> None:
    done = [row("done", seconds=seconds) for seconds in (50.0, 60.0, 400.0)]
    moment = datetime.fromisoformat("2030-01-01T00:01:00+00:00").timestamp()
    heard = "2030-01-01T00:00:50+00:00"
    running = row("running", epoch=4, epochs=10, epoch_seconds=20.0, updated=heard)
    fresh = row("running", epoch=0, started=heard)
    assert time_left([*done], moment) == (0.0, ())
    assert time_left([*done, running], moment) == (6 * 20 - 10, ())
    # Two at a time: 110 s and 50 s that run, and four of 60 s that wait.
    assert time_left([*done, running, fresh, *[row("pending")] * 4], moment) == (200.0, ())
    assert time_left([*done, running, fresh], moment) == (110.0, ())
    # No trial is done: what the running one will have taken.
    assert time_left([running, row("pending")], moment) == (110 + 200, ())
    assert time_left([row("running", epoch=0, started=heard)], moment) == (None, ("unet",))
    assert time_left([running, row("pending", "otsu"), row("failed", "otsu")], moment) == (110.0, ("otsu",))
    # Its last epochs are all that an interrupted trial needs.
    assert time_left([row("interrupted", epoch=9, epochs=10, epoch_seconds=20.0)], moment) == (20.0, ())


def test_the_text_fits_in_80_columns_and_says_what_to_do(store: Store, suite: Path) -> None:
    finish(store, "a")
    store.write_status("b", "failed", reason="RuntimeError: " + "much went wrong here, " * 10)
    for _ in range(2):
        store.record_attempt("c", "its process died")
    text = text_of(StatusReader(store).read(suite), 80)
    assert all(len(line) <= 80 for line in text.splitlines()[1:])
    assert "5 trials: 1 done, 0 running, 2 pending, 1 failed, 1 interrupted" in text
    assert "unet fold1 seed 0\n    RuntimeError: much went wrong" in text
    assert "unet fold2 seed 0 after 2 attempts\n    its process died" in text
    assert "To try again what failed" in text and "python -m harness run suite=toys training=quick" in text


def test_many_failures_are_cut_short() -> None:
    rows = [TrialStatus(str(i), "unet", f"fold{i}", 0, "failed", reason="cause") for i in range(50)]
    status = RunStatus("toys", "t", Path("runs"), rows, False, None, None, (), (), "", None)
    text = text_of(status, 80)
    assert text.count("cause") == 20
    assert "and 30 more: --json shows all" in text
    assert "the same command again" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h"), (864000, "10.0 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_command(store: Store, suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store, "a")
    words = ["status", f"store.root={store.root}"]
    assert main(words) == 0
    assert "1 done" in capsys.readouterr().out
    assert main([*words, "--watch"]) == 0  # nothing is at work, so it ends
    capsys.readouterr()
    store.write_status("b", "failed", reason="x")
    assert main([*words, "suite=toys", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["counts"]["failed"] == 1
    assert [trial["state"] for trial in printed["trials"]] == ["done", "failed", "pending", "pending", "pending"]


def test_watching_off_a_terminal_prints_lines_until_the_run_ends(
    store: Store, suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, "a")
    held = store.exclusive()
    held.__enter__()
    atomic_write_json(store.root / "run.holder.json", {"pid": 1, "host": "h", "since": ago(10)})
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] == 40:
            held.__exit__(None, None, None)

    monkeypatch.setattr("harness.cli.status.time.sleep", sleep)
    monkeypatch.setattr("harness.cli.status.time.monotonic", lambda: clock[0])
    assert main(["status", f"store.root={store.root}", "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:] for line in lines[:2]] == [
        "toys: 5 trials: 1 done, 0 running, 4 pending, 0 failed, 0 interrupted; time left: about 4 min"
    ] * 2
    assert lines[2].startswith("toys ") and lines[3] == "stopped before its end"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is no store at"),
        (("store.root=.",), "has no run yet"),
        (("store.rot=x",), "Did you mean 'store.root'?"),
        (("--wacth",), "Did you mean '--watch'?"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["status", *words]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_was_never_run(store: Store, suite: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'toys'"):
        find_run(store, "toy")


def test_the_words_of_a_run_find_that_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import asdict

    import yaml

    from harness.config.loading import load_config

    root = f"store.root={tmp_path / 'runs'}"
    words = [root, "method=[otsu]", "training.epochs=3"]
    store = Store(tmp_path / "runs")
    for number, epochs in enumerate((3, 4)):
        config = load_config([root, "method=[otsu]", f"training.epochs={epochs}"])
        entry = TrialEntry(ids(f"t{number}"), "otsu", f"fold{number}", 0)
        store.start_suite(config.name, yaml.safe_dump(asdict(config)), [entry])
    assert main(["status", *words, "executor=serial", "--json"]) == 0
    assert [trial["id"] for trial in json.loads(capsys.readouterr().out)["trials"]] == ["t0"]
    assert main(["status", root, "method=[otsu]", "training.epochs=5"]) == 2
    assert "none of exactly these words" in capsys.readouterr().err


def test_looking_imports_nothing_heavy(store: Store, suite: Path) -> None:
    code = (
        "import sys; from harness.cli import main; code = main(['status', sys.argv[1]]);"
        "print(code, sorted({'torch', 'ray', 'pandas', 'numpy', 'hydra', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"store.root={store.root}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_fold_without_a_choice_is_shown_with_its_reason(store: Store) -> None:
    search = SearchChoice({}, 6, missing="The search of this fold failed.")
    entry = replace(TrialEntry(ids("nowhere"), "unet", "fold0", 0), search=search)
    (row,) = StatusReader(store).read(store.start_suite("tuned", "name: tuned\n", [entry], COMMAND)).rows
    assert (row.state, row.reason, row.fold) == ("failed", "The search of this fold failed.", "fold0")

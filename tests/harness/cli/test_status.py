"""What `status` says of a run, at work or ended, as text, as lines for a log and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main, status
from harness.cli.status import counts_of, duration, line_of, text_of
from harness.store.run_status import RunStatus, StatusReader, TrialStatus

HOLDER = {"pid": 17, "host": "node3", "since": "2026-01-02T03:04:05Z"}


def row(fold: int, state: str, **more: Any) -> TrialStatus:
    return TrialStatus(f"id{fold}", "unet", f"fold{fold}", 0, state, **more)


def run(*rows: TrialStatus, **more: Any) -> RunStatus:
    given = {
        "at_work": False, "holder": None, "seconds_left": None, "unknown": (), "directory": "", "report": None,
        "command": ("python", "-m", "harness", "run", "method=[unet,otsu]"), **more,
    }  # fmt: skip
    return RunStatus("toys", "2026-01-02T03-04-05Z", Path("runs"), list(rows), **given)


def begun(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def at_work(*rows: TrialStatus, **more: Any) -> RunStatus:
    return run(*rows, at_work=True, holder=HOLDER, **more)


def test_a_run_at_work() -> None:
    running = row(1, "running", epoch=3, epochs=15, dice=0.5, host="node4", started=begun(600), attempts=2)
    text = text_of(at_work(row(0, "done"), running, row(2, "pending"), seconds_left=5400), 100)
    assert "run by process 17 on node3 since 2026-01-02T03:04:05Z" in text
    assert "3 trials: 1 done, 1 running, 1 pending, 0 failed, 0 interrupted" in text
    assert "time left: about 1.5 h" in text
    (line,) = [line for line in text.splitlines() if "epoch" in line]
    assert line.split() == [
        *running.label.split(),
        *["epoch", "3/15", "dice", "0.500", "node4", "10", "min", "attempt", "2"],
    ]
    assert "go on" not in text and "Report" not in text


def test_a_trial_that_has_just_begun() -> None:
    assert "epoch 0/?" in (text := text_of(at_work(row(0, "running")), 80)) and "dice -" in text


@pytest.mark.parametrize(
    ("unknown", "seconds", "said"),
    [
        ((), None, "time left: unknown"),
        (("a", "b"), None, "time left: unknown for a, b"),
        (("a", "b", "c", "d", "e"), 60, "time left: unknown for a, b, c and 2 more; the rest: about 60 s"),
    ],
)
def test_how_long_it_takes(unknown: tuple[str, ...], seconds: float | None, said: str) -> None:
    found = at_work(row(0, "pending"), unknown=unknown, seconds_left=seconds)
    assert said in text_of(found, 80).splitlines()
    assert line_of(found).endswith(f"toys: {counts_of(found)}; {said}")


def test_only_costs_and_the_report_are_left() -> None:
    assert "no trial is left to run: costs and the report follow" in text_of(at_work(row(0, "done")), 80)


@pytest.mark.parametrize(
    ("holder", "words"), [({}, "a process that has not said who it is"), (None, "run from another machine")]
)
def test_who_runs_it(holder: dict[str, Any] | None, words: str) -> None:
    assert words in text_of(run(row(0, "pending"), at_work=True, holder=holder), 80)


def test_a_stopped_run_says_why_and_how_to_go_on() -> None:
    failed = row(0, "failed", reason="no memory " * 20, attempts=3)
    interrupted = row(1, "interrupted", epoch=4, epochs=15)
    stopped = run(failed, interrupted, holder=HOLDER, directory="/elsewhere")
    text = text_of(stopped, 60)
    assert "stopped before its end; the store is held by process 17" in text
    assert f"{failed.label} after 3 attempts" in text and f"{interrupted.label} at epoch 4/15" in text
    assert max(len(line) for line in text.splitlines() if "no memory" in line) <= 60
    assert "To try again what failed (in /elsewhere):\n  python -m harness run 'method=[unet,otsu]'" in text
    assert "To go on:" in text_of(run(interrupted), 80)
    assert "To go on: the same command again." in text_of(run(interrupted, command=()), 80)


def test_an_ended_run_names_its_report() -> None:
    text = text_of(run(row(0, "done"), report=Path("runs/leaderboard.html")), 80)
    assert "ended" in text and text.endswith("Report: runs/leaderboard.html")


@pytest.mark.parametrize("state", ["running", "failed"])
def test_of_many_trials_some_are_shown(state: str) -> None:
    text = text_of(at_work(*(row(number, state) for number in range(100))), 80)
    assert f"and {100 - text.count('unet')} more: --json shows all" in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (42, "42 s"), (17 * 60, "17 min"), (3.5 * 3600, "3.5 h"), (50.4 * 3600, "2.1 days")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has `status` read these, one after the other, without a wait."""

    def read(*found: RunStatus) -> None:
        left: Iterator[RunStatus] = iter(found)
        monkeypatch.setattr(status, "_finder", lambda *_: (None, lambda: Path()))
        monkeypatch.setattr(StatusReader, "read", lambda *_: next(left))
        monkeypatch.setattr(status, "_LOOK_SECONDS", 0)
        monkeypatch.setattr(status, "_LINE_SECONDS", 0)

    return read


def test_watched_from_a_log_it_says_a_line_at_a_time(
    read: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = at_work(row(0, "running"), row(1, "pending"))
    second = replace(first, rows=[row(0, "done"), row(1, "failed")])
    read(first, second, replace(second, at_work=False))
    assert main(["status", "--watch"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "0 done, 1 running" in lines[0] and "1 done, 0 running" in lines[1]
    assert "To try again what failed" in "\n".join(lines[2:])


def test_watched_in_a_terminal_it_ends_with_the_run(
    read: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    first = at_work(row(0, "running"))
    read(first, replace(first, rows=[row(0, "done")], at_work=False))
    assert main(["status", "--watch"]) == 0
    assert "1 trial: 1 done" in capsys.readouterr().out


def test_as_json(read: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    read(at_work(row(0, "running", epoch=2), report=None))
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["running"] == 1 and found["store"] == "runs" and found["report"] is None
    assert [(trial["fold"], trial["state"], trial["epoch"]) for trial in found["trials"]] == [("fold0", "running", 2)]

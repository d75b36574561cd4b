"""A check ends at its deadline: steps that don't fit are named, one that takes too long is stopped, and its processes too."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.performance.deadline import Deadline, run_within


def test_a_step_is_left_out_where_the_longest_of_its_part_would_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    deadline = Deadline(100, reserved=20, clock=lambda: clock[0])

    def takes(seconds: float) -> float:
        clock[0] += seconds
        return seconds

    assert deadline.step("a", "a 1", lambda: takes(50)) == 50
    assert deadline.step("a", "a 2", lambda: takes(1)) is None  # 30 s are left
    assert deadline.step("b", "b 1", lambda: takes(10)) == 10  # nothing is known of this part yet
    assert deadline.step("b", "b 2", lambda: takes(20)) == 20
    assert deadline.step("c", "c 1", lambda: takes(1)) is None  # what is left is the last step's
    assert deadline.step("tests", "tests", lambda: takes(5), last=True) == 5
    assert deadline.left_out == ["a 2", "c 1"] and deadline.spent() == 85
    assert capsys.readouterr().out.splitlines() == [f"{name}: left out, no time for it" for name in ("a 2", "c 1")]


def test_a_step_that_takes_too_long_is_stopped() -> None:
    deadline, ended = Deadline(0.2), []

    def never() -> None:
        try:
            while True:
                try:
                    time.sleep(60)
                except Exception:
                    pytest.fail("a step's own handler caught the deadline")
        finally:
            ended.append(True)

    assert deadline.step("a", "a", never) is None
    assert deadline.left_out == ["a"] and ended == [True]


def test_a_step_s_own_error_is_no_matter_of_time() -> None:
    deadline = Deadline(60)
    with pytest.raises(ZeroDivisionError):
        deadline.step("a", "a", lambda: 1 / 0)
    assert deadline.left_out == []


def test_a_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time, pathlib;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "pathlib.Path('child').write_text(str(child.pid)); time.sleep(600)"
    )

    with pytest.raises(subprocess.TimeoutExpired):
        run_within([sys.executable, "-c", code], 5, tmp_path)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 30
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(child)
    assert run_within([sys.executable, "-c", "raise SystemExit(3)"], 60, tmp_path) == 3


def sleeps(times: Any) -> None:
    """In place of a trial that never ends."""
    time.sleep(600)


def test_trials_that_share_a_card_are_ended_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.performance import gpu_check

    monkeypatch.setattr(gpu_check, "one_trial", lambda: 1.0)
    monkeypatch.setattr(gpu_check, "_put_one_trial", sleeps)
    before = set(multiprocessing.active_children())
    deadline = Deadline(3)
    assert deadline.step("sharing", "sharing", gpu_check.sharing) is None
    assert deadline.left_out == ["sharing"] and set(multiprocessing.active_children()) == before


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

"""The status of a trial on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.store.trial_state import TrialState, read_state, write_state


def test_a_state_comes_back_and_holds_no_empty_keys(tmp_path: Path) -> None:
    state = TrialState("running", started="2026-01-01T00:00:00+00:00", host="h", pid=1, epoch=2, epochs=3, dice=0.0)
    state = TrialState("failed", reason="x", attempts=state.after("its process died").attempts)
    write_state(tmp_path, state)
    content = json.loads((tmp_path / "status.json").read_text("utf-8"))
    assert set(content) == {"schema_version", "state", "updated", "reason", "attempts"}
    found = read_state(tmp_path)
    assert found is not None and found.updated is not None
    assert (found.state, found.reason, found.attempts) == ("failed", "x", state.attempts)
    assert (found.attempts[0].cause, found.attempts[0].host) == ("its process died", "h")


def test_a_dice_of_nought_is_kept(tmp_path: Path) -> None:
    write_state(tmp_path, TrialState("running", epoch=1, dice=0.0))
    found = read_state(tmp_path)
    assert found is not None and found.dice == 0.0


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"state": "running", "attempts": [3]}', '{"attempts": 1}'])
def test_what_is_no_state_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "nowhere") is None


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"schema_version": 1, "state": "done"}')
    with pytest.raises(UserError, match="schema_version 1"):
        read_state(tmp_path)

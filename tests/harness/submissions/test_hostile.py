"""Every attack is refused with its reason, or shown for what it is; none is executed and none ends the build."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile import ATTACKS, TRIPWIRE, Attack

from harness.errors import UserError
from harness.submissions import guard
from harness.submissions.guard import judge


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_as_it_should(
    name: str,
    honest: bytes,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    attack: Attack = ATTACKS[name]
    path = tmp_path / "submission.zip"
    path.write_bytes(attack.make(honest))
    monkeypatch.chdir(tmp_path)
    with_data, without = judge(path, data), judge(path, None)
    assert (with_data.state, without.state) == (attack.state, attack.without_data), (with_data.reason, without.reason)
    assert attack.reason in with_data.reason
    assert len(with_data.reason) < 1000, "a reason is a sentence: it must not carry the attacker's text at length"
    assert "\n" not in with_data.reason, "what begins a line may be a command to whoever reads the log"
    assert [entry.name for entry in tmp_path.iterdir()] == ["submission.zip"]
    assert TRIPWIRE not in "".join(capfd.readouterr())


def test_the_honest_one_is_verified(honest: bytes, data: Path, tmp_path: Path) -> None:
    (tmp_path / "honest.zip").write_bytes(honest)
    assert judge(tmp_path / "honest.zip", data).state == "verified"


def test_a_hole_in_the_checks_costs_one_file(
    honest: bytes, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(honest)
    for error in (PermissionError(13, "Permission denied"), ZeroDivisionError("no error that anybody foresaw")):
        monkeypatch.setattr(guard, "read_submission", _raising(error))
        verdict = judge(tmp_path / "a.zip", data)
        assert verdict.state == "refused" and type(error).__name__ in verdict.reason
    assert judge(tmp_path / "gone.zip", data).state == "refused"


def test_data_of_the_site_that_cannot_be_read_end_the_build(honest: bytes, tmp_path: Path) -> None:
    """It is no fault of the submission."""
    (tmp_path / "a.zip").write_bytes(honest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        judge(tmp_path / "a.zip", tmp_path / "empty")


def _raising(error: Exception) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        raise error

    return read


def test_what_is_no_file_is_refused(honest: bytes, tmp_path: Path) -> None:
    (tmp_path / "real.zip").write_bytes(honest)
    (tmp_path / "link.zip").symlink_to(tmp_path / "real.zip")
    (tmp_path / "folder.zip").mkdir()
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("link", "folder", "pipe"):
        verdict = judge(tmp_path / f"{name}.zip", None)
        assert verdict.state == "refused" and "expected a file" in verdict.reason

"""Where Ray keeps its sockets when the folder for temporary files is too deep for them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.execution.ray import cluster

DEEP = "/" + "n" * 90


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_deep_folder_is_said_and_replaced(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: DEEP)
    monkeypatch.setenv(name, DEEP)
    place = cluster._short_folder()
    assert place is not None and place.startswith("/tmp/ray-")
    assert f"{name}={DEEP} is too long for the sockets of Ray, which uses {place}." in caplog.text


def test_a_short_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/of/a/person")
    assert cluster._short_folder() is None


def test_without_another_place_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", DEEP)
    monkeypatch.setattr(cluster, "_SHORT_FOLDERS", (str(tmp_path / "none"),))
    with pytest.raises(UserError, match=r"Set RAY_TMPDIR to a shorter folder, or use executor=serial"):
        cluster._short_folder()

"""-v, -q and a run's log file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main, make_parser
from harness.cli.common import set_quiet, terminal
from harness.cli.logs import EVENTS, log_to_file
from harness.errors import UserError
from harness.store.store import Store


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    set_quiet(False)
    for name in ("harness", "reports", "delightsam", "baselines"):
        assert logging.getLogger(name).handlers == []


@pytest.fixture
def toy_run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    return ["run", *words]


def log_of(tmp_path: Path) -> str:
    (record,) = Store(tmp_path / "runs").suites()
    return (record.folder / "run.log").read_text("utf-8")


@pytest.mark.parametrize("place", [["-q", "data", "verify"], ["data", "-q", "verify"], ["data", "verify", "-q"]])
def test_the_options_stand_anywhere(place: list[str]) -> None:
    args = make_parser().parse_args([*place, "folder"])
    assert args.quiet and not hasattr(args, "verbose")


def test_a_run_leaves_its_log_with_the_command_events_and_causes(
    toy_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*toy_run, "method=[floor,broken]"]) == 1
    shown, log = capsys.readouterr().err, log_of(tmp_path)
    assert "start  floor" in shown
    assert "python -m harness run --config-dir" in log
    assert "2 trials, 0 of them already in" in log
    for line in ("start  floor", "done   floor", "failed broken", "Ended."):
        assert line in log
    assert "WARNING failed broken" in log
    assert all(line[:4].isdigit() or line.startswith(" ") for line in log.splitlines())


def test_quiet_shows_no_progress_and_logs_the_same(
    toy_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*toy_run, "method=floor", "-q"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: floor fold0 seed 0: every pixel")
    assert "done   floor" in log_of(tmp_path) and line.removeprefix("Warning: ") in log_of(tmp_path)
    assert main(["run", "-q", "method=unett"]) == 2
    assert capsys.readouterr().err.startswith("Error: ")
    assert terminal(stderr=True).quiet and not terminal().quiet


def test_quiet_hides_no_cost_that_could_not_be_measured(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError("the machine is small")

    monkeypatch.setattr("harness.efficiency.measure.Measurement.add_round", no_memory)
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    assert main(["run", *words, "method=floor", "-q"]) == 0
    said = "Costs of floor could not be measured: MemoryError: the machine is small (test_logs.py, line "
    assert any(record.levelname == "WARNING" and said in record.getMessage() for record in caplog.records)
    assert said in log_of(tmp_path)


def test_what_ends_a_run_stands_in_its_log(tmp_path: Path) -> None:
    for error, said in (
        (UserError("the disk is full"), "UserError: the disk is full"),
        (KeyboardInterrupt(), "Ctrl-C"),
    ):
        with pytest.raises(type(error)), log_to_file(tmp_path / "run.log"):
            EVENTS.info("begun")
            raise error
        assert said in (tmp_path / "run.log").read_text("utf-8")


def test_a_folder_that_cant_be_written_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="a file stands where a folder is needed"),
        log_to_file(tmp_path / "file" / "run.log"),
    ):
        pass


def test_verbose_tells_what_else_is_done(
    small_dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    (small_dataset / "manifest.csv").unlink()
    words = ["plan", "method=otsu", f"data.root={small_dataset}"]
    assert main([*words, "-v"]) == 0
    loud = capsys.readouterr()
    assert "INFO harness.data.dataset: " in loud.err and "scanning its 24 pairs" in loud.err
    (small_dataset / "manifest.csv").unlink()
    assert main(words) == 0
    plain = capsys.readouterr()
    assert "INFO" not in plain.err
    assert plain.out == loud.out

"""The command line: exit codes, words, what is imported, and that the same command goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness.cli
from harness import __version__
from harness.cli import main
from harness.errors import UserError
from harness.store.store import Store


def modules_after(*commands: str) -> list[tuple[str, int, set[str]]]:
    """The commands one after the other, in one new process: each with its exit code and all modules imported so far."""
    program = (
        "import contextlib, io, json, runpy, sys\n"
        "found, before = [], set(sys.modules)\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['harness', *command.split()]\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(io.StringIO()):\n"
        "            runpy.run_module('harness', run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end:\n"
        "        found.append([command, end.code, sorted({*sys.modules} - before)])\n"
        "print(json.dumps(found))\n"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return [(command, code, set(modules)) for command, code, modules in json.loads(output)]


def packages(modules: set[str]) -> set[str]:
    """The packages that these modules are of, without those of Python itself and of its compiled extensions."""
    names = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"cython_runtime"}
    return {name for name in names if not name.startswith("_")}


def test_help_and_list_import_what_they_need_and_nothing_else() -> None:
    """A package more costs every command its time. `list` reads YAML, and sizes of images."""
    listing = {"harness", "suites", "yaml", "numpy", "PIL"}
    allowed = {
        "--help": {"harness"},
        "--version": {"harness"},
        "list": listing,
        "list methods": listing,
        "run --help": listing,  # in the process that has listed
        "doctor --help": listing,
    }
    done = modules_after(*allowed)
    assert [(command, code) for command, code, _ in done] == [(command, 0) for command in allowed]
    assert {command: packages(modules) for command, _, modules in done} == allowed


@pytest.mark.parametrize("command", ["run --help", "doctor --help", "report --help", "data --help"])
def test_help_of_a_command_imports_the_bench_alone(command: str) -> None:
    ((_, code, modules),) = modules_after(command)
    assert (code, packages(modules)) == (0, {"harness"})


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"delightsam-bench {__version__}\n"


def test_without_a_command_help_is_shown_and_the_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "python -m harness run suite=domain_generalization" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "unknown command 'rnu'. Did you mean 'run'?"),
        (["list", "metods"], "Unknown kind 'metods'. Did you mean 'methods'?"),
        (["list", "--config-dir", "/nonexistent"], "--config-dir /nonexistent: expected a folder, found nothing."),
        (["run", "method=unett"], "Unknown method 'unett'. Did you mean 'unet'?"),
        (["run", "suite=domain_generalisation"], "Did you mean 'domain_generalization'?"),
        (["plan", "training.epoch=3"], "Unknown key 'training.epoch'. Did you mean 'training.epochs'?"),
        (["plan", "training.epochs=many"], "training.epochs=many"),
        (["plan", "data.root=/nonexistent"], "/nonexistent: expected a folder with a dataset, found nothing."),
        (["plan", "--config-dir", "/nonexistent"], "expected a folder, found nothing"),
        (["list", "--config-dir", "."], "expected at least one of the folders suite, method"),
        (["plan", "protocol.max_folds=0"], "protocol.max_folds=0 is out of range: expected 1 or more."),
    ],
)
def test_a_users_mistake_is_one_clear_message_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert said in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []  # nothing was made, not even a store


@pytest.mark.parametrize("arguments", [["run", "--no-such-option"], ["data"], ["data", "verfy"]])
def test_argparses_own_errors_are_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "--help" in error


def test_words_stand_before_between_and_after_options(toys: Path) -> None:
    words = ["suite=x", "--config-dir", str(toys), "method=[otsu]", "seeds=3"]
    for command in ("run", "plan"):
        args = harness.cli.make_parser().parse_args([command, *words])
        assert (args.overrides, args.config_dir) == (["suite=x", "method=[otsu]", "seeds=3"], toys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["plan", "suite=x", "--config-dr", "x"],
            "--config-dr. Did you mean '--config-dir'?\nSee `python -m harness plan ",
        ),
        (["run", "--epochs", "3"], "Settings have no dashes: training.epochs=3.\nSee `python -m harness run --help`"),
        (["list", "methods", "suites"], "unknown: suites.\nSee `python -m harness list --help`"),
        (["data", "verify", "x", "--jsn"], "Did you mean '--json'?\nSee `python -m harness data verify --help`"),
    ],
)
def test_a_word_out_of_place_is_refused_with_the_commands_own_help(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_help_of_run_and_plan_teaches_the_words(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = capsys.readouterr().out
    for part in ("key=value", "data.root=DIR", "python -m harness list", f"harness {command} suite=", "goes on where"):
        assert part in shown


def hidden_by(error: Exception, stop: BaseException) -> Exception:
    """`error` as a library raises it whose clean-up fails after `stop`."""
    error.__context__ = stop
    return error


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (UserError("the key x is wrong"), 2, "Error: the key x is wrong"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (hidden_by(UserError("half a configuration"), KeyboardInterrupt()), 130, "the same command goes on"),
    ],
)
def test_how_a_command_ends_decides_the_code(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr("harness.config.loading.load_config", fail)
    assert main(["plan"]) == code
    assert said in capsys.readouterr().err


def test_list_names_everything_and_a_users_own(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--config-dir", str(toys)]) == 0
    shown = capsys.readouterr().out
    for name in (
        "domain_generalization",
        "unet",
        "otsu",
        "tinyconv",
        "leave_one_domain_out",
        "smoke",
        "serial",
        "hd95_max",
    ):
        assert f"\n  {name} " in shown
    assert main(["list", "methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("  unet "))
    assert "14.3 M parameters, 5.40 GMACs at 256 px; start: scratch; prompt: none; pretrained: none" in lines[start]
    assert lines[start + 1].strip().startswith("paper: Ronneberger")
    assert lines[start + 2].strip() == "licence: MIT"
    assert main(["list", "trainings"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("trainings:\n")
    assert "unet" not in shown


def test_plan_shows_every_trial_and_writes_no_result(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    assert main(["plan", *words, "method=[tinyconv,floor]", "seeds=[0,1]"]) == 0
    shown = capsys.readouterr().out
    assert "4 trials on" in shown
    assert shown.count("pending") == 4
    assert "clinic_" in shown  # the held-out domain
    assert "scanner_" in shown
    assert "4 of 4 trials are still to run." in shown
    assert "no such trial has finished in" in shown
    assert not (tmp_path / "runs" / "trials").exists()


@pytest.mark.e2e
def test_a_run_with_a_failure_is_reported_and_the_same_command_does_only_what_is_missing(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    store = Store(tmp_path / "runs")
    assert main(["run", *words, "method=[tinyconv,broken]"]) == 1
    error = capsys.readouterr().err
    assert "2 trials, 0 of them already in" in error
    assert "broken fold0 seed 0" in error
    assert "ZeroDivisionError: a mistake in the method's code" in error
    assert "The others are kept." in error
    (first,) = store.suites()
    assert (first.name, [trial.method for trial in first.trials]) == (
        "domain_generalization",
        ["tinyconv", "broken"],
    )
    assert (first.folder / "report" / "leaderboard.html").stat().st_size > 1000
    assert "tinyconv" in (first.folder / "report" / "leaderboard.csv").read_text()
    assert first.config["training"]["epochs"] == 1
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    done = next(trial.ids.training for trial in first.trials if trial.method == "tinyconv")
    written = (store.trial_folder(done) / "result.json").stat().st_mtime_ns

    assert main(["run", *words, "method=tinyconv"]) == 0
    error = capsys.readouterr().err
    assert "1 trial, 1 of them already in" in error
    assert "start" not in error
    assert "costs" not in error  # measured the first time
    assert (store.trial_folder(done) / "result.json").stat().st_mtime_ns == written
    assert len(store.suites()) == 2

    assert main(["plan", *words, "method=[tinyconv,broken]"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 trials is still to run." in shown
    assert "failed" in shown

    assert main(["run", *words, "method=tinyconv", "reuse=never"]) == 0
    assert "start  tinyconv" in capsys.readouterr().err
    assert (store.trial_folder(done) / "result.json").stat().st_mtime_ns > written

    with store.exclusive():
        assert main(["run", *words, "method=tinyconv"]) == 2
    assert "is in use by process" in capsys.readouterr().err


@pytest.fixture
def quick_end(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Costs and reports have tests of their own; here they are only counted."""
    reports: list[int] = []
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: reports.append(1))
    return lambda: len(reports)


def test_reuse_only_runs_nothing(words: list[str], tmp_path: Path, quick_end: Callable[[], int]) -> None:
    assert main(["run", *words, "method=tinyconv", "reuse=only"]) == 0
    assert Store(tmp_path / "runs").trial_ids() == []
    assert quick_end() == 1


def test_one_trial_under_two_names_runs_once_and_is_two_rows(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a single modality one model for all and one for each are the same trial: what is equal is said to be equal."""
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    both = ["run", *words, "method=tinyconv", "data.modalities=[dermoscopy]", "protocol.scope=both"]
    assert main(both) == 0
    assert capsys.readouterr().err.count("start  ") == 1
    store = Store(tmp_path / "runs")
    (record,) = store.suites()
    first, second = record.trials
    assert first.ids == second.ids and {first.method, second.method} == {"tinyconv", "tinyconv@per_modality"}
    table = (record.folder / "report" / "leaderboard.csv").read_text("utf-8").splitlines()
    assert len(table) == 3 and len({line.split(",")[4] for line in table[1:]}) == 1
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    assert main(both) == 0
    assert "2 trials, 2 of them already in" in capsys.readouterr().err


def test_a_damaged_result_is_run_again(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], quick_end: Callable[[], int]
) -> None:
    command = ["run", *words, "method=floor"]
    assert main(command) == 0
    store = Store(tmp_path / "runs")
    ((ids,),) = (store.ids_of(trial_id) for trial_id in store.trial_ids())
    samples = store.measurement_folder(ids) / "samples.parquet"
    before = samples.read_bytes()
    samples.write_bytes(before[:-1])
    capsys.readouterr()
    assert main(command) == 0
    assert "start  floor" in capsys.readouterr().err
    assert samples.read_bytes() == before
    assert main(command) == 0
    assert "1 of them already in" in capsys.readouterr().err


def test_more_threads_than_cores_give_a_warning(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick_end: Callable[[], int],
) -> None:
    monkeypatch.setattr("harness.hardware.usable_cores", lambda: 2)
    for threads, warned in ((3, True), (2, False)):
        assert main(["run", *words, "method=[tinyconv]", f"training.cpu_threads={threads}"]) == 0
        assert (f"training.cpu_threads={threads}, and this machine has 2 cores" in capsys.readouterr().err) is warned


def test_a_run_that_can_t_begin_leaves_no_report(
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quick_end: Callable[[], int],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["run", *words, "method=[tinyconv]", "executor.device=cuda"]) == 2
    assert "finds no GPU" in capsys.readouterr().err
    assert quick_end() == 0


def test_a_method_that_cannot_be_built_is_a_users_mistake(
    words: list[str], toys: Path, capsys: pytest.CaptureFixture[str], quick_end: Callable[[], int]
) -> None:
    path = toys / "method" / "tinyconv.yaml"
    path.write_text(path.read_text().replace("toy_methods.TinyConv", "toy_methods.TinyConf"))
    assert main(["run", *words, "method=tinyconv"]) == 2
    assert "Method 'tinyconv' could not be built from toy_methods.TinyConf" in capsys.readouterr().err


def test_a_store_that_is_a_file_is_a_users_mistake(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("")
    assert main(["run", *words, "method=floor"]) == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err


def test_a_reader_who_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"{sys.executable} -m harness list | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "suites:")
    assert "Traceback" not in done.stderr


def test_the_installed_command_finds_modules_in_the_folder_it_runs_in(
    tmp_path: Path, shared_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `python -m harness` does, so that both take the same methods."""
    (tmp_path / "here.py").write_text("from toy_methods import NoPredict")
    words = ["plan", "method=[unet]", "methods.unet.model._target_=here.NoPredict", "store.root=runs"]
    words.append(f"data.root={shared_dataset}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "argv", ["delightsam-bench", *words])
    try:
        assert main() == 2
    finally:
        sys.modules.pop("here", None)
    error = capsys.readouterr().err
    assert "could not be built from here.NoPredict" in error and "no module" not in error


def test_the_parser_knows_every_command_that_main_knows() -> None:
    for command in ("run", "plan", "list", "report", "data"):
        with pytest.raises(SystemExit, match="0"):
            harness.cli.make_parser().parse_args([command, "--help"])

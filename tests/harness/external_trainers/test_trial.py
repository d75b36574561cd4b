"""Trials of outside trainers: the same store, the same table; each fault of a trainer fails its trial with words."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.execution.measuring import measure_missing
from harness.external_trainers import process as process_module
from harness.external_trainers import supervisor
from harness.files import files_below
from harness.inference.predictors import trial_predictor
from harness.metrics import REGISTRY
from harness.store.run_status import StatusReader
from harness.store.store import Store
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialSpec

Trial = Callable[..., TrialSpec]


def work_of(trial: TrialSpec, context: TrialContext) -> Path:
    return Store(context.store_root).trial_folder(trial.id) / "trainer"


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_trial_is_measured_as_any_other(outside_trial: Trial, context: TrialContext) -> None:
    trial, store = outside_trial(), Store(context.store_root)
    assert run_trial(trial, context) == {"state": "done", "reason": None}
    record = store.load(trial.ids)
    assert record.samples is not None and record.result is not None
    assert tuple(record.samples.key) == trial.split.test + trial.split.validation
    assert record.samples.dice.notna().all()
    assert (record.result["epochs"], record.result["images_seen"], record.result["weights"]) == (7, 70, None)
    assert store.spec(trial.ids) == trial
    # The model stays, the images do not.
    assert [path.name for path in work_of(trial, context).iterdir()] == ["model"]
    log = (store.trial_folder(trial.id) / "trainer.log").read_text()
    assert log.index(" train: ") < log.index(" predict: ")


def test_without_kept_weights_nothing_of_the_folder_stays(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial()
    run_trial(trial, replace(context, keep_weights=False))
    assert not work_of(trial, context).exists()


def test_the_folder_holds_what_the_contract_says(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial("code")
    run_trial(trial, context)
    work, samples = work_of(trial, context), Dataset.open(Path(trial.data.root)).by_key()
    for role in ("train", "validation", "test"):
        for key in trial.split.of(role):
            with Image.open(work / role / "images" / f"{key.replace('/', '__')}.png") as image:
                assert image.mode == "RGB" and image.size == (samples[key].width, samples[key].height)
    key = trial.split.train[0]
    mask = np.asarray(Image.open(work / "train" / "masks" / f"{key.replace('/', '__')}.png"))
    assert set(np.unique(mask)) == {0, 255}
    task = json.loads((work / "task.json").read_text())
    assert task["settings"] == {"batch_size": 8, "epochs": 2, "image_size": 32}
    assert (task["seed"], task["device"], task["modalities"]) == (0, "cpu", ["dermoscopy", "ultrasound"])
    assert [image["name"] for image in task["images"]["test"]] == [
        f"{key.replace('/', '__')}.png" for key in trial.split.test
    ]


def test_no_test_mask_is_within_reach(outside_trial: Trial, context: TrialContext) -> None:
    """Neither as a file, nor by its pixels under another name, nor by a link or a path that leads to the data set."""
    trial = outside_trial("code")
    run_trial(trial, context)
    work, samples = work_of(trial, context), Dataset.open(Path(trial.data.root)).by_key()
    files = files_below(work)
    assert not [path for path in files if path.is_symlink()]
    assert not (work / "test" / "masks").exists()

    def pixels(path: Path) -> str:
        return hashlib.sha256((np.asarray(Image.open(path).convert("L")) > 0).tobytes()).hexdigest()

    hidden = {pixels(samples[key].mask) for key in trial.split.test}
    assert not hidden & {pixels(path) for path in files if path.suffix == ".png"}
    texts = "".join(path.read_text() for path in files if path.suffix != ".png")
    assert trial.data.root not in texts
    test_names = {key.replace("/", "__") for key in trial.split.test}
    assert not test_names & {path.stem for path in files if path.parent.name == "masks"}


def test_the_trainers_variables_name_no_data(outside_trial: Trial, context: TrialContext, tmp_path: Path) -> None:
    received = tmp_path / "received.json"
    code = f"import json, os, sys; json.dump([sys.argv, dict(os.environ)], open({str(received)!r}, 'w')); sys.exit(1)"
    trial = outside_trial(train=["{python}", "-c", code, "{work}"])
    run_trial(trial, context)
    words, variables = json.loads(received.read_text())
    assert words[1:] == [str(work_of(trial, context))]
    new = {key: value for key, value in variables.items() if os.environ.get(key) != value}
    assert {key: new[key] for key in new if key.startswith("BENCH_")} == {
        "BENCH_WORK": words[1], "BENCH_RESUME": "0", "BENCH_SEED": "0", "BENCH_DEVICE": "cpu",
    }  # fmt: skip
    assert trial.data.root not in str(new) and variables["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("code", r"train command ended with code 3.*\n.*trainer\.log:\n  about to fail\n  a reason in words"),
        ("missing", r"1 of \d+ masks are missing: ultrasound__scanner_a__case_\d\.png"),
        ("extra", r"1 files are no mask of a test or validation image: another\.png"),
        ("size", r"expected \d+ x \d+ pixels \(width x height\).*found 5 x 7"),
        ("grey", r"left a file that is no mask\..*values"),
        ("no_picture", r"left a file that is no mask\."),
    ],
)
def test_a_fault_fails_the_trial_with_words(
    fault: str, words: str, outside_trial: Trial, context: TrialContext
) -> None:
    trial = outside_trial(fault)
    status = run_trial(trial, context)
    assert status["state"] == "failed"
    assert re.search(words, status["reason"]), status["reason"]
    assert Store(context.store_root).result(trial.ids) is None


def test_a_command_that_ends_by_a_signal_is_named_so(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial(train=["{python}", "-c", "import os; os.abort()"])
    assert "was ended by SIGABRT" in run_trial(trial, context)["reason"]


def test_masks_of_an_earlier_attempt_do_not_count(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial("size")
    run_trial(trial, context)
    assert list((work_of(trial, context) / "predictions").iterdir())
    silent = outside_trial("size", predict=["{python}", "-c", "pass"])
    assert silent.id == trial.id and silent.ids != trial.ids
    assert "masks are missing" in run_trial(silent, context)["reason"]


def test_the_timeout_ends_all_processes_and_the_same_command_goes_on(
    outside_trial: Trial, context: TrialContext
) -> None:
    trial = outside_trial("hang", timeout_hours=8 / 3600)
    began = time.monotonic()
    status = run_trial(trial, context)
    assert status["state"] == "failed" and "was ended after 0.002222 hours (timeout_hours" in status["reason"]
    assert time.monotonic() - began < 60
    pids = [int(pid) for pid in (work_of(trial, context) / "model" / "pids.txt").read_text().split()]
    assert len(pids) == 2 and not [pid for pid in pids if lives(pid)]
    assert run_trial(outside_trial("hang", timeout_hours=1), context)["state"] == "done"
    calls = (work_of(trial, context) / "model" / "calls.txt").read_text().splitlines()
    assert calls == ["train 0", "train 1", "predict 0"]


def test_a_request_to_stop_ends_the_command_and_keeps_the_folder(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial("hang")
    pids = work_of(trial, context) / "model" / "pids.txt"
    status = run_trial(trial, context, should_stop=lambda: pids.exists() and len(pids.read_text().split()) == 2)
    assert status["state"] == "interrupted"
    assert not [pid for pid in pids.read_text().split() if lives(int(pid))]
    assert Store(context.store_root).status(trial.id).state == "interrupted"
    assert run_trial(trial, context)["state"] == "done"


def test_a_second_call_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    """A supervisor whose bench was killed may still be ending its command, which writes to the same folder."""
    command = [sys.executable, "-P", supervisor.__file__, str(tmp_path / "lock"), sys.executable, "-c"]
    first = subprocess.Popen(
        [*command, "import time; print('on', flush=True); time.sleep(60)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert first.stdout is not None and first.stdin is not None and first.stdout.readline() == b"on\n"
    second = subprocess.Popen(
        [*command, "print('done')"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1.5)
    first.stdin.close()  # as the death of its bench does
    # Not communicate: it closes standard input, which ends a supervisor.
    assert second.stdout is not None and second.stdout.read() == b"done\n" and second.wait(30) == 0
    assert first.wait(30) == supervisor.STOPPED


def test_a_guard_whose_first_process_is_killed_still_ends_the_command(
    outside_trial: Trial, context: TrialContext
) -> None:
    """As Ray kills the children of a worker."""
    trial = outside_trial("hang")
    pids = work_of(trial, context) / "model" / "pids.txt"

    def kill_the_guard() -> bool:
        if pids.exists() and len(pids.read_text().split()) == 2:
            for child in psutil.Process().children():
                if supervisor.__file__ in child.cmdline():
                    child.kill()
        return False

    status = run_trial(trial, context, should_stop=kill_the_guard)
    assert status["state"] == "failed" and "was ended by SIGKILL" in status["reason"]
    assert not [pid for pid in pids.read_text().split() if lives(int(pid))]


def test_it_tells_that_it_is_alive(
    outside_trial: Trial, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_HEARTBEAT_SECONDS", 0.0)
    trial = outside_trial("hang")
    pids, seen = work_of(trial, context) / "model" / "pids.txt", []

    def should_stop() -> bool:
        seen.append(Store(context.store_root).status(trial.id).state)
        return pids.exists()

    run_trial(trial, context, should_stop=should_stop)
    assert set(seen) == {"running"}


def test_status_names_it_done(outside_config: Any, outside_trial: Trial, context: TrialContext) -> None:
    from harness.store.records import TrialEntry

    trial, store = outside_trial(), Store(context.store_root)
    store.prepare()
    folder = store.start_suite("outsiders", "", [TrialEntry.of(trial)], ())
    run_trial(trial, context)
    (row,) = StatusReader(store).read(folder).rows
    assert (row.state, row.method) == ("done", "outside") and row.seconds


def test_measure_predicts_again_by_the_kept_model(outside_trial: Trial, context: TrialContext) -> None:
    trial, store, datasets = outside_trial(), Store(context.store_root), dict[str, Dataset]()
    run_trial(trial, replace(context, predictions=False))
    before = store.load(trial.ids).samples
    other = replace(trial, evaluation=replace(trial.evaluation, nsd_tolerance=5.0))
    measured = measure_missing(other, context, list(REGISTRY), map, datasets)
    assert (measured.state, measured.predicted) == ("measured", True)
    after = store.load(other.ids).samples
    assert before is not None and after is not None and before.dice.equals(after.dice)
    assert [path.name for path in work_of(trial, context).iterdir()] == ["model"]


def test_measure_says_what_it_can_not_do(outside_trial: Trial, context: TrialContext) -> None:
    trial = outside_trial()
    assert "run it first" in measure_missing(trial, context, list(REGISTRY), map, {}).reason
    run_trial(trial, replace(context, predictions=False, keep_weights=False))
    other = replace(trial, evaluation=replace(trial.evaluation, nsd_tolerance=5.0))
    assert "neither its masks nor its weights" in measure_missing(other, context, list(REGISTRY), map, {}).reason


def test_new_images_are_for_the_trainer_itself(outside_trial: Trial, context: TrialContext) -> None:
    trial, store = outside_trial(), Store(context.store_root)
    run_trial(trial, context)
    with pytest.raises(UserError, match=r"trained by a program of its own.*its model is in .*trainer/model"):
        trial_predictor(store, trial.id, None, "cpu")

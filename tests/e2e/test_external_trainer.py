"""Trainers that live outside, through the real command: killed in the middle, resumed, measured, in the report."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.hardware import usable_cores
from harness.store.store import Store

from .conftest import PLAIN, environment
from .forked import Forked
from .processes import descendants, still_alive

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = (REPOSITORY / "docs" / "guides" / "external_trainer.md").read_text("utf-8")
FILES = dict(re.findall(r"`(my_[\w/]+\.\w+)`[^`]*\n\n```(?:python|yaml)\n(.*?)```", DOCUMENT, re.DOTALL))
WORDS = (
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.amp=off",
    "protocol.max_folds=1",
    "executor.device=cpu",
    "efficiency_seconds=0.1",
    "efficiency_image_size=32",
)


def start(folder: Path, *words: str) -> Forked:
    file, log = tempfile.mkstemp(prefix=".log-", dir=folder)
    os.close(file)
    return Forked(words, folder, log=Path(log), **PLAIN)


def finish(process: Forked, seconds: float = 400) -> str:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def kill_when(process: Forked, reached: Callable[[], bool], seconds: float = 300) -> None:
    """SIGKILL to the command at the moment that `reached` says; what it had started ends by itself."""
    limit = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit, "the moment to kill never came"
        time.sleep(0.05)
    family = descendants(process.pid)
    process.kill()
    process.communicate()
    # Ray's own agents wait a minute for their dead servers.
    ours = [each for each in family if "ray::" not in each.title]
    assert not still_alive(ours, 40), "processes of the trainer outlived the bench"


def trial_of(folder: Path, method: str) -> tuple[Store, Any]:
    store = Store(folder / "runs")
    ids = [ids for trial_id in store.trial_ids() for ids in store.ids_of(trial_id)]
    (found,) = [each for each in ids if store.spec(each).method.name == method]
    return store, found


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    newest = max(folder.glob("runs/suites/*/*/report/leaderboard.csv"), key=lambda path: path.stat().st_mtime_ns)
    with newest.open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


@pytest.fixture
def newcomer(tmp_path: Path) -> Path:
    """A folder with the document's two files in it, as they are printed."""
    assert set(FILES) == {"my_trainer.py", "my_configs/method/threshold.yaml"}
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_printed_trainer_has_30_lines() -> None:
    assert len(FILES["my_trainer.py"].splitlines()) == 30


def test_the_printed_trainer_is_killed_resumed_and_ranked(newcomer: Path, shared_cache: Path) -> None:
    """Killed once under the serial executor and once in a worker of Ray's; a worker of Ray's ends it."""
    script, printed = newcomer / "my_trainer.py", FILES["my_trainer.py"]
    (line,) = [line for line in DOCUMENT.splitlines() if line.startswith("python -m harness run --config-dir")]
    words = [word.strip("'") for word in line.split()[3:]]
    # As many threads as there are cores: one worker of Ray's at a time, which takes longer to start than these trials run.
    words += [*WORDS, f"data.cache={shared_cache}", f"training.cpu_threads={usable_cores()}"]
    begun = newcomer / "begun"
    for executor, resumed in (("serial", "0"), ("ray", "1")):
        # A call that never ends, so that the kill falls in the middle of the training.
        waiting = f"if os.environ['BENCH_RESUME'] == '{resumed}':\n    open({str(begun)!r}, 'w')\n    time.sleep(600)\n"
        script.write_text(printed.replace("\ndef grey", f"\nimport time\n{waiting}\n\ndef grey"))
        kill_when(start(newcomer, *words, f"executor={executor}"), begun.exists)
        begun.unlink()
    script.write_text(printed)
    words_of_status = [sys.executable, "-m", "harness", "status"]  # as it is typed
    state = subprocess.run(words_of_status, cwd=newcomer, env=environment(), capture_output=True, text=True)
    assert "interrupted" in state.stdout, state.stdout + state.stderr
    output = finish(start(newcomer, *words, "executor=ray"))
    assert "Threshold" in output and "costs  threshold: not measured" in output
    row = rows_of(newcomer)["threshold"]
    assert 0 < float(row["dice"]) < 1 and row["selection"] == "trainer"
    page = next(newcomer.glob("runs/suites/*/*/report/leaderboard.html")).read_text("utf-8")
    assert "Threshold" in page
    store, ids = trial_of(newcomer, "threshold")
    log = (store.trial_folder(ids.training) / "trainer.log").read_text()
    assert len(re.findall(r"^--- .* train: ", log, re.MULTILINE)) == 3
    assert "2 of them already" in finish(start(newcomer, *words, "executor=serial"))


def test_without_nnunet_the_run_says_what_to_install(tmp_path: Path, shared_cache: Path) -> None:
    if importlib.util.find_spec("nnunetv2"):
        pytest.skip("nnunetv2 is installed")
    process = start(tmp_path, "run", "method=[nnunet,otsu]", *WORDS, f"data.cache={shared_cache}")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "pip install 'delightsam-bench[nnunet]'" in output
    assert not any(tmp_path.glob("runs/trials/*"))


def test_nnunet_is_killed_resumed_and_trained_on_our_split(tmp_path: Path, shared_cache: Path) -> None:
    """Runs only where nnunetv2 is installed, which the extra `dev` does not bring."""
    pytest.importorskip("nnunetv2")
    words = [
        "run",
        "method=[nnunet,otsu]",
        "training.epochs=3",
        *WORDS,
        "executor=serial",
        f"data.cache={shared_cache}",
    ]
    running = start(tmp_path, *words)
    kill_when(running, lambda: any(tmp_path.glob("runs/trials/*/trainer/model/**/checkpoint_latest.pth")), 900)
    finish(start(tmp_path, *words), 900)
    store, ids = trial_of(tmp_path, "nnunet")
    split = store.spec(ids).split
    used = json.loads((store.trial_folder(ids.training) / "trainer" / "model" / "split_used.json").read_text())
    for ours, theirs in (("train", "train"), ("validation", "val")):
        assert sorted(used[theirs]) == sorted(key.replace("/", "__") for key in split.of(ours))
    record = store.load(ids)
    assert record.samples is not None and record.result is not None
    assert set(record.samples[record.samples.role == "test"].key) == set(split.test)
    assert record.result["epochs"] == 3 and record.result["images_seen"] >= 3 * len(split.train)
    row = rows_of(tmp_path)["nnunet"]
    assert 0 <= float(row["dice"]) <= 1 and row["selection"] == "last"
    log = (store.trial_folder(ids.training) / "trainer.log").read_text()
    # The second attempt does not begin at the first epoch.
    assert len(re.findall(r"Epoch 0 *$", log, re.MULTILINE)) == 1

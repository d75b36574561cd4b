"""Results are whole or not there, damage is noticed, and only one run writes at a time."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.specs import trial_spec
from support.stores import finished_trial

import harness.store.sealed_folder
import harness.store.store
import harness.store.trial_state
from harness.errors import UserError
from harness.files import sha256_file, sha256_json
from harness.metrics import REGISTRY
from harness.store.records import TrialEntry
from harness.store.sealed_folder import SCHEMA_VERSION
from harness.store.store import Store
from harness.store.trial_state import TrialState

SPEC = trial_spec()
IDS = SPEC.ids
TRIAL = IDS.training


def samples(dice: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame(
        {"role": ["test", "test"], "key": ["a/b/c", "a/b/d"], "dice": [dice, 1.0], "subject": [None, None]}
    )


MASK = np.eye(4, 5, dtype=bool)


def finish(store: Store, frame: pd.DataFrame | None = None) -> Path:
    """Returns the folder of the trial."""
    finished_trial(
        store,
        SPEC,
        samples() if frame is None else frame,
        curves=pd.DataFrame({"epoch": [1], "train_loss": [0.25]}),
        provenance={"bench": "0"},
        seconds=1.5,
        masks={("test", "a/b/c"): MASK},
    )
    return store.trial_folder(TRIAL)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs")
    made.prepare()
    return made


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    assert (store.trial_ids(), store.suites(), store.efficiency()) == ([], [], [])
    assert not store.root.exists()


def test_what_is_finished_is_read_back(store: Store) -> None:
    folder = finish(store)
    record = store.load(IDS)
    assert store.trial_ids() == [TRIAL]
    assert store.ids_of(TRIAL) == [IDS]
    assert store.spec(IDS) == SPEC
    assert record.spec == SPEC
    assert record.result is not None
    assert record.result["seconds"] == 1.5
    assert record.metrics == {"dice": REGISTRY["dice"].version}
    assert store.has_masks(IDS) and not store.has_weights(IDS.training)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "spec.json", "status.json", "curves.csv", "provenance.json", "result.json",
        *(f"predictions/{IDS.prediction}/{name}" for name in ("spec.json", "test/a/b/c.png", "result.json")),
        *(f"predictions/{IDS.prediction}/measurements/{IDS.measurement}/{name}"
          for name in ("spec.json", "samples.parquet", "metrics.json", "result.json")),
    }  # fmt: skip
    assert (record.status.state, record.status.seconds) == ("done", 1.5)
    assert record.samples is not None
    assert record.curves is not None
    pd.testing.assert_frame_equal(record.samples, samples())
    assert record.curves.to_dict("list") == {"epoch": [1], "train_loss": [0.25]}
    assert record.provenance["bench"] == "0"
    assert record.folder == folder
    assert not list(store.root.rglob("*.tmp"))


text_column = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(text_column, st.floats(width=64), st.integers(0, 2**40), st.none() | text_column),
        min_size=1,
        max_size=5,
    )
)
def test_samples_come_back_bit_for_bit(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    store = Store(tmp_path / "round_trip")
    frame = pd.DataFrame(rows, columns=["key", "dice", "reference_pixels", "subject"])
    frame["subject"] = frame["subject"].astype(object)
    finish(store, frame)
    table = store.measurement_folder(IDS) / "samples.parquet"
    first = table.read_bytes()
    record = store.load(IDS)
    assert record.samples is not None
    pd.testing.assert_frame_equal(record.samples, frame, check_exact=True, check_dtype=False)
    finish(store, frame)
    assert table.read_bytes() == first


def test_results_are_written_last_so_a_level_is_whole_or_not_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write of every file in turn fails; until the last `result.json` is there the trial is not done."""
    written: list[str] = []
    allowed = [0]
    for module in (harness.store.store, harness.store.sealed_folder, harness.store.trial_state):
        for name in ("atomic_write_bytes", "atomic_write_text", "atomic_write_json"):
            original = getattr(module, name, None)
            if original is None:
                continue

            def write(path: Path, content: Any, original: Any = original) -> None:
                if len(written) == allowed[0]:
                    raise OSError(errno.EIO, "stopped here")
                original(path, content)
                written.append(path.name)

            monkeypatch.setattr(module, name, write)
    allowed[0] = 100
    finish(store)
    total = len(written)
    assert written[-2:] == ["result.json", "status.json"] and written.count("result.json") == 3
    for allowed[0] in range(total - 1):
        written.clear()
        shutil.rmtree(store.trial_folder(TRIAL), ignore_errors=True)
        with pytest.raises(OSError, match="stopped here"):
            finish(store)
        assert store.result(IDS) is None
        assert (store.trained(IDS.training) is not None) == ("result.json" in written)
        assert (store.predicted(IDS) is not None) == (written.count("result.json") == 2)


FILES = {
    "training": ("spec.json", "curves.csv", "provenance.json", "result.json"),
    "prediction": ("spec.json", "result.json"),
    "measurement": ("spec.json", "samples.parquet", "metrics.json", "result.json"),
}


@pytest.mark.parametrize(("level", "name"), [(level, name) for level, names in FILES.items() for name in names])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_level_is_moved_aside_and_counts_as_not_run(
    store: Store, level: str, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    finish(store)
    place = list(FILES).index(level)
    folder = store.folders(IDS)[place]
    path = folder / name
    content = path.read_bytes()
    if harm == "flip":
        # A digit, so that JSON and CSV stay readable: only the checksum can tell.
        position = next(i for i in reversed(range(len(content))) if content[i : i + 1].isdigit())
        other = b"1" if content[position : position + 1] != b"1" else b"2"
        path.write_bytes(content[:position] + other + content[position + 1 :])
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        assert store.result(IDS) is None
    if (name, harm) == ("result.json", "remove"):  # then it was never finished
        store.quarantine_trial(IDS)
        assert folder.exists()
        return
    assert name in caplog.text
    assert folder.exists(), "reading must not move anything"
    store.quarantine_trial(IDS)
    (aside,) = (store.root / "damaged").iterdir()
    assert aside.name.startswith(folder.name)
    # What is above stays.
    assert [each.exists() for each in store.folders(IDS)] == [True] * place + [False] * (3 - place)
    finish(store)
    assert store.result(IDS) is not None


def test_a_mask_that_changed_is_not_kept(store: Store) -> None:
    finish(store)
    store.mask(IDS, "test", "a/b/c").write_bytes(b"x")
    assert not store.has_masks(IDS)
    assert store.result(IDS) is not None, "its numbers are of the mask as it was"


def test_masks_can_be_forgotten_and_numbers_stay(store: Store) -> None:
    finish(store)
    store.forget_masks(IDS)
    assert not store.has_masks(IDS) and not list(store.root.rglob("*.png"))
    assert store.result(IDS) is not None
    store.forget_masks(IDS)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION - 1])
@pytest.mark.parametrize("name", ["spec.json", "status.json", "provenance.json", "result.json"])
def test_another_schema_is_refused_with_a_word_and_not_called_damaged(store: Store, name: str, version: int) -> None:
    folder = finish(store)
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(value | {"schema_version": version}))
    result = json.loads((folder / "result.json").read_text())
    if name in result["files"]:  # as the other version would have sealed it
        result["files"][name] = sha256_file(folder / name)
        result.pop("checksum")
        (folder / "result.json").write_text(json.dumps(result | {"checksum": sha256_json(result)}))
    with pytest.raises(UserError, match=rf"{name} has schema_version {version}; this version of the bench reads"):
        store.load(IDS)
    assert folder.exists()


def test_a_store_of_an_older_layout_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match=r"ids and the layout of a store have changed since. Give a new store.root"):
        Store(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_newer_suites_and_costs_are_refused(store: Store) -> None:
    store.write_efficiency("k", {"method": "toy", "schema_version": 99})
    with pytest.raises(UserError, match=r"k\.json has schema_version 99"):
        store.efficiency()
    folder = store.start_suite("s", "name: s\n", [])
    (folder / "trials.json").write_text(json.dumps({"trials": []}))
    with pytest.raises(UserError, match=r"trials\.json has schema_version None"):
        store.suites()


def test_a_trial_that_is_not_there(store: Store) -> None:
    assert store.result(IDS) is None
    assert store.status(TRIAL) == TrialState("pending")
    with pytest.raises(UserError, match=f"There is no trial {TRIAL}"):
        store.load(IDS)


def test_a_new_try_keeps_the_checkpoint_and_discarding_forgets_all(store: Store) -> None:
    folder = store.start_trial(SPEC)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "training.pt").write_bytes(b"x")
    store.write_status(TRIAL, "running", epoch=3)
    store.start_trial(SPEC)
    assert (folder / "checkpoint" / "training.pt").read_bytes() == b"x"
    assert store.status(TRIAL).epoch == 3
    store.discard_trial(IDS)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    store.discard_trial(IDS)


def test_discarding_leaves_what_other_runs_predicted_by_the_same_weights(store: Store) -> None:
    finish(store)
    other = replace(SPEC, inference=replace(SPEC.predicted, batch_size=99))
    assert other.ids.training == TRIAL and other.ids.prediction != IDS.prediction
    finished_trial(store, other, samples())
    store.discard_trial(IDS)
    assert store.ids_of(TRIAL) == [other.ids]
    assert (store.measurement_folder(other.ids) / "samples.parquet").exists()


def test_costs_and_suites_come_back(store: Store) -> None:
    store.write_efficiency("key1", {"method": "toy", "gmacs": 1.5})
    assert store.efficiency() == [{"key": "key1", "schema_version": 2, "method": "toy", "gmacs": 1.5}]
    entry = TrialEntry.of(SPEC)
    first = store.start_suite("s", "name: s\nseeds: [0]\n", [entry])
    second = store.start_suite("s", "name: s\n", [])
    assert first != second  # within one second, too
    records = store.suites()
    assert [record.folder for record in records] == [first, second]
    assert (records[0].name, records[0].config["seeds"], records[0].trials) == ("s", [0], [entry])


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "read-only"), (errno.ENOSPC, "disk is full")])
def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(self: Path, *args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=words):
        Store(tmp_path / "runs").prepare()


def test_a_store_whose_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="a file stands where a folder is needed"):
        Store(tmp_path / "runs").prepare()


HOLD = """
import sys
from harness.store.store import Store
from harness.store.trial_state import TrialState
with Store(sys.argv[1]).exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_and_names_the_holder_of_the_store(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"in use by process {other.pid} on .* since .*store\.root="),
            store.exclusive(),
        ):
            pytest.fail("two runs hold one store")
        # A killed run leaves no lock, though its note about the holder is still there.
        other.kill()
        other.wait()
    assert (store.root / "run.holder.json").exists()
    with store.exclusive():
        assert json.loads((store.root / "run.holder.json").read_text())["pid"] == os.getpid()
    assert not (store.root / "run.holder.json").exists()


def test_the_store_is_free_again_after_a_run_that_failed(store: Store) -> None:
    with pytest.raises(RuntimeError, match="run failed"), store.exclusive():
        raise RuntimeError("run failed")
    with store.exclusive():
        pass

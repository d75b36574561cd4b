"""References that all methods disagree with alike are found; difficult images and cheating methods are not taken for them."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.specs import trial_spec
from support.stores import finished_trial

from harness.cli import data
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.evaluation.label_noise import doubtful_references
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial_spec import TrialIds


@pytest.fixture
def dataset(shared_dataset: Path) -> Dataset:
    return Dataset.open(shared_dataset)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def run_of(store: Store, dataset: Dataset, method: str, masks: dict[str, np.ndarray], **card: object) -> TrialIds:
    """A finished trial of the method with these masks."""
    spec = trial_spec(
        method={"name": method, "model": {"_target_": f"a.{method}"}, "card": {"title": method, **card}},
        split={"test": sorted(masks), "train": ["x/y/z"]},
        data={"root": str(dataset.root), "name": "d"},
    )
    rows = pd.DataFrame({"key": sorted(masks), "role": "test", "dice": 0.5})
    finished_trial(store, spec, rows, masks={("test", key): mask for key, mask in masks.items()})
    return spec.ids


def test_the_wrong_reference_is_found_and_no_other(dataset: Dataset, store: Store) -> None:
    samples = dataset.by_key()
    wrong, right, hard, *_ = sorted(samples)
    random = np.random.default_rng(0)
    trials = []
    for number, method in enumerate(("unet", "fpn", "pan")):
        truth = {key: read_mask(samples[key].mask) for key in (wrong, right, hard)}
        masks = {
            right: truth[right],
            wrong: np.roll(~truth[wrong], number, axis=0),
        }  # agree, and not with the reference
        masks[hard] = random.random(truth[hard].shape) < 0.1  # agree with nobody
        trials.append(run_of(store, dataset, method, masks))
    found = doubtful_references(store, trials, samples)
    assert [doubt.sample.key for doubt in found] == [wrong]
    assert found[0].methods == 3 and found[0].agreement > 0.8 and found[0].dice < 0.4


def test_two_methods_and_cheats_are_no_jury(dataset: Dataset, store: Store) -> None:
    samples = dataset.by_key()
    key = min(samples)
    masks = {key: ~read_mask(samples[key].mask)}
    trials = [run_of(store, dataset, name, masks) for name in ("unet", "fpn")]
    trials.append(run_of(store, dataset, "prompted", masks, prompt="oracle box"))
    trials.append(run_of(store, dataset, "mean_mask", masks, trivial_baseline=True))
    with pytest.raises(UserError, match=r"at least 3 learned methods .*, found 2"):
        doubtful_references(store, trials, samples)
    trials.append(run_of(store, dataset, "pan", masks))
    assert len(doubtful_references(store, trials, samples)) == 1


def test_the_command_writes_a_table_and_pictures(
    dataset: Dataset, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = dataset.by_key()
    key = min(samples)
    for name in ("unet", "fpn", "pan"):
        run_of(store, dataset, name, {key: ~read_mask(samples[key].mask)})
    specs = [store.spec(ids) for trial in store.trial_ids() for ids in store.ids_of(trial)]
    store.start_suite("s", "name: s\n", [TrialEntry.of(spec) for spec in specs])
    parser = argparse.ArgumentParser()
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", "label-noise", "--store", str(store.root), "--out", str(tmp_path / "out")])
    assert args.run(args) == 0
    assert "1 references to look at" in capsys.readouterr().out
    (row,) = csv.DictReader((tmp_path / "out/doubts.csv").open(newline=""))
    assert row["key"] == key and float(row["agreement"]) == 1.0
    picture = Image.open(tmp_path / "out" / row["picture"])
    assert picture.width > 3 * samples[key].width and picture.height == samples[key].height

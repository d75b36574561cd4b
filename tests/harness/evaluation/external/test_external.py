"""Masks of other tools: read from any format, matched by name, measured as our own, holes left open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from harness.cli import main
from harness.config import MetricsConfig, ProtocolConfig
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.evaluation.external import evaluate_external, match_masks, read_external_mask
from harness.evaluation.external.card import read_description
from harness.protocols.rules import make_splits
from harness.protocols.split import Split
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial import TrialContext, run_trial

# As SimpleITK writes pictures: columns to the left, rows to the back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MASK = np.zeros((5, 8), bool)
MASK[1:3, 2:7] = True


def save(path: Path, mask: np.ndarray, how: str = "png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(f"{path.name}.{how.split('-')[0]}")
    if how == "npz":
        np.savez_compressed(path, mask=mask)
    elif how == "npy":
        np.save(path, mask[None])
    elif how.startswith("nii"):
        nibabel.save(nibabel.Nifti1Image(mask.T[:, :, None].astype(np.uint8), LPS), path)
    else:
        Image.fromarray(mask.astype(np.uint8) * (1 if how.endswith("-1") else 255)).save(path)
    return path


@pytest.mark.parametrize("how", ["png", "png-1", "tif", "bmp", "nii", "nii.gz", "npz", "npy"])
def test_every_format_gives_the_same_mask(tmp_path: Path, how: str) -> None:
    assert np.array_equal(read_external_mask(save(tmp_path / "a.b", MASK, how)), MASK)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 1, 2]], np.uint8), "found the values 0, 1, 2"),
        (np.array([[0.1, 0.9]]), "found the values 0.1, 0.9"),
        (np.zeros((3, 4, 5), np.uint8), r"expected one mask of two axes, found an array of shape \(3, 4, 5\)"),
    ],
)
@pytest.mark.parametrize("how", ["npz", "nii"])
def test_what_is_no_binary_mask_is_refused(tmp_path: Path, values: np.ndarray, said: str, how: str) -> None:
    path = tmp_path / f"a.{how}"
    if how == "npz":
        np.savez(path, values)
    else:
        nibabel.save(nibabel.Nifti1Image(values, LPS), path)
    with pytest.raises(UserError, match=said):
        read_external_mask(path)


def test_words_are_no_mask(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.array([["a", "b"]]))
    with pytest.raises(UserError, match="expected numbers"):
        read_external_mask(tmp_path / "a.npz")


def test_damaged_and_unclear_files_are_named(tmp_path: Path) -> None:
    for name in ("a.npz", "a.npy", "a.nii.gz", "a.tif"):
        (tmp_path / name).write_bytes(b"no mask")
        with pytest.raises(UserError, match=f"{name}: expected"):
            read_external_mask(tmp_path / name)
    np.savez(tmp_path / "two.npz", first=MASK, second=MASK)
    with pytest.raises(UserError, match="found first, second"):
        read_external_mask(tmp_path / "two.npz")
    np.savez(tmp_path / "named.npz", probabilities=MASK * 0.5, segmentation=MASK)
    assert np.array_equal(read_external_mask(tmp_path / "named.npz"), MASK)


SPLITS = [
    Split("fold0", ("x/b/3",), ("x/b/4",), ("x/a/1", "x/a/2"), ("x/a",)),
    Split("fold1", ("x/a/1",), ("x/a/2",), ("x/b/3", "x/b/4"), ("x/b",)),
]


@pytest.mark.parametrize("flat", [False, True])
def test_one_set_of_masks_serves_every_split(tmp_path: Path, flat: bool) -> None:
    for key in ("x/a/1", "x/a/2", "x/b/3", "x/c/9"):
        save(tmp_path / (key.rpartition("/")[2] if flat else key), MASK)
    (tmp_path / "dataset.json").write_text("{}")
    masks = match_masks(tmp_path, SPLITS)
    assert not masks.per_split
    assert {name: sorted(files) for name, files in masks.files.items()} == {
        "fold0": ["x/a/1", "x/a/2"],
        "fold1": ["x/b/3"],
    }
    assert masks.missing == {"fold1": ["x/b/4"]}
    assert [path.stem for path in masks.extra] == ["9"]


def test_a_set_for_each_split_may_hold_validation_images(tmp_path: Path) -> None:
    for name in ("fold0/x/a/1", "fold0/2", "fold0/4", "fold1/x/b/3", "fold1/x/b/4", "stray"):
        save(tmp_path / name, MASK)
    masks = match_masks(tmp_path, SPLITS)
    assert masks.per_split
    assert sorted(masks.files["fold0"]) == ["x/a/1", "x/a/2", "x/b/4"]
    assert sorted(masks.files["fold1"]) == ["x/b/3", "x/b/4"]
    assert masks.missing == {}
    assert [path.name for path in masks.extra] == ["stray.png"]


def test_unclear_names_are_refused(tmp_path: Path) -> None:
    splits = [Split("fold0", (), (), ("x/a/1", "x/b/1"), ())]
    save(tmp_path / "flat" / "1", MASK)
    with pytest.raises(UserError, match=r"fits 2 images \(x/a/1, x/b/1\).*flat/x/a/1\.png"):
        match_masks(tmp_path / "flat", splits)
    save(tmp_path / "twice" / "x" / "a" / "1", MASK)
    save(tmp_path / "twice" / "x" / "a" / "1", MASK, "npz")
    with pytest.raises(UserError, match=r"one mask for x/a/1, found .*1\.npz and .*1\.png"):
        match_masks(tmp_path / "twice", splits)
    save(tmp_path / "other" / "case7_pred", MASK)
    with pytest.raises(UserError, match=r"None of the 1 masks.*other/x/a/1\.png.*case7_pred\.png"):
        match_masks(tmp_path / "other", splits)
    with pytest.raises(UserError, match="found nothing"):
        match_masks(tmp_path / "nowhere", splits)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found none"):
        match_masks(tmp_path / "empty", splits)
    (tmp_path / "empty/1.mha").touch()
    with pytest.raises(UserError, match=r"found 1 file of \.mha \(for example 1\.mha\)"):
        match_masks(tmp_path / "empty", splits)


@pytest.mark.parametrize(("given", "meant"), [("set/x", "set"), (".", "set"), ("set", None)])
def test_a_folder_above_or_below_the_masks_is_answered_with_theirs(
    tmp_path: Path, given: str, meant: str | None
) -> None:
    splits = [Split("fold0", (), (), ("x/a/1", "x/b/1"), ())]
    save(tmp_path / "set/x/a/1", MASK)
    if meant is None:
        assert match_masks(tmp_path / given, splits).files == {"fold0": {"x/a/1": tmp_path / "set/x/a/1.png"}}
        return
    with pytest.raises(UserError, match=rf"Did you mean predictions={tmp_path / meant}\?"):
        match_masks(tmp_path / given, splits)


@pytest.fixture
def dataset(shared_dataset: Path) -> Dataset:
    return Dataset.open(shared_dataset)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "runs")
    made.prepare()
    return made


def keep(folder: Path, dataset: Dataset, store: Store, protocol: ProtocolConfig | None = None, **options: Any) -> Any:
    protocol = protocol or ProtocolConfig()
    splits = make_splits(dataset, protocol)
    return evaluate_external(
        match_masks(folder, splits), splits, dataset, store, name="other", card={"title": "Other"}, protocol=protocol,
        metrics=MetricsConfig(), data_name="small", **options,
    )  # fmt: skip


def copy_truth(dataset: Dataset, folder: Path) -> Path:
    for sample in dataset.samples:
        save(folder / sample.key, read_mask(sample.mask))
    return folder


def test_our_own_predictions_give_exactly_the_numbers_of_the_run(
    toy_plan: Callable[..., Any], store: Store, dataset: Dataset, tmp_path: Path
) -> None:
    suite = toy_plan("TinyConv")
    (trial,) = suite.trials
    context = TrialContext(store_root=str(store.root), cache_folder=str(tmp_path / "cache"))
    assert run_trial(trial, context)["state"] == "done"
    ours = store.load(trial.ids)
    kept = keep(store.prediction_folder(trial.ids) / "test", dataset, store, ProtocolConfig(max_folds=1))
    assert sorted(each.domain for each in kept) == sorted(trial.split.held_out)
    records = [store.load(each.ids) for each in kept]
    theirs = pd.concat([record.samples for record in records]).sort_values("key", ignore_index=True)
    wanted = ours.samples[ours.samples["role"] == "test"].sort_values("key", ignore_index=True)
    pd.testing.assert_frame_equal(theirs, wanted[theirs.columns], check_exact=True)
    assert 0 < theirs["dice"].mean() < 1
    for record in records:
        assert record.spec.is_external
        assert record.spec.split.fingerprint == trial.split.fingerprint
        for key in record.spec.split.test:
            picture = store.mask(record.ids, "test", key)
            assert np.array_equal(read_mask(picture), read_mask(store.mask(trial.ids, "test", key)))


def test_a_domain_with_a_hole_has_no_result_and_says_why(dataset: Dataset, store: Store, tmp_path: Path) -> None:
    folder = copy_truth(dataset, tmp_path / "masks")
    hole = dataset.samples[0].key
    (folder / f"{hole}.png").unlink()
    kept = keep(folder, dataset, store)
    holed = [each for each in kept if each.missing]
    assert [(each.domain, each.missing, each.images) for each in holed] == [(hole.rpartition("/")[0], 1, 4)]
    status = store.load(holed[0].ids).status
    assert (status.state, status.reason) == ("failed", f"1 of 4 masks of {holed[0].domain} are missing: {hole}")
    for each in kept:
        record = store.load(each.ids)
        assert (record.result is None) == bool(each.missing)
        if record.samples is not None:
            assert (record.samples["dice"] == 1).all() and set(record.samples["key"]) == set(record.spec.split.test)
    # The same masks are the same trials; the missing one added makes a new one of its domain only.
    assert keep(folder, dataset, store) == kept
    copy_truth(dataset, folder)
    again = keep(folder, dataset, store)
    assert sum(a.ids != b.ids for a, b in zip(kept, again, strict=True)) == 1
    assert all(store.result(each.ids) for each in again)


def test_one_bad_mask_keeps_nothing_and_all_bad_ones_are_listed(dataset: Dataset, store: Store, tmp_path: Path) -> None:
    folder = copy_truth(dataset, tmp_path / "masks")
    tall = next(sample for sample in dataset.samples if sample.height != sample.width)
    save(folder / tall.key, read_mask(tall.mask).T)
    other = next(sample for sample in dataset.samples if sample is not tall)
    Image.fromarray(np.full((other.height, other.width), 7, np.uint8)).save(folder / f"{other.key}.png")
    with pytest.raises(UserError) as error:
        keep(folder, dataset, store)
    text = str(error.value)
    assert "2 masks can't be used, nothing was kept" in text
    assert f"expected {tall.width} x {tall.height} pixels" in text and "rows and columns seem to be exchanged" in text
    assert "found the values 7" in text
    assert store.trial_ids() == []


def test_validation_masks_of_each_split_become_validation_rows(dataset: Dataset, store: Store, tmp_path: Path) -> None:
    for split in make_splits(dataset, ProtocolConfig()):
        for key in (*split.test, *split.validation):
            save(tmp_path / "masks" / split.name / key, read_mask(dataset.by_key()[key].mask))
    kept = keep(tmp_path / "masks", dataset, store)
    roles = pd.concat([store.load(each.ids).samples for each in kept])["role"].value_counts()
    splits = make_splits(dataset, ProtocolConfig())
    assert roles["test"] == sum(len(split.test) for split in splits)
    assert roles["validation"] == sum(len(split.validation) for split in splits) > 0


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_: None)


def test_the_command_joins_the_run_of_the_same_splits(
    toy_config: Callable[..., Any],
    dataset: Dataset,
    tmp_path: Path,
    no_report: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dataclasses import asdict

    from harness.planning.plan import build_plan

    config = toy_config("TinyConv")
    store = Store(config.store.root)
    store.prepare()
    suite = build_plan(config)
    (trial,) = suite.trials
    store.start_trial(trial)
    entry = TrialEntry.of(trial)
    store.start_suite("toys", yaml.safe_dump(asdict(config)), [entry])
    folder = copy_truth(dataset, tmp_path / "masks")
    words = [f"predictions={folder}", "name=nnunet", f"data.root={dataset.root}", f"store.root={store.root}"]
    command = ["evaluate", *words, "protocol.max_folds=1", "card.title=nnU-Net v2", "costs.gmacs=5.5"]
    assert main(command) == 0
    joined = store.suites()[-1]
    assert joined.name == "toys" and joined.trials[0] == entry
    assert [each.method for each in joined.trials[1:]] == ["nnunet"] * 2
    assert joined.config["methods"]["nnunet"]["card"]["title"] == "nnU-Net v2"
    (costs,) = store.efficiency()
    assert (costs["method"], costs["gmacs"], costs["stated"]) == ("nnunet", 5.5, True)
    assert "masks belong to no image of the test sets" in capsys.readouterr().err
    # Again: its entries are replaced, not doubled. With other splits it stands alone.
    assert main(command) == 0
    assert len(store.suites()[-1].trials) == 3
    assert main(["evaluate", *words]) == 0
    (alone,) = (record for record in store.suites() if record.name == "external")
    assert len(alone.trials) == 6
    assert main([*command, "name=tinyconv"]) == 2
    assert "has trials of a method of that name" in capsys.readouterr().err


def test_missing_masks_are_listed_and_fail_the_command(
    dataset: Dataset, tmp_path: Path, no_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_truth(dataset, tmp_path / "masks")
    shutil.rmtree(folder / "ultrasound" / "scanner_b")
    words = [f"predictions={folder}", "name=nnunet", f"data.root={dataset.root}", f"store.root={tmp_path / 'runs'}"]
    assert main(["evaluate", *words]) == 1
    said = capsys.readouterr().err
    assert "ultrasound/scanner_b: 4 of 4" in said and "ultrasound/scanner_b/case_0" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["name=a"], "predictions= is missing"),
        (["predictions=x"], "name= is missing"),
        (["prediction=x", "name=a"], r"predictions= is missing.*Found prediction=x"),
        (["predictions=x", "name=a"], "data.root=... is missing"),
        (["predictions=x", "name=a", "seed=0", "seed=1"], "seed= is given twice, 0 and 1"),
        (["predictions=x", "name=a", "method=unet"], "trains nothing"),
        (["predictions=x", "name=a", "card.titel=b"], "Did you mean 'title'"),
        (["predictions=x", "name=a", "costs.gmacs=many"], "expected a number"),
        (["predictions=x", "name=a", "costs.throughput_images_per_second=9"], "without its machine"),
        (
            ["predictions=x", "name=a", "card.prompt=box"],
            "card.prompt=box is unknown: expected one of none, oracle box",
        ),
        (["predictions=x", "name=a", "about=nowhere.yaml"], "about=nowhere.yaml: expected a YAML file, found nothing."),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert main(["evaluate", *words]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_description_in_a_file_and_words_that_win(tmp_path: Path) -> None:
    (tmp_path / "about.yaml").write_text("card: {title: A, paper: P}\ncosts: {gmacs: 2, device: A100}\n")
    found = read_description("tool", str(tmp_path / "about.yaml"), {"card.title": "B", "card.pretrained_on": "[ph2]"})
    assert (found.card["title"], found.card["paper"], found.card["licence"]) == ("B", "P", "not stated")
    assert found.card["pretrained_on"] == ["ph2"]
    assert found.cost_row("tool")[1]["device"] == "A100"

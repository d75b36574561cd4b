"""An earlier submission in a new one: seeds of a method stand together, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.submissions import packed, tampered, write_lab

from harness.cli import main
from harness.errors import UserError
from harness.store.store import Store
from harness.submissions.guard import Verdict
from harness.submissions.layout import METRICS, Submission
from harness.submissions.reading import parse_submission, read_submission
from reports.submissions.entries import Entry
from reports.submissions.rankings import build_rankings


@pytest.fixture(scope="module")
def old(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Seed 0 of the U-Net, and Otsu."""
    return packed(write_lab(tmp_path_factory.mktemp("old"), data, {"unet": 2, "otsu": 5})).content


@pytest.fixture(scope="module")
def new(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Seed 1 of the U-Net, and a network that the earlier file lacks."""
    return write_lab(tmp_path_factory.mktemp("new"), data, {"unet": 2, "fpn": 3}, seeds=[1])


def numbers(submission: Submission) -> pd.DataFrame:
    """Of each method, split, seed, role and image: in any order of trials."""
    labels = [(each.spec.method.name, each.spec.split.name, each.spec.seed) for each in submission.trials]
    found = pd.DataFrame([labels[at] for at in submission.images["trial"]], columns=["method", "split", "seed"])
    keys = [*found, "role", "key"]
    return pd.concat([found, submission.images], axis=1).set_index(keys)[list(METRICS)].sort_index()


def test_it_is_what_one_run_of_all_would_have_packed(old: bytes, new: Store, data: Path, tmp_path: Path) -> None:
    joined = packed(new, earlier=("old.zip", old))
    found = parse_submission(joined.content)
    alone = [numbers(parse_submission(content)) for content in (old, packed(new).content)]
    pd.testing.assert_frame_equal(numbers(found), pd.concat(alone).sort_index())
    both = write_lab(tmp_path / "both", data, {"unet": 2}, seeds=[0, 1])
    of_unet = numbers(found).loc[["unet"]]
    pd.testing.assert_frame_equal(of_unet, numbers(parse_submission(packed(both).content)))
    assert joined.methods == ["Unet", "Fpn", "Otsu"]
    assert (joined.trials, joined.rows, joined.masks) == (12, len(found.images), len(found.images))
    assert found.predictions is not None and len(found.predictions) == joined.masks
    assert len(found.manifest["splits"]) == 3  # type: ignore[arg-type]


def test_seeds_of_a_method_are_one_row(old: bytes, new: Store) -> None:
    content = packed(new, earlier=("old.zip", old), with_masks=False).content
    entry = Entry("all.zip", "", Verdict("unverified", "", parse_submission(content)))
    (ranking,), _ = build_rankings([entry])
    seeds = {
        facts.origin: {trial.seed for trial in ranking.records.trials_of(name)}
        for name, facts in ranking.records.methods.items()
    }
    assert seeds == {"unet": {0, 1}, "fpn": {1}, "otsu": {0}}


def test_files_grow_seed_by_seed(old: bytes, new: Store, data: Path, tmp_path: Path) -> None:
    second = packed(new, earlier=("old.zip", old)).content
    assert second == packed(new, earlier=("old.zip", old)).content
    store = write_lab(tmp_path, data, {"unet": 2, "otsu": 5}, seeds=[2])
    third = parse_submission(packed(store, earlier=("second.zip", second)).content)
    seeds = {name: set[int]() for name in ("unet", "otsu", "fpn")}
    for trial in third.trials:
        seeds[trial.spec.method.name].add(trial.spec.seed)
    assert seeds == {"unet": {0, 1, 2}, "otsu": {0, 2}, "fpn": {1}}


def test_methods_of_one_name_in_a_file_are_refused(old: bytes, new: Store) -> None:
    """Which of them has which seeds could not be said, and numbers of one would stand under the other."""

    def rename(manifest: dict[str, Any]) -> None:
        for method in manifest["methods"]:
            method["name"] = "small"

    with pytest.raises(UserError, match=r"^old.zip: expected each method once, found several named small"):
        packed(new, earlier=("old.zip", tampered(old, manifest=rename)))


def test_methods_of_one_title_are_told_apart(old: bytes, new: Store) -> None:
    def retitle(manifest: dict[str, Any]) -> None:
        manifest["methods"][1]["card"]["title"] = "FPN"

    assert packed(new, earlier=("old.zip", tampered(old, manifest=retitle))).methods == ["Unet", "Fpn", "FPN (otsu)"]


def test_a_method_with_other_rights_is_another(old: bytes, new: Store) -> None:
    def prompted(manifest: dict[str, Any]) -> None:
        manifest["methods"][0]["card"]["prompt"] = "oracle box"

    with pytest.raises(
        UserError, match=r"same card of unet as in this run, \{'prompt': 'none'\}, found \{'prompt': 'oracle box'\}"
    ):
        packed(new, earlier=("old.zip", tampered(old, manifest=prompted)))


def test_costs_that_the_run_did_not_count_are_the_earlier_ones(old: bytes, new: Store) -> None:
    def counted(manifest: dict[str, Any]) -> None:
        manifest["methods"][0]["costs"] = {"parameters_total": 7}

    found = parse_submission(packed(new, earlier=("old.zip", tampered(old, manifest=counted))).content)
    costs = {method["name"]: method["costs"] for method in found.manifest["methods"]}  # type: ignore[attr-defined]
    assert costs["unet"] == {"parameters_total": 7} and "parameters_total" not in costs["fpn"]


def test_places_of_files_and_folders_do_not_matter(old: bytes, new: Store) -> None:
    def moved(manifest: dict[str, Any]) -> None:
        manifest["data"]["name"] = "elsewhere"

    assert parse_submission(packed(new, earlier=("old.zip", tampered(old, manifest=moved))).content)


def test_a_trial_that_both_have_is_refused(old: bytes, data: Path, tmp_path: Path) -> None:
    store = write_lab(tmp_path, data, {"unet": 2}, seeds=[0, 1])
    with pytest.raises(
        UserError, match=r"The run and old.zip both have unet on fold0, seed 0. Choose .* --method or --seed"
    ):
        packed(store, earlier=("old.zip", old))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 3}, r"same training of unet as in this run, \{'epochs': 3\}, found \{'epochs': 2\}"),
        ({"version": 2}, r"same version of unet as in this run, 2, found 1"),
        (
            {"metrics": {"empty": "nan"}},
            r"same metrics as in this run, \{'empty': 'nan'\}, found \{'empty': 'diagonal'\}",
        ),
    ],
)
def test_seeds_that_were_made_otherwise_are_refused(
    changes: dict[str, Any], said: str, old: bytes, data: Path, tmp_path: Path
) -> None:
    store = write_lab(tmp_path, data, {"unet": 2}, seeds=[1], **changes)
    with pytest.raises(UserError, match=rf"^old.zip: expected the {said}. Submit them as two files."):
        packed(store, earlier=("old.zip", old))


def test_other_images_of_the_same_names_are_refused(old: bytes, new: Store) -> None:
    def other(manifest: dict[str, Any]) -> None:
        for split in manifest["splits"]:
            split["content"]["test"]["images"] = "0" * 64

    with pytest.raises(UserError, match=r"^old.zip: fold0, fold1, fold2 had other images there than in this run"):
        packed(new, earlier=("old.zip", tampered(old, manifest=other)))


def test_masks_are_in_both_or_in_none(data: Path, new: Store, old: bytes, tmp_path: Path) -> None:
    bare = packed(write_lab(tmp_path, data, {"unet": 2}), with_masks=False).content
    with pytest.raises(UserError, match=r"bare.zip holds no masks: pack numbers alone, with --without-masks"):
        packed(new, earlier=("bare.zip", bare))
    for earlier in (bare, old):
        joined = packed(new, earlier=("some.zip", earlier), with_masks=False)
        assert joined.masks == 0 and parse_submission(joined.content).predictions is None


def test_the_command(old: bytes, new: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "old.zip", tmp_path / "all.zip"
    file.write_bytes(old)
    words = ["submit", f"store.root={new.root}", "--out", str(out), "--method", "unet"]
    assert main([*words, "--add", str(file)]) == 0
    assert {trial.spec.seed for trial in read_submission(out).trials} == {0, 1}
    assert "methods: Unet, Otsu" in capsys.readouterr().out
    assert main([*words, "--add", str(tmp_path / "older.zip")]) == 2
    assert "older.zip: expected a file that `python -m harness submit` wrote, found" in capsys.readouterr().err
    assert main([*words, "--seed", "7"]) == 2


def test_a_method_without_the_chosen_seed_is_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_lab(tmp_path / "one", data, {"unet": 2}, seeds=[0, 1])
    other = write_lab(tmp_path / "two", data, {"otsu": 5})
    words = ["submit", "--store", str(store.root), "--store", str(other.root), "--out", str(tmp_path / "some.zip")]
    assert main([*words, "--seed", "1"]) == 0
    assert "Left out of the run: Otsu: it has no trial with the chosen seeds." in capsys.readouterr().err
    assert {trial.spec.method.name for trial in read_submission(tmp_path / "some.zip").trials} == {"unet"}

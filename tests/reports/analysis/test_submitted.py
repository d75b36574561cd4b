"""A submission stands in a report as grey rows, with its start and its prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.submissions import packed, write_lab

from harness.errors import UserError
from harness.store.store import Store
from reports.analysis.submitted import submitted_results
from reports.build import build_report_of
from reports.records.runs import find_suite, read_runs
from reports.tables.leaderboard import build_leaderboard

CARDS = {
    "boxed": {"prompt": "oracle box", "start": "medical images", "pretrained": "MedSAM"},
    "unet": {"start": "scratch"},
}


@pytest.fixture(scope="module")
def store(shared_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_lab(tmp_path_factory.mktemp("lab"), shared_dataset, {"unet": 3, "boxed": 1}, cards=CARDS)


@pytest.fixture(scope="module")
def file(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "ours.zip"
    path.write_bytes(packed(store, name="Our lab", with_masks=False).content)
    return path


def test_numbers_are_the_means_of_the_images(store: Store, file: Path) -> None:
    found = {(one.method, one.modality, one.domain): one.value for one in submitted_results(file)}
    samples = read_runs([(store, find_suite(store))]).samples
    unet = samples[(samples["method"] == "unet") & (samples["role"] == "test")]
    own = unet.assign(modality=unet["key"].str.split("/").str[0], domain=unet["key"].str.split("/").str[1])
    means = own.groupby(["modality", "domain"])["dice"].mean()
    title = "Unet [from scratch]"
    assert {place: found[title, *place] for place in means.index} == pytest.approx(means.to_dict())
    for modality, value in means.groupby("modality").mean().items():
        assert found[title, modality, None] == pytest.approx(value)


def test_start_prompt_and_source_are_said(file: Path) -> None:
    found = submitted_results(file)
    assert {one.method for one in found} == {"Unet [from scratch]", "Boxed, oracle box [medical-image start]"}
    assert {one.source for one in found} == {"Our lab, leave_one_domain_out, ours.zip"}


@pytest.mark.usefixtures("without_figures")
def test_a_report_shows_them_and_ranks_them_not(store: Store, file: Path, tmp_path: Path) -> None:
    run = (store, find_suite(store))
    paths = build_report_of([run], tmp_path / "with", published=[file])
    page = paths.html.read_text("utf-8")
    assert "Boxed, oracle box [medical-image start]" in page and "Our lab, leave_one_domain_out, ours.zip" in page
    assert "Published rows come from a file that submit wrote" in page and "what papers report" not in page
    assert list(paths.board.table["method"]) == list(build_leaderboard(read_runs([run])).table["method"])


@pytest.mark.usefixtures("without_figures")
def test_several_files_stand_in_one_report(store: Store, file: Path, tmp_path: Path) -> None:
    """A paper's numbers and two files of `submit`: each row has its own source, and the same one twice is refused."""
    other, paper = tmp_path / "theirs.zip", tmp_path / "paper.yaml"
    other.write_bytes(file.read_bytes())
    entry = {
        "method": "Paper",
        "modality": "ultrasound",
        "metric": "dice",
        "value": 0.9,
        "source": "Doe 2020",
        "page": "2",
    }
    paper.write_text(yaml.safe_dump({"results": [entry]}), "utf-8")
    run = (store, find_suite(store))
    page = build_report_of([run], tmp_path / "with", published=[file, other, paper]).html.read_text("utf-8")
    for source in (
        "Our lab, leave_one_domain_out, ours.zip",
        "Our lab, leave_one_domain_out, theirs.zip",
        "Doe 2020, p. 2",
    ):
        assert source in page
    assert "Those with a page of a paper are what papers report" in page and "The others come from a file" in page
    with pytest.raises(
        UserError, match=r"ours\.zip and .*ours\.zip both have Unet \[from scratch\] on .*: give one of them"
    ):
        build_report_of([run], tmp_path / "twice", published=[file, file])


def test_what_is_no_submission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.zip").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="zip"):
        submitted_results(tmp_path / "other.zip")
    with pytest.raises(UserError, match="found nothing"):
        submitted_results(tmp_path / "missing.zip")

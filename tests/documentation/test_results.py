"""What the project publishes is sound, holds no picture, and is what the page shows."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from docs.generated import expand
from docs.result_pages import FOLDER, result_differences
from harness.submissions.reading import read_submission
from reports.analysis.submitted import submitted_results

from .pages import PAGES

FILES = sorted(FOLDER.glob("*.zip"))


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_file_is_sound_and_small(path: Path) -> None:
    submission = read_submission(path)
    assert submission.predictions is None and path.stat().st_size < 2 * 2**20
    assert {trial.spec.data.name for trial in submission.trials} == {"real"}
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"\x89PNG" not in content and b"\xff\xd8\xff" not in content
    assert not re.search(rb"/(home|work|root|Users)/", content)


def test_the_page_shows_its_numbers() -> None:
    """The mean of each method over each domain, to three digits, stands in the tables that are made from the file."""
    marker = re.search(r"<!-- generated: results .*-->", PAGES["docs/results.md"])
    assert marker is not None
    page = expand(marker[0])
    (path,) = FILES
    for one in submitted_results(path):
        if one.domain is not None:
            assert f"{one.value:.3f}" in page, one
    assert "@" not in page


def test_the_page_says_where_its_numbers_come_from_and_shows_no_empty_costs() -> None:
    (path,) = FILES
    page = expand(f"<!-- generated: results {path.name} -->")
    costs, _, origin = page[page.index("### Costs") :].partition("### Where the numbers come from")
    assert "GMACs" in costs and "unknown device" not in costs
    header, _, *rows = [line.strip("|").split("|") for line in costs.splitlines() if line.startswith("|")]
    assert all({cells[at].strip() for cells in rows} != {"—"} for at in range(len(header)))
    trials = read_submission(path).trials
    for trial in trials:
        assert trial.provenance["code"]["commit"] in origin and trial.provenance["machine"]["processor"] in origin
    assert sum(map(int, re.findall(r"(\d+) trials \|", origin))) == len(trials)
    assert "unet: 0;" in origin and re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", origin)


def test_a_difference_is_that_of_the_means() -> None:
    (path,) = FILES
    means = {
        title: [one.value for one in submitted_results(path) if one.domain is not None and one.method.startswith(title)]
        for title in ("De-LightSAM (LiteMedSAM start) [", "U-Net (ResNet-18) [")
    }
    better, worse = (sum(values) / len(values) for values in means.values())
    row = result_differences(path.name, "delightsam_litemedsam/unet").splitlines()[-1]
    assert "[medical-image start]" in row and "[from scratch]" in row
    _, _, seeds, difference, *_ = row.split("|")
    assert difference.split()[0] == f"{better - worse:+.3f}"
    assert seeds.strip() == "1, 1"
    assert "| 1, 3 |" in result_differences(path.name, "delightsam_litemedsam/unet_imagenet")

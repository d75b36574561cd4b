"""What the project publishes is sound, holds no picture, and is what the page shows."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from docs.generated import expand
from docs.result_pages import FOLDER
from harness.submissions.reading import read_submission
from reports.analysis.submitted import submitted_results

from .pages import PAGES

FILES = sorted(FOLDER.glob("*.zip"))


def test_there_are_some() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_published_file_is_sound_and_small(path: Path) -> None:
    submission = read_submission(path)
    assert submission.predictions is None and path.stat().st_size < 2**20
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

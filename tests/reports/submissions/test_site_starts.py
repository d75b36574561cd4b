"""A site whose rows start unequally: each is marked, on every page, and the page says in words what that means."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.starts import CARDS, ROWS, Passages, unmarked
from support.submissions import packed, write_lab

from harness.submissions.guard import Verdict
from harness.submissions.reading import parse_submission
from reports.submissions.entries import Entry
from reports.submissions.site import Site, build_site

MOVED = {"delightsam": 1, "unet": 3, "unet_imagenet": 2}
"""Of each method's masks, in pixels: the row of medical start is first."""

# What a file holds, and what methods cost, is no comparison of results.
ALONE = ("submissions", "costs")


def site_of(root: Path, data: Path, methods: dict[str, int]) -> Site:
    cards = {
        name: {"pretrained": "none" if CARDS[name]["start"] == "scratch" else "weights", **CARDS[name]}
        for name in methods
    }
    content = packed(write_lab(root / "lab", data, methods, cards=cards), with_masks=False).content
    entry = Entry("a.zip", "2026-01-01 00:00 UTC", Verdict("unverified", "not recomputed", parse_submission(content)))
    return build_site([entry], root / "site")


@pytest.fixture(scope="module")
def mixed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(tmp_path_factory.mktemp("mixed"), data, MOVED)


def test_every_passage_of_every_page_has_the_starts(mixed: Site) -> None:
    together = 0
    for path in mixed.folder.rglob("*.html"):
        page = Passages()
        page.feed(path.read_text("utf-8"))
        for text in page.passages:
            assert not unmarked(text), (path.name, text)
            together += len([row for row in ROWS.values() if re.search(rf"\b{row[0]}\b", text)]) > 1
        for section, text in page.rows:
            for title, _, words, _ in ROWS.values():
                if re.search(rf"\b{title}\b", text) and section not in ALONE:
                    assert any(word in text for word in words), (path.name, section, text)
    assert together


def test_index_and_dataset_say_in_words_that_starts_differ(mixed: Site) -> None:
    for path in (mixed.index, *(mixed.folder / "datasets").glob("*.html")):
        text = path.read_text("utf-8")
        assert "Unequal starts (" in text and "compare within equal starts" in text, path.name
    document = json.loads((mixed.folder / "leaderboard.json").read_text("utf-8"))
    (ranking,) = document["rankings"]
    found = {row["title"]: (row["start"], row["rank_in_start"]) for row in ranking["methods"]}
    assert found == {ROWS[name][0]: (ROWS[name][1], "1") for name in MOVED}


def test_equal_starts_have_no_mark(data: Path, tmp_path: Path) -> None:
    alike = site_of(tmp_path, data, {"unet": 3, "deeplab": 2})
    assert not any("nequal starts" in path.read_text("utf-8") for path in alike.folder.rglob("*.html"))

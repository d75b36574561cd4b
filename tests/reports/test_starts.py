"""Rows of unequal starts never stand side by side without a mark: on the page, in tables, figures and sentences."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support.starts import CARDS, ROWS, Passages, unmarked

from reports.build import ReportPaths, build_report
from tests.reports.simulated_store import Simulated, write_store


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return write_store(tmp_path_factory.mktemp("mixed"), faults={("deeplab", 1): "failed"}, cards=CARDS)


@pytest.fixture(scope="module")
def mixed_report(mixed: Simulated, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(mixed.root, mixed.suite, tmp_path_factory.mktemp("mixed_report"))


# What a method costs, and what became of its trials, is no comparison of results.
ALONE = ("costs", "failures-holes", "provenance")


def test_every_row_of_the_page_has_its_start(mixed_report: ReportPaths) -> None:
    page = Passages()
    html = mixed_report.html.read_text("utf-8")
    page.feed(re.sub(r'<h3 id="holes".*?</section>', "</section>", html, flags=re.DOTALL))
    seen: dict[str, set[str]] = {}
    for section, text in page.rows:
        for title, _, words, _ in ROWS.values():
            if re.search(rf"\b{title}\b", text) and section not in ALONE:
                assert any(word in text for word in words), (section, text)
                seen.setdefault(section, set()).add(title)
    assert {"ranking", "comparison", "domains", "domain-pages"} <= set(seen)
    assert all(len(seen[name]) == len(ROWS) for name in ("ranking", "domains", "domain-pages"))


def test_every_sentence_and_figure_of_the_page_has_the_starts(mixed_report: ReportPaths) -> None:
    page = Passages()
    page.feed(mixed_report.html.read_text("utf-8"))
    assert not [(text, found) for text in page.passages if (found := unmarked(text))]
    together = [text for text in page.figures if len([row for row in ROWS.values() if row[0] in text]) > 1]
    assert len(together) > 8
    assert not [(text, found) for text in together if (found := unmarked(text, figure=True))]
    captions = [text for text in page.passages if "unequal starts, see names" in text]
    assert any(text.startswith("Critical differences") for text in captions)


def test_the_page_says_it_in_words_and_can_be_filtered(mixed_report: ReportPaths) -> None:
    html = mixed_report.html.read_text("utf-8")
    assert "Unequal starts (" in html and "compare within equal starts" in html
    assert '<select name="start" data-filter>' in html and 'data-start="medical images"' in html
    assert html.count("unequal starts</abbr>") > 3
    notes = " ".join(mixed_report.board.notes)
    assert "this is not a comparison on equal terms" in notes
    assert "The highest macro Dice within each start" in notes


def test_the_other_tables_have_the_start_as_a_column(mixed_report: ReportPaths) -> None:
    wanted = {name: start for name, (_, start, _, _) in ROWS.items()} | {"otsu": "none"}
    table = {row["method"]: row for row in csv.DictReader(StringIO(mixed_report.csv.read_text("utf-8")))}
    assert {name: row["start"] for name, row in table.items()} == wanted
    assert table["delightsam"]["pretrained_on"] == "Screening"
    domains = csv.DictReader(StringIO(mixed_report.domains_csv.read_text("utf-8")))
    assert {(row["method"], row["start"]) for row in domains} == set(wanted.items())
    content = json.loads(mixed_report.json.read_text("utf-8"))
    assert {row["method"]: row["start"] for row in content["methods"]} == wanted
    assert any(not pair["equal_start"] for pair in content["pairs"])
    assert content["cautions"][-1].startswith("Unequal starts")
    for text in (mixed_report.latex.read_text("utf-8"), mixed_report.markdown.read_text("utf-8")):
        costs = text.find("## Costs")
        for line in text[: costs if costs > 0 else None].splitlines():
            for title, _, words, _ in ROWS.values():
                if re.search(rf"^(\||[\d–-]+ &).*\b{title}\b", line):
                    assert any(word in line for word in words), line
    assert "Starts differ (column Start)" in mixed_report.latex.read_text("utf-8")


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminal_shows_and_warns(width: int, mixed_report: ReportPaths) -> None:
    console = Console(width=width, file=StringIO(), color_system=None)
    mixed_report.print_table(console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Unequal starts (" in text
    table = text[text.index("Rank") :]
    header = table.splitlines()[0]
    assert "Start" in header and "scratch" in table and "medical" in table and "natural" in table
    assert header.index("Start") - header.index("Method") > len("De-LightSAM")  # whole words of names have room


def test_ranks_are_within_starts_as_well(mixed_report: ReportPaths) -> None:
    table = mixed_report.board.table.set_index("method")
    # Netto has the skill of Photo: overall behind Medic, within its start alone (Deepo is incomplete).
    assert table.loc["delightsam", "rank"] == "1" and table.loc["unet", "rank"] != "1"
    assert table.loc["unet", "rank_in_start"] == "1" and table.loc["delightsam", "rank_in_start"] == "1"
    assert table.loc["other", "rank_in_start"] is None and table.loc["deeplab", "rank_in_start"] is None


def test_the_mean_over_surely_unseen_domains_leaves_out_what_a_pretraining_may_hold(mixed_report: ReportPaths) -> None:
    board = mixed_report.board
    table = board.table.set_index("method")
    assert set(table["surely_unseen_domains"]) == {4}
    sure = board.domains[(board.domains["method"] == "unet") & ~board.domains["domain"].str.endswith("screening")]
    assert table.loc["unet", "surely_unseen"] == pytest.approx(sure["dice"].mean())
    assert table.loc["other", "surely_unseen"] is None or table["surely_unseen"].isna()["other"]
    assert [scope["title"] for scope in board.views["scopes"]][:2] == ["All domains", "Unlisted domains"]
    markdown = mixed_report.markdown.read_text("utf-8")
    assert "| Unlisted Dice |" in markdown and "possibly seen" in markdown[markdown.index("## Dice by domain") :]


@pytest.mark.usefixtures("without_figures")
def test_equal_starts_need_no_mark(make_store: Callable[..., Simulated], tmp_path: Path) -> None:
    cards = {name: CARDS[name] for name in ("unet", "deeplab", "otsu")}
    store = make_store(cards=cards, faults={})
    report = build_report(store.root, store.suite, tmp_path / "report")
    assert list(report.board.table["label"]) == list(report.board.table["title"])
    assert not any("start" in caution for caution in report.board.cautions)
    html = report.html.read_text("utf-8")
    assert "unequal starts" not in html.lower() and 'data-start="scratch"' in html
    assert {"start"} == {c.key for c in report.columns} & {"start", "rank_in_start", "surely_unseen"}

"""Page, CSV, Markdown and terminal: complete, escaped, small, and made without torch."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from support.specs import trial_spec

from harness.errors import UserError
from reports.build import ReportPaths, build_report
from tests.reports.simulated_store import CARDS, DOMAINS, split

pytestmark = pytest.mark.usefixtures("without_figures")
FEW = {name: CARDS[name] for name in ("unet", "otsu")}
EVIL = "<script>window.hacked=1</script>\"'&{{7*7}}$x$|`_*"
VOID = {"meta", "img", "br", "link", "input", "hr", "use", "path"}


class Checker(HTMLParser):
    """Balanced tags, unique ids, links that lead somewhere, and everything fetched from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.references: list[str] = []
        self.scripts = 0
        self.external: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [
            value[1:] for name, value in attrs if name in ("href", "xlink:href") and value and value[0] == "#"
        ]
        self.references += [str(values[name]) for name in ("aria-labelledby",) if name in values]
        for name in ("src", "href", "xlink:href", "action"):
            value = values.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.external.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
            self.open.pop()


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    return checker


def test_the_page_is_whole_and_needs_nothing_from_outside(report: ReportPaths) -> None:
    page = report.html.read_text("utf-8")
    checker = check(page)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.links) <= set(checker.ids) and set(checker.references) <= set(checker.ids)
    assert checker.external == [] and checker.scripts == 2
    assert not re.findall(r"url\((?!#)", page) and "@import" not in page


def test_the_page_says_what_is_missing_and_why(report: ReportPaths) -> None:
    page = report.html.read_text("utf-8")
    for text in ("2 of 12 trials have no result", "The loss became NaN in epoch 2 of 2.", "never begun", "no mean",
                 "possibly seen", "Ranked apart", "python -m harness run suite=simulated", trial_spec(split=split(1, DOMAINS)).split.fingerprint, "Test CPU",
                 "What the columns mean", "More metrics", "NSD (2 px)", "HD95 (max)", "Peak memory", "300 MiB", "p95 31 ms",
                 "batch 8", "otsu, trivial baseline", "boxed, ranked apart", "Dice against GMACs", "Learning curves", "Unseen Dice by domain"):  # fmt: skip
        assert text in page, text
    by_method = page[page.index("Worst, median and best") : page.index('id="side-by-side"')]
    assert by_method.count('<svg class="tile') == (3 * 6 + 3 * 6 + 3 * 4 + 3 * 4)
    # Each picture once, however many methods are shown on it.
    assert 18 <= page.count("data:image/webp;base64,") == page.count('<g id="picture-') <= 48
    assert report.html.stat().st_size < 8_000_000


def test_every_figure_has_words_and_the_colours_of_the_page(report: ReportPaths) -> None:
    page = report.html.read_text("utf-8")
    figures = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(figures) == 9 and all(len(text) > 60 for text in figures)
    assert "var(--ink)" in page and "#010203" not in page


def test_names_are_text_wherever_they_go(make_store: Callable[..., Any], tmp_path: Path) -> None:
    cards = {
        "evil<b>": {"title": EVIL, "prompt": "none", "pretrained_on": []},
        "long": {"title": "x" * 300, "prompt": "none", "pretrained_on": []},
        "rtl": {"title": "שלום \u202eabc", "prompt": '"><script>alert(1)</script>', "pretrained_on": []},
    }
    simulated = make_store(
        cards=cards, domains=("<script>hacked=2<script>", "b&amp;'\"", "c|d"), faults={("long", 1): "failed"}
    )
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    page = paths.html.read_text("utf-8")
    checker = check(page)
    assert checker.scripts == 2 and checker.open == []
    assert "<script>window.hacked" not in page and "<script>alert" not in page and "<script>hacked" not in page
    assert "&lt;script&gt;window.hacked=1&lt;/script&gt;" in page
    assert "{{7*7}}" in page and "49" not in re.findall(r"hacked=1&lt;/script&gt;[^<]{0,20}", page)[0]
    # A pipe in a name must not make a column, a tag must not become one.
    markdown = paths.markdown.read_text("utf-8")
    assert "<script>" not in markdown
    header = next(line for line in markdown.splitlines() if line.startswith("| Method | dermoscopy"))
    by_domain = markdown[markdown.index(header) : markdown.index("## Equal terms")]
    assert by_domain.count("\n") >= 2 + len(cards)
    for line in filter(None, by_domain.splitlines()):
        assert len(re.findall(r"(?<!\\)\|", line)) == 2 + 6
    with paths.csv.open(encoding="utf-8", newline="") as file:
        assert {row["title"] for row in csv.DictReader(file)} == {card["title"] for card in cards.values()}


def test_csv_has_full_precision_and_empty_cells_for_what_is_missing(report: ReportPaths) -> None:
    with report.csv.open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["delightsam"]["dice"]) == report.board.table.set_index("method").loc["delightsam", "dice"]
    assert rows["unet"]["dice"] == "" and rows["unet"]["rank"] == ""
    assert rows["unet"]["missing"] == "fold2, seed 0: failed"
    assert "throughput_images_per_second [Test CPU, 2 threads, float32]" in rows["unet"]
    with report.domains_csv.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(cells) == 4 * 6
    holes = {(cell["method"], cell["domain"]): cell["state"] for cell in cells if cell["dice"] == ""}
    assert holes == {
        ("unet", "dermoscopy/screening"): "failed", ("unet", "fundus/screening"): "failed",
        ("otsu", "dermoscopy/clinic"): "missing", ("otsu", "fundus/clinic"): "missing",
    }  # fmt: skip


def test_costs_and_further_metrics_are_in_csv_and_markdown(report: ReportPaths) -> None:
    with report.csv.open(encoding="utf-8", newline="") as file:
        delightsam = next(row for row in csv.DictReader(file) if row["method"] == "delightsam")
    assert float(delightsam["nsd"]) == pytest.approx(float(delightsam["dice"]))
    assert all(delightsam[name] for name in ("nsd_low", "hd95_max", "precision", "recall"))
    with report.costs_csv.open(encoding="utf-8", newline="") as file:
        costs = {row["method"]: row for row in csv.DictReader(file)}
    assert (costs["unet"]["latency_ms_p95"], costs["unet"]["peak_memory_mib"]) == ("31.0", "300")
    fastest = {name: (row["fastest_ms_p50"], row["fastest_form"]) for name, row in costs.items() if name != "otsu"}
    assert fastest["delightsam"] == ("9.5", "accelerated, float32") and fastest["unet"] == ("25.0", "plain, float32")
    assert costs["unet"]["size_exponent"] == "2.1"
    markdown = report.markdown.read_text("utf-8")
    assert "## Costs" in markdown and "| NSD (2 px) |" in markdown and "25 ms p95 31 ms" in markdown


def test_the_page_and_the_terminal_say_where_the_machine_was_not_quiet(report: ReportPaths) -> None:
    from rich.console import Console

    words = "not quiet: rounds 25 % apart"
    page, printed = report.html.read_text("utf-8"), Console(record=True, width=200, file=StringIO())
    report.print_costs(printed)
    # The latency, the fastest form and the throughput of one method.
    assert page.count(f"; {words}") == 3 and printed.export_text().count(words) >= 1
    assert "accelerated</bdi>" in page and "1: 15, 8: 20" in page


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {0: "only image"}),
        (2, {0: "worst", 1: "best"}),
        (3, {0: "worst", 1: "median", 2: "best"}),
        (8, {0: "worst", 3: "median", 7: "best"}),
    ],
)
def test_pictures_of_few_images_are_named_rightly(count: int, expected: dict[int, str]) -> None:
    from reports.figures.gallery import _ranks

    assert list(_ranks(count).items()) == list(expected.items())


def test_columns_say_when_seen_and_unseen_are_of_different_domains(
    make_store: Callable[..., Any], tmp_path: Path
) -> None:
    def page(**options: Any) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        simulated = make_store(cards=FEW, faults={}, predictions=False, **options)
        return build_report(simulated.root, simulated.suite, folder).html.read_text("utf-8")

    words = "not every tested domain was seen in another fold"
    one = page(folds=1)
    assert words in one and "do not test every domain: 1 of 3 in dermoscopy" in one
    assert words not in page(folds=2)


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_never_cuts_a_number(report: ReportPaths, width: int) -> None:
    from rich.console import Console

    text = StringIO()
    report.print_table(Console(file=text, width=width, legacy_windows=False))
    output = text.getvalue()
    dice = report.board.table.set_index("method").loc["delightsam"]
    assert f"{dice['dice']:.3f}" in output and f"[{dice['dice_low']:.3f}, {dice['dice_high']:.3f}]" in output
    assert "U-Net (ResNet-18): no mean and no rank" in output and "fold2, seed 0: failed" in " ".join(output.split())
    assert ("Parameters" in output) == (width == 140)
    assert max(map(len, output.splitlines())) <= width


def test_pictures_that_are_gone_are_said_to_be_gone(make_store: Callable[..., Any], tmp_path: Path) -> None:
    import shutil

    simulated = make_store(cards=FEW, faults={}, folds=1)
    shutil.rmtree(simulated.root.parent / "data")
    page = build_report(simulated.root, simulated.suite, tmp_path / "out").html.read_text("utf-8")
    assert "The images can&#39;t be shown" in page and 'class="tile' not in page


def test_the_gallery_stays_within_its_room(holed: Any) -> None:
    from harness.store.store import Store
    from reports.figures.gallery import build_gallery
    from reports.records.reading import read_records
    from reports.records.runs import find_suite
    from reports.tables.leaderboard import build_leaderboard

    store = Store(holed.root)
    records = read_records(store, find_suite(store))
    board = build_leaderboard(records)
    whole = build_gallery(records, board)

    def size(gallery: Any) -> int:
        tiles = [tile for domains in gallery.methods.values() for shown in domains.values() for tile in shown]
        return sum(len(p.uri) + len(p.truth) for p in gallery.pictures) + sum(len(t.prediction) for t in tiles)

    room = size(whole) // 2
    small = build_gallery(records, board, max_bytes=room)
    assert 1 <= len(small.methods) < 4 and list(small.methods) == list(whole.methods)[: len(small.methods)]
    left = ", ".join(list(whole.methods)[len(small.methods) :])
    assert small.notes[0] == f"To keep this file small the pictures of {left} are left out." and size(small) <= room
    numbers = {
        tile.picture.number for domains in small.methods.values() for shown in domains.values() for tile in shown
    }
    assert numbers <= {picture.number for picture in small.pictures}
    for tiles in whole.methods["delightsam"].values():
        worst, median, best = tiles
        assert (worst.rank, median.rank, best.rank) == ("worst", "median", "best")
        assert worst.dice <= median.dice <= best.dice


def test_reports_never_import_torch(holed: Any, tmp_path: Path) -> None:
    code = (
        "import sys; from reports.build import build_report; "
        f"build_report({str(holed.root)!r}, {str(holed.suite)!r}, {str(tmp_path / 'out')!r}); "
        "found = {'torch', 'ray'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=120)


def test_the_command_makes_the_report_of_the_latest_run(
    holed: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import argparse

    from harness.cli.report import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["report", f"store.root={holed.root}", "--out", str(tmp_path)])
    assert args.run(args) == 0
    output = capsys.readouterr().out
    assert "De-LightSAM" in output and str(tmp_path / "leaderboard.html") in output.replace("\n", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        "leaderboard.html",
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.tex",
        "leaderboard.json",
        "leaderboard.schema.json",
        "leaderboard.parquet",
        "domains.csv",
        "domains.parquet",
        "images.parquet",
        "costs.csv",
    }
    for words, message in (
        (["report", "stor.root=x"], "Did you mean 'store.root'"),
        (["report", "store.root=x", "--store", "y"], "given twice"),
        (["report", "--store", str(tmp_path)], "found none"),
    ):
        args = parser.parse_args(words)
        with pytest.raises(UserError, match=message):
            args.run(args)


@pytest.mark.parametrize("fault", ["missing", "running", "failed"])
def test_a_run_without_a_finished_trial_says_so(make_store: Callable[..., Any], tmp_path: Path, fault: str) -> None:
    methods = ("delightsam", "unet", "boxed", "otsu")
    simulated = make_store(faults={(method, fold): fault for method in methods for fold in range(3)})
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    words = "No trial has finished yet"
    page, markdown = paths.html.read_text("utf-8"), paths.markdown.read_text("utf-8")
    assert words in page and words in markdown and "12 of 12 trials have no result" in page
    assert check(page).open == [] and '<svg role="img"' not in page
    with paths.domains_csv.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert {"method", "domain", "dice", "state"} <= set(reader.fieldnames or [])
    text = StringIO()
    from rich.console import Console

    paths.print_table(Console(file=text, width=100))
    assert words in text.getvalue()


def test_what_failed_is_reported_in_full_with_name_and_traceback(
    make_store: Callable[..., Any], tmp_path: Path
) -> None:
    cards = {name: {"title": "U-Net", "prompt": "none"} for name in ("unet", "unet_wide")}
    simulated = make_store(cards=cards, faults={("unet", 0): "failed", ("unet_wide", 1): "failed"}, folds=2)
    trial = simulated.ids["unet", "fold0", 0].training
    (simulated.root / "trials" / trial / "error.txt").write_text("Traceback", "utf-8")
    paths = build_report(simulated.root, simulated.suite, tmp_path / "out")
    page = paths.html.read_text("utf-8")
    holes = page[page.index('id="holes"') : page.index('id="provenance"')]
    assert ">U-Net (unet)<" in holes and ">U-Net (unet_wide)<" in holes and ">unet_wide</bdi>" in holes
    assert "The loss became NaN in epoch 2 of 2." in holes and f"trials/{trial}/error.txt" in holes
    assert holes.count("error.txt") == 1
    markdown = paths.markdown.read_text("utf-8")
    row = next(line for line in markdown.splitlines() if "error.txt" in line)
    assert "| U-Net (unet) | unet | fold0 | 0 | failed | The loss became NaN in epoch 2 of 2. |" in row
    assert "| U-Net (unet\\_wide) |" in markdown


def test_a_device_with_a_comma_in_its_name_stays_whole(make_store: Callable[..., Any], tmp_path: Path) -> None:
    from harness.store.store import Store

    simulated = make_store(cards=FEW, faults={}, folds=1, predictions=False)
    Store(simulated.root).write_efficiency("x", {"method": "unet", "device": "CPU (Sky, IBRS)", "threads": 2})
    page = build_report(simulated.root, simulated.suite, tmp_path / "out").html.read_text("utf-8")
    assert '<bdi class="main">CPU (Sky, IBRS)</bdi> <bdi class="detail">2 threads</bdi>' in page


def test_a_folder_that_is_no_run_is_refused(holed: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml and trials\.json"):
        build_report(holed.root, tmp_path, tmp_path / "out")

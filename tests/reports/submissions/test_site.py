"""The site: whole, escaped, without scripts, the same for the same submissions, and readable by other programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.hostile import ATTACKS

from harness.errors import UserError
from harness.submissions.guard import Verdict
from harness.submissions.reading import parse_submission
from reports.records.records import Records
from reports.submissions import site as site_module
from reports.submissions.entries import Entry, read_entries
from reports.submissions.site import Site, build_site
from reports.tables.leaderboard import Leaderboard, build_leaderboard

ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "h2", "h3", "bdi", "dl", "dt", "dd", "div", "nav",
    "main", "section", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "span", "ul", "ol", "li", "details", "summary",
    "time", "footer", "code", "pre", "br", "svg", "path", "rect", "abbr",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "http-equiv", "class", "href", "id", "aria-label", "aria-labelledby", "tabindex", "role",
    "scope", "title", "colspan", "reversed", "viewbox", "preserveaspectratio", "d", "x", "y", "width", "height",
}  # fmt: skip


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        given = dict(attrs)
        self.attributes |= set(given)
        self.links += [value for key, value in attrs if key == "href" and value]
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(site: Site) -> dict[Path, _Page]:
    return {path: _Page(path.read_text("utf-8")) for path in site.folder.rglob("*.html")}


def unverified(content: bytes) -> list[Entry]:
    return [Entry("a.zip", "2026-01-01 00:00 UTC", Verdict("unverified", "not recomputed", parse_submission(content)))]


def test_every_file_is_listed_with_what_became_of_it(site: Site) -> None:
    found = {entry.file: (entry.verdict.state, entry.verdict.reason) for entry in site.entries}
    assert {file: state for file, (state, _) in found.items()} == {
        "first.zip": "verified", "second.zip": "verified", "without.zip": "unverified", "scripts_in_names.zip": "verified",
        "traversal.zip": "refused", "forged_Dice_with_masks.zip": "refused",
    }  # fmt: skip
    text = _Page(site.index.read_text("utf-8")).text
    for file, (_, reason) in found.items():
        assert file in text and reason in text


def test_no_page_has_an_element_or_attribute_of_an_attacker(site: Site, labs: dict[str, bytes], tmp_path: Path) -> None:
    """The site has rows of the attack in it; that its texts are there shows that the test looks at the right place."""
    other = build_site(unverified(ATTACKS["scripts in the data's names"].make(labs["first"])), tmp_path)
    for each in (site, other):
        for path, page in pages(each).items():
            assert page.elements <= ELEMENTS, (path, page.elements - ELEMENTS)
            assert page.attributes <= ATTRIBUTES, (path, page.attributes - ATTRIBUTES)
    everything = "".join(page.text for page in pages(site).values())
    assert "<script>document.title='owned'</script>" in everything and 'onerror="document' in everything
    assert "{{ 7919 * 7907 }}" in everything and str(7919 * 7907) not in everything


def test_links_lead_somewhere_and_only_inside(site: Site) -> None:
    found = pages(site)
    for path, page in found.items():
        assert len(set(page.ids)) == len(page.ids), f"{path}: an id twice"
        for link in page.links:
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.exists() and target.is_relative_to(site.folder), f"{path}: {link}"
            assert not anchor or anchor in found[target].ids, f"{path}: {link}"


def test_there_is_a_page_for_each_method_and_dataset(site: Site) -> None:
    rows = sum(len(ranking.rows) for ranking in site.rankings)
    assert len(list((site.folder / "methods").glob("*.html"))) == rows == 8
    assert len(list((site.folder / "datasets").glob("*.html"))) == 1


def test_equal_submissions_give_equal_pages(site: Site, tmp_path: Path) -> None:
    again = build_site(site.entries, tmp_path / "again")
    for path in site.folder.rglob("*.*"):
        assert (again.folder / path.relative_to(site.folder)).read_bytes() == path.read_bytes()


def test_the_json_fits_its_schema_and_says_what_the_pages_say(site: Site) -> None:
    schema = json.loads((site.folder / "leaderboard.schema.json").read_text("utf-8"))
    document = json.loads((site.folder / "leaderboard.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)
    assert [ranking["trust"] for ranking in document["rankings"]] == ["verified", "unverified"]
    table = site.rankings[0].board.table
    for found, row in zip(document["rankings"][0]["methods"], table.itertuples(), strict=True):
        assert (found["method"], found["rank"], found["dice"]) == (row.method, row.rank, row.dice)
        assert found["title"] in _Page((site.folder / found["page"]).read_text("utf-8")).text
    assert [each["state"] for each in document["submissions"]].count("refused") == 2


def test_a_site_is_built_over_an_older_one_and_over_nothing_else(
    site: Site, labs: dict[str, bytes], tmp_path: Path
) -> None:
    boards = {tuple(ranking.rows): ranking.board for ranking in site.rankings}
    build_site(site.entries, tmp_path, lambda records: boards[tuple(records.methods)])
    build_site(unverified(labs["first"]), tmp_path)
    assert len(list((tmp_path / "methods").glob("*.html"))) == 2
    (tmp_path / "leaderboard.schema.json").unlink()
    with pytest.raises(UserError, match="empty folder"):
        build_site(site.entries, tmp_path)


def test_an_interrupted_build_leaves_no_broken_link_and_is_built_again(
    site: Site, labs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before each of its files in turn, over an older site; over nothing, where only the new index has links, at both ends."""
    # What is computed for the pages doesn't change, and takes most of the time.
    boards = {tuple(ranking.rows): ranking.board for ranking in site.rankings}

    def known(records: Records) -> Leaderboard:
        rows = tuple(records.methods)
        if rows not in boards:
            boards[rows] = build_leaderboard(records)
        return boards[rows]

    older = build_site(unverified(labs["first"]), tmp_path / "older")
    entries = [entry for entry in site.entries if entry.file in ("second.zip", "without.zip", "traversal.zip")]
    whole = build_site(entries, tmp_path / "whole", known)
    count = len(list(whole.folder.rglob("*.*")))
    for before, stop in [*((True, stop) for stop in range(1, count)), (False, 1), (False, count - 1)]:
        out = tmp_path / f"{before}-{stop}"
        if before:
            shutil.copytree(older.folder, out)
        left = iter(range(stop))

        def write(path: Path, text: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(site_module, "atomic_write_text", write)
            build_site(entries, out, known)
        for path in out.rglob("index.html"):
            assert all((path.parent / link.partition("#")[0]).exists() for link in _Page(path.read_text("utf-8")).links)
    assert len(build_site(entries, out, known).rankings) == 2
    assert {path.name for path in out.rglob("*.*")} == {path.name for path in whole.folder.rglob("*.*")}


def test_where_nothing_was_accepted_the_site_says_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(b"nothing")
    built = build_site(read_entries(tmp_path / "in", None), tmp_path / "out")
    assert "Nothing to rank" in built.index.read_text("utf-8") and len(built.refused) == 1


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_pages_fit_their_window_and_nothing_runs(
    site: Site, open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    own = [site.index, next((site.folder / "datasets").glob("*.html"))]
    own += [
        site.folder / "methods" / f"{row.page}.html"
        for row in site.rankings[0].rows.values()
        if row.entry.file.startswith("scripts")
    ]
    for path in own:
        page = open_page(path, width, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.title() != "owned"
        assert page.evaluate("document.querySelectorAll('script, img, iframe, [onerror], [onload]').length") == 0


def test_accessible_by_axe(site: Site, open_page: Callable[..., Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra `dev`)")
    for path in (
        site.index,
        next((site.folder / "datasets").glob("*.html")),
        next((site.folder / "methods").glob("*.html")),
    ):
        found = axe.Axe().run(open_page(path)).response["violations"]
        assert found == [], [(each["id"], each["nodes"][0]["html"]) for each in found]

"""The documentation builds without a warning, no link in it leads nowhere, and no page loads anything from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.conftest import PLAIN
from tests.e2e.forked import Forked

from .pages import PAGES, ROOT

pytestmark = pytest.mark.e2e


class _Page(HTMLParser):
    """What a page names, links to, and loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value for key, value in attrs if value is not None}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            self.loads.append(given["href"])
        self.loads += [given[key] for key in ("src", "srcset", "data", "poster") if key in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, log = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("log") / "sphinx.txt"
    words = ["-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(out)]
    # The reference is made of the code's own docstrings: in a fork the code is there.
    code = Forked(words, ROOT, log=log, program="sphinx.cmd.build", **PLAIN).wait(600)
    assert (code, log.read_text("utf-8").strip()) == (0, "")
    return out


def test_the_site_is_whole_and_its_own(site: Path) -> None:
    """One test, since every worker would build the site for each test of its own."""
    pages = {path.resolve(): _Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert len(pages) >= len([page for page in PAGES if page.startswith("docs/")])
    wrong = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                wrong.append(f"{path.relative_to(site.resolve())}: {link} is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                wrong.append(f"{path.relative_to(site.resolve())}: {link} has no such anchor")
        wrong += [f"{path.name} loads {link}" for link in page.loads if urlsplit(link).netloc]
    for sheet in site.rglob("*.css"):
        found = re.findall(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^)"']+)""", sheet.read_text("utf-8"))
        wrong += [f"{sheet.name} loads {link}" for link in found]
    assert not wrong, "\n".join(wrong)
    assert "<!-- generated" not in "".join(path.read_text("utf-8") for path in pages)


def test_links_of_pages_outside_the_site_lead_somewhere() -> None:
    for page, text in PAGES.items():
        if not page.startswith("docs/"):
            for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                assert "://" in link or (ROOT / link).exists(), f"{page}: {link}"

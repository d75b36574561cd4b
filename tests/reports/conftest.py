"""Simulated stores, their reports, and a browser: each made once for all tests that only read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.store.store import Store
from reports.build import ReportPaths, build_report
from reports.records.reading import read_records
from reports.records.records import Records
from reports.records.runs import find_suite
from reports.tables.leaderboard import Leaderboard, build_leaderboard
from tests.reports.simulated_store import Simulated, write_store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Simulated]:
    """`make_store(faults=..., cards=..., domains=..., change=...)`, see write_store."""
    return partial(write_store, tmp_path)


@pytest.fixture(scope="session")
def report(holed: Simulated, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    """The report of the store with holes."""
    return build_report(holed.root, holed.suite, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """One failed trial (U-Net, fold 2) and one never begun (Otsu, fold 1)."""
    return write_store(tmp_path_factory.mktemp("holed"))


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return write_store(tmp_path_factory.mktemp("complete"), faults={}, seeds=(0, 1))


@pytest.fixture(scope="session")
def complete_records(complete: Simulated) -> Records:
    store = Store(complete.root)
    return read_records(store, find_suite(store))


@pytest.fixture(scope="session")
def complete_board(complete_records: Records) -> Leaderboard:
    return build_leaderboard(complete_records)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that a test makes have no figures, which take most of the time; shared reports have them."""
    monkeypatch.setattr("reports.figures.all_figures.draw_figures", lambda *_, **__: [])


ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests, with a profile of its own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on the path: install one, or set CHROMIUM to it")
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield context
        context.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file; afterwards there must have been no error and no request beyond the disk."""
    pages, faults = [], []

    def open_file(path: Path, width: int = 1440, **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else faults.append(r.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_file
    for page in pages:
        page.close()
    assert faults == []


@pytest.fixture(scope="session")
def complete_report(complete: Simulated, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(complete.root, complete.suite, tmp_path_factory.mktemp("complete_report"))

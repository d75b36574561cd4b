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
def without_masks(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """As `complete`, of one seed and without predictions."""
    return write_store(tmp_path_factory.mktemp("without_masks"), faults={}, predictions=False)


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


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that a test makes have the figure of the summary and one of the section of figures."""
    from reports.figures import all_figures

    for kind in (
        "dice_against_cost", "latency_by_size", "seen_and_unseen", "learning_curves", "dice_by_severity", "heat_map",
        "distributions",
    ):  # fmt: skip
        monkeypatch.setattr(all_figures, kind, lambda *_, **__: None)


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


@pytest.fixture(scope="session")
def windows(browser: Any) -> dict[str, Any]:
    """Pages of the browser by their options: to begin one costs as much as to load a report in it."""
    return {}


@pytest.fixture
def open_page(browser: Any, windows: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Opens a file; afterwards there must have been no error and no request beyond the disk.

    In a window that is kept for the same `options`, and that leaves what a test had open there; `own`: in a new one.
    """
    pages, faults = set(), []

    def note(message: Any) -> None:
        if message.type in ("error", "warning"):
            faults.append(message.text)

    def note_error(error: Any) -> None:
        faults.append(str(error))

    def note_request(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "about:")):
            faults.append(request.url)

    listeners = {"console": note, "pageerror": note_error, "request": note_request}

    def open_file(
        path: Path, width: int = 1440, *, color_scheme: str = "light", own: bool = False, **options: Any
    ) -> Any:
        page = None if own else windows.get(str(options))
        if page is None:
            page = browser.new_page(**options)
            if not own:
                windows[str(options)] = page
        if page not in pages:
            pages.add(page)
            for event, listener in listeners.items():
                page.on(event, listener)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="null", color_scheme=color_scheme)
        page.goto(path.as_uri())
        return page

    yield open_file
    for page in pages:
        if page not in windows.values():
            page.close()
            continue
        page.goto("about:blank")
        # Of what the report remembers; now, when none of its events is to come.
        session = page.context.new_cdp_session(page)
        session.send("Storage.clearDataForOrigin", {"origin": "file://", "storageTypes": "local_storage"})
        session.detach()
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
    assert faults == []


@pytest.fixture(scope="session")
def complete_report(complete: Simulated, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(complete.root, complete.suite, tmp_path_factory.mktemp("complete_report"))

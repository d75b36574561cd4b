"""What stands first, sections that fold, and the comparison of pictures, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.build import ReportPaths, build_report
from tests.reports.simulated_store import CARDS

USUAL = {
    **CARDS,
    "medical": {"title": "De-LightSAM from LiteMedSAM", "prompt": "none", "start": "medical images"},
    "attention": {"title": "Attention U-Net with a ResNet-34 encoder", "prompt": "none", "start": "natural images"},
    "mixstyle": {"title": "U-Net + MixStyle", "prompt": "none", "start": "scratch"},
    "mean_mask": {"title": "Mean mask", "prompt": "none", "trivial_baseline": True},
}


def opened(page: Any) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('details.fold[open] > .inside')].map((e) => e.id)")


@pytest.fixture
def lazy_report(few_figures: None, complete: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportPaths:
    """As of a large run: sections are text until they are opened."""
    monkeypatch.setattr("reports.page.folds.LARGE", 0)
    return build_report(complete.root, complete.suite, tmp_path / "lazy")


@pytest.mark.usefixtures("few_figures")
def test_two_screens_before_details(
    make_store: Callable[..., Any], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    simulated = make_store(cards=USUAL, faults={})
    page = open_page(build_report(simulated.root, simulated.suite, tmp_path / "out").html)
    assert page.locator(".ranking tr[data-method]:visible").count() == 8
    assert page.evaluate("document.documentElement.scrollHeight") <= 1800
    assert opened(page) == []
    # All that is first: the warning, the ranking, what it means, a figure. Nothing of it is cut.
    for selector in (".caution", ".ranking", "#findings", ".summary figure svg"):
        assert page.is_visible(selector), selector
    assert page.locator(".summary .scroll.wide").count() == 0
    critical = page.locator(".summary svg").inner_html()
    assert "ResNet-34 encoder · natural" in critical and "…" not in critical


def wait_until(page: Any, expression: str) -> None:
    """Playwright's own `wait_for_function` builds code in the page, which the page's policy forbids once a look is not enough."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came: {expression}")


def test_an_address_opens_its_section_and_state_is_remembered(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html)
    page.goto(complete_report.html.as_uri() + "#domains")
    wait_until(page, "document.getElementById('domains').closest('details').open")
    assert opened(page) == ["domains"] and page.locator("#domains").bounding_box()["y"] < 450
    # By keyboard, from the list of sections.
    page.focus("nav a[href='#domain-pages']")
    page.keyboard.press("Enter")
    wait_until(page, "document.getElementById('domain-pages').closest('details').open")
    page.click("#domain-2 > summary")
    page.wait_for_selector("#domain-2[open]")
    page.click("summary:has(#domains-title)")
    wait_until(page, "localStorage.length && !Object.values(localStorage)[0].includes('\"domains\"')")
    page.goto("about:blank")
    page.goto(complete_report.html.as_uri())
    assert opened(page) == ["domain-pages"] and page.is_visible("#domain-2 table")
    # The same link again after closing.
    page.click("nav a[href='#costs']")
    page.click("summary:has(#costs-title)")
    assert "costs" not in opened(page)
    page.click("nav a[href='#costs']")
    wait_until(page, "document.getElementById('costs').closest('details').open")
    page.click("#open-all")
    assert len(opened(page)) == 12 and page.inner_text("#open-all") == "Close all"
    page.click("#open-all")
    assert opened(page) == []


def test_a_spoilt_memory_is_no_memory(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html)
    for found in ("'null'", "'{'", '\'[1, {}, "<b>", "picture-0", "nowhere"]\'', "'7'"):
        page.evaluate(f"localStorage.setItem('delightsam-bench ' + location.pathname, {found})")
        page.reload()
        assert opened(page) == [] and page.is_visible("#open-all"), found


def test_without_storage_sections_still_open(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html, own=True)
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})")
    page.reload()
    page.click("nav a[href='#costs']")
    page.wait_for_selector("#costs-caption", state="visible")
    assert opened(page) == ["costs"]


def test_two_on_one_picture_by_keyboard(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html)
    before = page.evaluate("document.querySelectorAll('image').length")
    page.click("nav a[href='#gallery']")
    page.wait_for_selector("#compare", state="visible")
    page.focus("#compare input")
    split = "getComputedStyle(document.querySelector('.stage .layer + .layer')).clipPath"
    for key, value in (("ArrowRight", 51), ("Home", 0), ("End", 100), ("ArrowLeft", 99)):
        page.keyboard.press(key)
        assert page.input_value("#compare input") == str(value)
        assert page.evaluate(split).replace(" ", "") in (
            f"inset(0px{100 - value}%0px0px)",
            f"inset(0pxcalc({100 - value}%)0px0px)",
        )
    assert page.get_attribute("#compare input", "aria-valuetext") == "99 % Truth, 1 % De-LightSAM"
    page.select_option("#compare select[name=left]", label="Image")
    page.select_option("#compare select[name=right]", label="U-Net (ResNet-18)")
    label = page.get_attribute(".stage", "aria-label")
    assert "Left: Image." in label and "Right: U-Net (ResNet-18), Dice 0." in label
    # Each side has its own outline, and no picture is there twice.
    outlines = "[...document.querySelectorAll('.stage .layer')].map((e) => !!e.querySelector('.prediction'))"
    assert page.evaluate(outlines) == [True, False]
    assert page.evaluate("document.querySelectorAll('image').length") == before
    # Another picture keeps the choice where it has it.
    options = page.locator("#compare select[name=picture] option")
    assert options.count() > 6
    page.select_option("#compare select[name=picture]", index=1)
    assert page.locator("#compare select[name=left] option:checked").inner_text() == "Image"
    page.click(".stage", position={"x": 20, "y": 40})
    assert int(page.input_value("#compare input")) < 20


@pytest.mark.parametrize("script", [True, False])
def test_on_paper_all_is_shown_and_controls_are_gone(
    complete_report: ReportPaths, open_page: Callable[..., Any], script: bool
) -> None:
    page = open_page(complete_report.html, java_script_enabled=script)
    page.emulate_media(media="print")
    if script:
        kept = page.evaluate("Object.values(localStorage)[0]")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.wait_for_timeout(50)
        assert page.locator("main details:not([open])").count() == 0
        assert page.is_visible("#method-2 table")
    shown = ["#domains table", "#costs table", "#definitions dl", "th.c-gmacs", "#figures svg"]
    for selector in [*shown, ".tiles .tile"] if script else shown:
        assert page.locator(selector).first.is_visible(), selector
    for selector in ("#controls", "nav", "#compare", "#open-all"):
        assert not page.is_visible(selector), selector
    if script:
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert opened(page) == []
        page.wait_for_timeout(50)
        assert page.evaluate("Object.values(localStorage)[0]") == kept


def test_sections_of_a_large_run_are_made_when_opened(lazy_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(lazy_report.html)
    assert page.locator("noscript").count() == 12 and page.locator("#method-2").count() == 0
    page.click(".ranking tbody a[href='#method-2']")
    page.wait_for_selector("#method-2[open] table")
    page.click("nav a[href='#gallery']")
    page.wait_for_selector("#compare", state="visible")
    page.click("#open-all")
    assert page.locator("noscript").count() == 0 and page.is_visible("#costs-caption")
    plain = open_page(lazy_report.html, java_script_enabled=False)
    plain.click("summary:has(#costs-title)")
    assert plain.is_visible("#costs-caption")
    paper = open_page(lazy_report.html, own=True)
    paper.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert paper.is_visible("#domain-1 table")

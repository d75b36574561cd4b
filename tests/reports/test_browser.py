"""The page in a real browser: opens from the disk without an error, sorts by click and by key, runs no foreign script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.build import ReportPaths, build_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
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


def column(page: Any, key: str, track: str = "automatic") -> list[str]:
    return [text.strip() for text in page.locator(f"tbody.{track} tr:not(.group) .c-{key} .main").all_inner_texts()]


@pytest.fixture(scope="module")
def complete_report(complete: Any, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(complete.root, complete.suite, tmp_path_factory.mktemp("browser"))


def test_sorting_by_click_and_by_key(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html)
    ranked = ["De-LightSAM", "U-Net (ResNet-18)", "Otsu threshold"]
    assert column(page, "title") == ranked
    page.click("th.c-parameters_total button")
    assert column(page, "title") == ["Otsu threshold", "De-LightSAM", "U-Net (ResNet-18)"]
    assert page.get_attribute("th.c-parameters_total", "aria-sort") == "ascending"
    page.click("th.c-parameters_total button")
    assert column(page, "title") == ["U-Net (ResNet-18)", "De-LightSAM", "Otsu threshold"]
    # Otsu has no GMACs: last in both directions.
    for direction in ("ascending", "descending"):
        page.click("th.c-gmacs button")
        assert page.get_attribute("th.c-gmacs", "aria-sort") == direction
        assert column(page, "title")[-1] == "Otsu threshold"
    page.focus("th.c-dice button")
    page.keyboard.press("Enter")
    assert column(page, "title") == ranked
    page.keyboard.press("Space")
    assert column(page, "title") == ranked[::-1]
    assert page.locator("[aria-sort]").count() == 1
    assert "Unseen Dice, ascending" in page.inner_text("#sorted")
    # What is ranked apart stays apart, below its heading.
    assert column(page, "title", "oracle") == ["Box-prompted SAM"]
    assert page.locator("tbody.oracle tr").first.get_attribute("class") == "group"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_no_sideways_scrolling_and_readable_colours(
    report: ReportPaths, open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    page = open_page(report.html, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert min(contrasts) >= 4.5


# WCAG 2 contrast of all text in tables and paragraphs against what is painted behind it.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const paint = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll("main .main, main .detail, main p, main .mark, thead button, caption")]
    .filter((e) => e.getClientRects().length && e.textContent.trim())
    .map((element) => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
      const [a, b] = [light(paint(layers)), light(paint([...layers, getComputedStyle(element).color]))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
}"""


def test_the_head_leaves_room_for_the_ranking(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    """The README's picture is the first 1280 x 900 pixels."""
    page = open_page(complete_report.html, 1280)
    for selector in ("h1", ".headline", ".caution", "#findings"):
        assert page.locator(selector).bounding_box()["y"] < 450, selector
    last = page.locator(".ranking tbody.automatic tr").last.bounding_box()
    assert last["y"] + last["height"] <= 900


def test_a_phone_shows_that_there_is_more_and_keeps_the_method(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html, 390)
    page.wait_for_selector(".scroll.wide")
    for box in page.locator(".scroll").all():
        if not box.is_visible():
            continue
        width, inner = box.evaluate("e => [e.clientWidth, e.scrollWidth]")
        hint = box.evaluate("e => getComputedStyle(e, '::before').content")
        assert ("scroll sideways" in hint) == (inner > width + 1)
        if inner > width + 1:
            assert "local" in box.evaluate("e => getComputedStyle(e).backgroundAttachment")
            box.evaluate("e => { e.scrollLeft = 300; }")
            name = box.locator("tbody th[scope=row]").first.bounding_box()
            assert name["x"] >= box.bounding_box()["x"] - 1 and name["x"] + name["width"] < 250
    wide = open_page(complete_report.html, 1440)
    assert "sideways" not in wide.evaluate("getComputedStyle(document.querySelector('.scroll'), '::before').content")


def test_figures_fit_a_phone(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html, 390)
    figures = page.locator(".figures svg")
    assert figures.count() == 4
    for figure in figures.all():
        box = figure.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        # Nothing reaches beyond the picture, and its letters can be read.
        texts = figure.locator("text").all()
        heights = [text.bounding_box() for text in texts]
        assert all(t["x"] >= box["x"] - 1 and t["x"] + t["width"] <= box["x"] + box["width"] + 1 for t in heights)
        scale = figure.evaluate("e => e.getScreenCTM().a")
        assert scale > 0.7


def test_short_names_are_not_broken(
    make_store: Callable[..., Any], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    cards = {"mean_mask": {"title": "Mean mask", "prompt": "none"}}
    simulated = make_store(cards=cards, faults={}, domains=("cvc_clinicdb", "stu_hospital", "kvasir_seg"))
    page = open_page(build_report(simulated.root, simulated.suite, tmp_path / "out").html, 390)
    lines = """e => { const range = document.createRange(); range.selectNodeContents(e);
      return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size; }"""
    names = page.locator("th bdi, th .detail").filter(has_text="_")
    shown = [name for name in names.all() if name.is_visible()]
    assert len(shown) >= 8
    assert all(name.evaluate(lines) == 1 for name in shown)


def test_a_script_in_a_name_is_text(
    make_store: Callable[..., Any], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    title = '<script>window.hacked=1</script><img src=x onerror="window.hacked=2">'
    cards = {
        "evil": {"title": title, "prompt": "none", "pretrained_on": []},
        "long": {"title": "y" * 300, "prompt": "none"},
    }
    simulated = make_store(cards=cards, faults={}, domains=("a", "<img src=x onerror=hacked=3>", "\u202eright to left"))
    page = open_page(build_report(simulated.root, simulated.suite, tmp_path / "out").html, 390)
    assert page.evaluate("window.hacked") is None
    assert title in column(page, "title")
    assert page.locator("table h3 bdi, .tiles h3 bdi").filter(has_text="<img src=x onerror=hacked=3>").count() >= 1
    # Long names are broken, not the layout.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_pictures_load_and_links_open_what_is_closed(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html)
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert not page.is_visible("dl.definitions")
    page.click("nav a[href='#definitions']")
    page.wait_for_selector("dl.definitions", state="visible")

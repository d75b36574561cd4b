"""The page in a real browser: opens from the disk without an error, sorts by click and by key, runs no foreign script."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from reports.build import ReportPaths, build_report
from tests.reports.simulated_store import write_store


def column(page: Any, key: str, track: str = "automatic") -> list[str]:
    return [text.strip() for text in page.locator(f"tbody.{track} tr:not(.group) .c-{key} .main").all_inner_texts()]


def test_sorting_by_click_and_by_key(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html)
    ranked = ["De-LightSAM", "U-Net (ResNet-18)", "Otsu threshold"]
    assert column(page, "title") == ranked
    assert not page.is_visible("th.c-gmacs")
    page.check("input[name=all]")
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


@pytest.mark.parametrize("width", [390, 1440])
def test_no_sideways_scrolling_and_readable_colours(
    report: ReportPaths, open_page: Callable[..., Any], width: int
) -> None:
    page = open_page(report.html, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#open-all")
    page.check("input[name=all]")
    seen = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 50
        assert min(contrasts) >= 4.5
        seen.append(contrasts)
    assert seen[0] != seen[1]
    assert page.evaluate(CUT_CAPTIONS) == []


# What is said above a table, however long, stays within the box that the table scrolls in; where it does not, the table's name.
CUT_CAPTIONS = """() => [...document.querySelectorAll('.scroll caption > span')].filter(said => {
  said.append(' word'.repeat(200));
  return said.getBoundingClientRect().right > said.closest('.scroll').getBoundingClientRect().right + 1;
}).map(said => said.closest('caption').id)"""

# WCAG 2 contrast of all text outside of figures against what is painted behind it; 0 where it is half transparent.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const seen = new Map();
  const painted = (layers) => {
    const name = layers.join();
    if (!seen.has(name)) seen.set(name, light(paint(layers)));
    return seen.get(name);
  };
  const paint = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const says = (e) => [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  return [...document.querySelectorAll("body *:not(svg *):not(option)")]
    .filter((e) => e.getClientRects().length && says(e))
    .map((element) => {
      const layers = [];
      for (let e = element; e; e = e.parentElement) {
        const style = getComputedStyle(e);
        if (style.opacity !== "1") return 0;
        layers.unshift(style.backgroundColor);
      }
      const [a, b] = [painted(layers), painted([...layers, getComputedStyle(element).color])];
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
    page.click("#open-all")
    page.check("input[name=all]")
    page.wait_for_selector("#domains .scroll.wide")
    for box in page.locator(".scroll").all():
        if not box.is_visible():
            continue
        width, inner = box.evaluate("e => [e.clientWidth, e.scrollWidth]")
        hint = box.evaluate("e => getComputedStyle(e, '::before').content")
        assert ("scroll sideways" in hint) == (inner > width + 1)
        if inner > width + 1:
            assert "local" in box.evaluate("e => getComputedStyle(e).backgroundAttachment")
            assert box.get_attribute("tabindex") == "0"
            if not box.locator("tbody").count():  # a figure
                continue
            box.evaluate("e => { e.scrollLeft = 300; }")
            name = box.locator("tbody th[scope=row]").first.bounding_box()
            assert name["x"] >= box.bounding_box()["x"] - 1 and name["x"] + name["width"] < 250
    wide = open_page(complete_report.html, 1440)
    assert "sideways" not in wide.evaluate("getComputedStyle(document.querySelector('.scroll'), '::before').content")


@pytest.mark.parametrize("width", [390, 1440])
def test_letters_of_figures_are_large_enough_and_nothing_is_cut(
    complete_report: ReportPaths, open_page: Callable[..., Any], width: int
) -> None:
    page = open_page(complete_report.html, width)
    page.click("#open-all")
    assert page.locator(".figures svg").count() == 11
    for name, cut, letters, inside, overflow in page.evaluate(FIGURES):
        # What is wider than its box scrolls there.
        assert inside and overflow == "auto", name
        assert not cut, (name, cut)
        assert letters >= 10.99, (name, letters)


# Of every figure: its caption, texts beyond the drawing, CSS pixels of its smallest letters, whether its box is inside the window.
FIGURES = """() => [...document.querySelectorAll(".figures figure")].map((figure) => {
  const drawing = figure.querySelector("svg"), box = drawing.getBoundingClientRect(), frame = figure.getBoundingClientRect();
  const texts = [...drawing.querySelectorAll("text")];
  const cut = texts.filter((t) => {
    const place = t.getBoundingClientRect();
    return place.left < box.left - 1 || place.right > box.right + 1 || place.bottom > box.bottom + 1;
  });
  const scale = drawing.getScreenCTM().a;
  return [
    figure.querySelector("figcaption").textContent, cut.map((t) => t.textContent),
    Math.min(...texts.map((t) => scale * parseFloat(getComputedStyle(t).fontSize))),
    frame.left >= 0 && frame.right <= innerWidth, getComputedStyle(figure.querySelector(".scroll")).overflowX,
  ];
})"""


@pytest.mark.usefixtures("without_figures")
def test_short_names_are_not_broken(
    make_store: Callable[..., Any], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    cards = {"mean_mask": {"title": "Mean mask", "prompt": "none"}}
    simulated = make_store(cards=cards, faults={}, domains=("cvc_clinicdb", "stu_hospital", "kvasir_seg"))
    page = open_page(build_report(simulated.root, simulated.suite, tmp_path / "out").html, 390)
    lines = """e => { const range = document.createRange(); range.selectNodeContents(e);
      return new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size; }"""
    page.click("#open-all")
    names = page.locator("th bdi, th .detail").filter(has_text="_")
    shown = [name for name in names.all() if name.is_visible()]
    assert len(shown) >= 8
    assert all(name.evaluate(lines) == 1 for name in shown)


EVIL = '<script>window.hacked=1</script><img src=x onerror="window.hacked=2">'
RIGHT_TO_LEFT = "\u202eright to left שלום"


@pytest.mark.parametrize("width", [390, 1440])
def test_scripts_and_endless_names_are_text_wherever_they_stand(
    evil_report: ReportPaths, open_page: Callable[..., Any], width: int
) -> None:
    page = open_page(evil_report.html, width)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("window.hacked") is None
    assert EVIL in column(page, "title")
    for place in ("#methods", "#domain-pages", ".tiles", "#failures"):
        holder = page.locator(place) if place == ".tiles" else page.locator("section", has=page.locator(place))
        assert holder.get_by_text(EVIL, exact=True).count() >= 1, place
    # Long names are broken, not the layout.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.select_option("select[name=scope]", label=f"fundus/{RIGHT_TO_LEFT}")
    assert RIGHT_TO_LEFT in page.inner_text("#view-note") and page.evaluate("window.hacked") is None


@pytest.fixture(scope="session")
def evil_report(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    """Methods, domains and images with a script, quotes, right-to-left text and 300 characters as their names."""
    cards = {
        "evil": {"title": EVIL, "prompt": "none", "paper": EVIL, "licence": "'\"><b>"},
        "long": {"title": "y" * 300, "prompt": '"><script>alert(1)</script>'},
    }

    def rename(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        ids = {"000": EVIL, "001": "z" * 300, "002": RIGHT_TO_LEFT}
        frame["dice"] = frame["dice"].where(frame["id"] != "003", 0.0)
        return frame.assign(id=frame["id"].replace(ids))

    root = tmp_path_factory.mktemp("evil")
    # A slash would make a folder of its own: data sets can't have it in a name.
    domains = (EVIL.replace("/", "∕"), "x" * 200, RIGHT_TO_LEFT)
    simulated = write_store(root, cards=cards, faults={("long", 1): "failed"}, domains=domains, change=rename)
    return build_report(simulated.root, simulated.suite, root / "out")


def test_pictures_load_and_links_open_what_is_closed(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html)
    page.click("nav a[href='#gallery']")
    tile = page.locator("details.method[open] .tile").first
    tile.scroll_into_view_if_needed()
    # What is painted: not the empty ground but the picture, with both outlines on it.
    colors = _colors(tile.screenshot())
    assert len(colors) > 100 and _near(colors, (0, 214, 255)) and _near(colors, (255, 208, 0))
    page.uncheck("input[data-hides='no-truth']")
    colors = _colors(tile.screenshot())
    assert not _near(colors, (0, 214, 255)) and _near(colors, (255, 208, 0))
    assert not page.is_visible("dl.definitions >> text=Macro 95th percentile")
    page.click("nav a[href='#definitions']")
    page.wait_for_selector("dl.definitions >> text=Macro 95th percentile", state="visible")
    # From the ranking to the page of a method, from there to that of a domain.
    page.click(".ranking tbody a[href='#method-2']")
    page.wait_for_selector("#method-2[open]")
    page.click("#method-2 a[href='#domain-1']")
    page.wait_for_selector("#domain-1[open]")


def _colors(png: bytes) -> set[tuple[int, int, int]]:
    with Image.open(BytesIO(png)) as picture:
        return {color for _, color in picture.convert("RGB").getcolors(1 << 20)}


def _near(colors: set[tuple[int, int, int]], wanted: tuple[int, int, int]) -> bool:
    return any(sum(abs(a - b) for a, b in zip(color, wanted, strict=True)) < 50 for color in colors)


def test_ranking_by_another_metric_over_fewer_domains(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html)
    board = complete_report.board
    page.select_option("select[name=metric]", label="HD95")
    assert page.inner_text("th.c-dice .words") == "HD95" and not page.is_visible("th.c-gap")
    assert column(page, "dice")[0] == f"{board.table.set_index('method').loc['delightsam', 'hd95']:.1f}"
    assert column(page, "title") == ["De-LightSAM", "U-Net (ResNet-18)", "Otsu threshold"]
    page.select_option("select[name=metric]", label="Dice")
    page.select_option("select[name=scope]", label="fundus")
    means = board.modalities.set_index(["method", "modality"])["dice"]
    assert column(page, "dice") == [f"{means[name, 'fundus']:.3f}" for name in ("delightsam", "unet", "otsu")]
    assert "Dice over fundus" in page.inner_text("#view-note")
    page.select_option("select[name=scope]", label="fundus/clinic")
    cells = board.domains.set_index(["method", "domain"])["dice"]
    assert column(page, "dice")[0] == f"{cells['delightsam', 'fundus/clinic']:.3f}"
    page.click("button[type=reset]")
    page.wait_for_selector("th.c-gap", state="visible")
    assert column(page, "dice")[0] == f"{board.table['dice'][0]:.3f}" and "±" in page.inner_text("td.c-dice >> nth=0")


def test_filters_hide_rows_and_say_how_many_are_left(
    complete_report: ReportPaths, open_page: Callable[..., Any]
) -> None:
    page = open_page(complete_report.html)
    page.fill("input[name=find]", "u-NET")
    assert page.locator(".ranking tbody tr[data-method]:visible").count() == 1
    assert "1 of 4 methods" in page.inner_text("#sorted")
    assert not page.is_visible("tbody.oracle")
    page.fill("input[name=find]", "")
    page.select_option("select[name=prompt]", "oracle box")
    assert page.locator(".ranking tbody tr[data-method]:visible .c-title .main").all_inner_texts() == [
        "Box-prompted SAM"
    ]


def test_everything_by_keyboard_alone(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "find"
    page.keyboard.type("otsu")
    assert page.locator(".ranking tbody tr[data-method]:visible").count() == 1
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "metric"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("th.c-dice .words") == "HD95"
    page.focus("details:has(> #gallery) > summary")
    page.keyboard.press("Enter")
    page.focus("#gallery-2 summary")
    page.keyboard.press("Enter")
    assert page.is_visible("#gallery-2 .tile >> nth=0")


def test_axe_finds_no_serious_fault(report: ReportPaths, open_page: Callable[..., Any]) -> None:
    """Of all its rules but that of contrasts, most of its time: the test above measures them, by light and dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra `dev`)")
    rules = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": False}}}
    page = open_page(report.html, bypass_csp=True)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    serious = [
        each
        for each in axe.Axe().run(page, options=rules).response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert [(each["id"], each["nodes"][0]["html"][:200], len(each["nodes"])) for each in serious] == []


def test_the_page_works_without_scripts(complete_report: ReportPaths, open_page: Callable[..., Any]) -> None:
    page = open_page(complete_report.html, java_script_enabled=False)
    assert not page.is_visible("#controls") and page.is_visible(".ranking") and page.is_visible("th.c-gmacs")
    assert not page.is_visible(".tile >> nth=0")
    page.click("summary:has(#gallery-title)")
    assert page.is_visible(".tile >> nth=0") and not page.is_visible("#compare") and not page.is_visible("#open-all")
    # Addresses, too: browsers open what holds the target.
    page.click("nav a[href='#costs']")
    assert page.is_visible("#costs-caption")

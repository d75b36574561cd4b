"""Methods of unequal starts, and how tests find the passages that name them without a mark."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

# Method -> title, start, and the words that mark it: in tables and sentences, in figures.
ROWS = {
    "delightsam": ("Medic", "medical images", ("medical image", "medical-image"), "medical"),
    "unet": ("Netto", "scratch", ("scratch",), "scratch"),
    "unet_imagenet": ("Photo", "natural images", ("natural image", "natural-image"), "natural"),
    "deeplab": ("Deepo", "scratch", ("scratch",), "scratch"),
    "other": ("Outer", "not stated", ("not stated",), "not stated"),
}
DATA = {"medical images": ["Screening"], "natural images": ["ImageNet-1k"]}
CARDS: dict[str, dict[str, Any]] = {
    name: {"title": title, "prompt": "none", "start": start, "pretrained_on": DATA.get(start, [])}
    for name, (title, start, _, _) in ROWS.items()
} | {"otsu": {"title": "Otsu threshold", "prompt": "none", "pretrained": "none", "trivial_baseline": True}}


NEAR = 34
"""Characters from a title within which its mark must stand."""


def unmarked(text: str, figure: bool = False) -> list[str]:
    """Passages around titles without the words of their start, in a text that names methods of unequal starts."""
    found = {row: [place.start() for place in re.finditer(rf"\b{row[0]}\b", text)] for row in ROWS.values()}
    if len({row[1] for row, places in found.items() if places}) < 2:
        return []
    return [
        near
        for row, places in found.items()
        for place in places
        if not any(
            word in (near := text[max(0, place - NEAR) : place + len(row[0]) + NEAR])
            for word in ((row[3],) if figure else row[2])
        )
    ]


class Passages(HTMLParser):
    """Rows of tables, by their section; every other passage of text; figures with their description."""

    WHOLE = ("li", "p", "figcaption", "caption", "summary", "dd", "h3", "h4")

    def __init__(self) -> None:
        super().__init__()
        self.section, self.rows, self.passages, self.figures = "", [], [], []  # type: ignore[var-annotated]
        self._open: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "section" and "aria-labelledby" in found:
            self.section = found["aria-labelledby"].removesuffix("-title")
        if tag == "svg" and "aria-label" in found:
            self.figures.append(found["aria-label"])
        if tag in ("tr", "svg", *self.WHOLE):
            self._open.append((tag, []))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            text = " ".join(self._open.pop()[1])
            kind = self.rows if tag == "tr" else self.figures if tag == "svg" else self.passages
            kind.append((self.section, text) if tag == "tr" else text)

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self._open[-1][1].append(data.strip())

"""No page sets results of methods of unequal starts side by side without saying so, and none claims what a reviewer could call unfair."""

from __future__ import annotations

import json
import re
import zipfile

import pytest

from docs.generated import expand
from docs.result_pages import FOLDER
from harness.config.cards import algorithm_cards

from .pages import PAGES
from .starts import names, unmarked

CHECKED = (
    "README.md",
    "docs/index.md",
    "docs/results.md",
    "docs/findings.md",
    "docs/concepts.md",
    "docs/methods/delightsam.md",
    "docs/methods/networks.md",
    "docs/methods/sam.md",
)
CLAIMS = {
    r"\bnever s(?:aw|een?)\b|surely never": "held out means held out of training here: pretraining may hold the domain",
    r"\bproven\b|\bprove\b": "tests compare outputs with recorded ones",
    r"\bfairly\b|\breproducibly\b": "that is for the reader to judge",
    r"\ba lightweight\b": "its authors call it so",
    r"intervals touch": "that is no test: give the paired difference",
    r"[Ll]onger training changes": "it was not tried",
}
"""What a page said once -> why it may not."""


@pytest.mark.parametrize("page", CHECKED)
def test_results_of_unequal_starts_have_their_starts_beside_them(page: str) -> None:
    text = expand(PAGES[page]) if page == "docs/results.md" else PAGES[page]
    # What a method costs is no result.
    assert not unmarked(re.sub(r"^### Costs.*?(?=^##)", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    "text",
    [
        "De-LightSAM reaches 0.760 and the U-Net 0.540.",
        "De-LightSAM from LiteMedSAM's weights reaches 0.760, the U-Net 0.540.",
        "De-LightSAM reaches 0.760, a U-Net from scratch 0.540.",
        "De-LightSAM (LiteMedSAM start) [medical-image start] reaches 0.760, the U-Net 0.540.",
        "De-LightSAM from LiteMedSAM's weights reaches 0.760. The U-Net has 0.540.",
        "All from LiteMedSAM's weights: De-LightSAM has 0.760 and the U-Net 0.540.",
        "- De-LightSAM (LiteMedSAM start): 0.760\n- DeepLabV3+: 0.521",
        "- De-LightSAM (LiteMedSAM start): 0.760\n- De-LightSAM: 0.470",
        "| method | Dice |\n|---|---|\n| De-LightSAM | .760 |\n| SegFormer | .540 |",
        "| method | start | Dice |\n|---|---|---|\n| De-LightSAM | LiteMedSAM | 0.76 |\n| U-Net | | 0.54 |",
        "| fold | De-LightSAM | U-Net |\n|---|---|---|\n| 0 | 0.760 | 0.540 |",
    ],
)
def test_the_rule_finds_what_is_unfair(text: str) -> None:
    assert unmarked(text)
    assert unmarked(PAGES["docs/findings.md"] + "\n\n" + text)


@pytest.mark.parametrize(
    "text",
    [
        "De-LightSAM from LiteMedSAM's weights reaches 0.760, a U-Net from scratch 0.540.",
        "The U-Net from ImageNet has 0.729, De-LightSAM (LiteMedSAM start) [medical-image start] 0.796.",
        "Both from scratch: De-LightSAM has 0.470 and the U-Net 0.540.",
        "| method | start | Dice |\n|---|---|---|\n| De-LightSAM | LiteMedSAM | 0.76 |\n| U-Net | scratch | 0.54 |",
        "De-LightSAM reaches 0.760 and Otsu's threshold 0.387.",
        "De-LightSAM has 12.44 M parameters and needs 13.4 GMACs, the U-Net 0.72 GMACs.",
    ],
)
def test_the_rule_leaves_alone_what_is_fair(text: str) -> None:
    assert not unmarked(text)


def test_the_names_are_those_of_the_shipped_methods() -> None:
    assert {"De-LightSAM", "U-Net", "SAM's decoder", "SAMed", "nnU-Net v2"} <= set(names())
    assert names()["U-Net"] == {"scratch", "natural images"}
    assert names()["SAM's decoder"] == {"medical images"}
    assert not {"SAM", "MedSAM", "LiteMedSAM", "Otsu threshold"} & set(names())


@pytest.mark.parametrize("page", ["README.md", *(page for page in PAGES if page.startswith("docs/"))])
def test_no_page_says_again_what_was_unfair(page: str) -> None:
    text = " ".join(PAGES[page].split())
    found = {match[0]: why for claim, why in CLAIMS.items() for match in re.finditer(claim, text)}
    assert not found


def test_the_readme_says_how_many_methods_have_published_results() -> None:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    (path,) = FOLDER.glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        rows = json.loads(archive.read("submission.json"))["methods"]
    methods = [row["card"] for row in rows if "+" not in row["name"]]
    algorithms = {row["name"].partition("+")[2] for row in rows} - {""}
    trivial = sum(card.get("trivial_baseline") is True for card in methods)
    text = " ".join(PAGES["README.md"].split())
    assert f"{words[len(methods) - trivial]} trained methods, {words[trivial]} trivial baselines" in text
    assert f"{words[len(algorithms)]} algorithm" in text
    assert f"{len(algorithm_cards()) - 1} algorithms beside plain training" in text


def test_every_figure_in_words_stands_in_the_tables() -> None:
    """What results.md says in words beside its generated tables, to three digits."""
    page = PAGES["docs/results.md"]
    said, _, _ = page[page.index("In words:") :].partition("\n## ")
    tables = expand("\n".join(re.findall(r"^<!-- generated: result.*$", page, re.MULTILINE)))
    figures = set(re.findall(r"[+−]?0\.\d{3}\b", said))
    assert len(figures) > 8
    assert not {figure for figure in figures if figure not in tables}

"""Finds passages that set results of methods of unequal starts side by side without saying the starts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from harness.config.cards import method_cards
from harness.methods.card import NO_WEIGHTS, start_of

STARTS = {
    "scratch": r"scratch",
    "natural images": r"ImageNet|MobileSAM|SAM ViT-[BLH]|natural[- ]images?",
    "medical images": r"LiteMedSAM|MedSAM|medical[- ](?:images?|start)",
}
"""Start -> the words that say it."""
_ANY = "|".join(f"(?:{words})" for words in STARTS.values())
_TOGETHER = re.compile(rf"\b(?:all|among|both|equal starts)\b[^.;|]{{0,40}}?(?:{_ANY})", re.IGNORECASE)
"""Says one start of all that the passage names."""
_RESULT = re.compile(r"(?<![\d.])0?\.\d{2,3}\b(?!\.?\d| (?:GMACs|M\b|s\b|MB|at \d+ px))")
"""As a Dice is written; not as 0.0005, 12.44 M or 0.72 GMACs are."""


@cache
def names() -> dict[str, frozenset[str]]:
    """What pages call a method -> the starts that it may have, of the shipped method files; longer names first.

    A name is the title without its brackets ("U-Net (ResNet-18)" is "U-Net"), and what is behind its comma ("SAM's decoder"). Left
    out are methods without weights, and SAM, MedSAM and their kin, which are starts themselves.
    """
    found = defaultdict(set)
    for card in method_cards().values():
        head, start = str(card["title"]).partition(" (")[0], start_of(card)
        if start != NO_WEIGHTS and not re.fullmatch(r"(?:Lite|Med|LiteMed|Mobile|Slim)?SAM(?:[ -].*)?", head):
            for name in {head, head.rpartition(", ")[2]}:
                found[name].add(start)
    return {name: frozenset(found[name]) for name in sorted(found, key=len, reverse=True)}


@cache
def _words() -> re.Pattern[str]:
    """Methods and starts in the order in which a passage has them."""
    methods = "|".join(re.escape(name) for name in names())
    starts = "|".join(f"(?P<s{at}>{words})" for at, words in enumerate(STARTS.values()))
    return re.compile(rf"(?P<method>(?<![\w-])(?:{methods})(?![\w+-]))|{starts}")


def unmarked(page: str) -> list[str]:
    """The passages at fault: rows of tables, items of lists, sentences.

    A block (a table, a list, a paragraph) that holds results and names two methods, or one in two rows or items, compares. Each of its passages
    with a result must say of each method that it names from which start; a table's head must where its rows hold the results.
    """
    wrong = []
    for passages, is_text in _blocks(page):
        methods = [_methods(passage) for passage in passages]
        results = [bool(_RESULT.search(passage)) for passage in passages]
        if not is_text and passages[0].startswith("|"):
            results[0] = any(results)
        several = len(set().union(*methods)) > 1
        repeated = not is_text and sum(bool(m) and r for m, r in zip(methods, results, strict=True)) > 1
        if several or repeated:
            wrong += [text for text, result in zip(passages, results, strict=True) if result and not _says_starts(text)]
    return wrong


def _methods(text: str) -> set[str]:
    return {found["method"] for found in _words().finditer(text) if found["method"]}


def _says_starts(text: str) -> bool:
    """Whether each method has a start of its own beside it, with no other method between, or all have one together."""
    found = list(_words().finditer(text))
    places = [at for at, word in enumerate(found) if word["method"]]
    together = _TOGETHER.search(text)
    if together and all(_starts(together[0]) & names()[found[at]["method"]] for at in places):
        return True
    used: set[int] = set()
    for at, after in pairwise([*places, len(found)]):
        before = max((place for place in places if place < at), default=-1)
        near = [place for place in range(before + 1, after) if place != at and place not in used]
        fitting = [place for place in near if _starts(found[place][0]) & names()[found[at]["method"]]]
        if not fitting:
            return False
        # All that is said of it up to the next method is its own.
        used |= {place for place in fitting if place > at} or {fitting[-1]}
    return True


def _starts(text: str) -> set[str]:
    return {start for start, words in STARTS.items() if re.search(words, text)}


def _blocks(page: str) -> Iterator[tuple[list[str], bool]]:
    """The passages of each table, list and paragraph, and whether it is running text."""
    text = re.sub(r"^```.*?^```$|^#[^\n]*$|^<!--.*?-->$", "", page, flags=re.MULTILINE | re.DOTALL).replace("\\", "")
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip("\n").splitlines()
        if not lines:
            continue
        if lines[0].startswith("|"):
            yield lines, False
        elif lines[0].lstrip().startswith(("- ", "* ")):
            yield [" ".join(item.split()) for item in re.split(r"^\s*[-*] ", block, flags=re.MULTILINE) if item], False
        else:
            yield re.split(r"(?<=[.!?]) (?=[A-Z*`\[])", " ".join(block.split())), True

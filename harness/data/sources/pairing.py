"""Which files of a download are the image and the masks of a pair."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.data.folder.csv_text import decode_text, parse_table
from harness.data.folder.sample import Problem
from harness.data.sources.archives import Member, archive_suffix
from harness.data.sources.recipe import Layout, Recipe, compile_pattern
from harness.errors import UserError

_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class SourcePair:
    """An image and its masks as they were downloaded, with what the recipe says of them."""

    modality: str
    domain: str
    id: str
    image: Member
    masks: tuple[Member, ...]
    layout: Layout
    subject: str | None = None
    split: str | None = None

    @property
    def key(self) -> str:
        return f"{self.modality}/{self.domain}/{self.id}"


@dataclass
class Pairing:
    """What was found; `skipped` says why a file is not taken."""

    pairs: list[SourcePair] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)


def pair_members(recipe: Recipe, members: Sequence[Member]) -> Pairing:
    """Pairs the files of a download by the recipe's layouts; opens none but a table of subjects.

    A pair that several layouts find is taken by the first of them.
    """
    pairing, taken = Pairing(), dict[str, SourcePair]()
    placed = _placed(members)
    for layout in recipe.layouts:
        for pair in _pairs_of(recipe, layout, placed, pairing.skipped):
            first = taken.setdefault(pair.key, pair)
            if first is not pair and first.layout is layout:
                message = f"is taken from {first.image.path}, which gives the same name ({pair.id})."
                pairing.skipped.append(Problem("second copy", pair.image.path, message))
    used = {member.path for pair in taken.values() for member in (pair.image, *pair.masks)}
    pairing.skipped = [problem for problem in pairing.skipped if problem.file not in used]
    subjects = _subjects(recipe, placed, list(taken.values()))
    pairing.pairs = [replace(pair, subject=subjects.get(pair.id, pair.subject)) for _, pair in sorted(taken.items())]
    return pairing


def _pairs_of(
    recipe: Recipe, layout: Layout, placed: Sequence[tuple[Member, str]], skipped: list[Problem]
) -> list[SourcePair]:
    images = [(member, found) for member, place in placed if (found := layout.image_pattern.fullmatch(place))]
    masks: list[dict[tuple[str, ...], list[Member]]] = []
    for pattern in layout.mask_patterns:
        by_key: dict[tuple[str, ...], list[Member]] = {}
        for member, place in placed:
            if found := pattern.fullmatch(place):
                by_key.setdefault(_key(found, layout), []).append(member)
        masks.append(by_key)
    if not any(masks):
        return []  # the layout of another download
    pairs = []
    for member, found in images:
        parts = [by_key.get(_key(found, layout), []) for by_key in masks]
        own = [mask for part in parts for mask in part if mask is not member]
        if not all(parts) or not own:
            lacking = layout.masks[next((n for n, part in enumerate(parts) if not part), 0)]
            skipped.append(Problem("image without mask", member.path, f"no file fits {lacking}."))
            continue
        names = {name: text for name, text in found.groupdict().items() if text is not None}
        pairs.append(
            SourcePair(
                modality=layout.modality or recipe.modality,
                domain=recipe.domain,
                id=plain_id(_filled(layout.id, names)),
                image=member,
                masks=tuple(own),
                layout=layout,
                subject=_filled(layout.subject, names) or None,
                split=_filled(layout.split, names) or None,
            )
        )
    return pairs


def plain_id(text: str) -> str:
    """The text as an id: letters, digits and `_.+-`, everything else a `_`."""
    return _NOT_IN_NAMES.sub("_", text).strip("_")


def _placed(members: Sequence[Member]) -> list[tuple[Member, str]]:
    """With the paths that patterns are matched with. Some archives hold their folder and some only what is in it."""
    names = {source: _name_of(source) for source in {member.source for member in members}}
    return [(member, f"{names[member.source]}/{member.path}") for member in members]


def _name_of(source: Path) -> str:
    name = source.name if source.name not in ("", "..") else source.resolve().name
    return name[: len(name) - len(archive_suffix(name))]


def _key(found: re.Match[str], layout: Layout) -> tuple[str, ...]:
    return tuple(found[name].lower() for name in layout.shared)


def _filled(template: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: names[name[1]], template)


def _subjects(recipe: Recipe, placed: Sequence[tuple[Member, str]], pairs: Sequence[SourcePair]) -> dict[str, str]:
    """Id -> subject, from a table in the download or from ranges of numbers."""
    known = recipe.subjects
    if known is None:
        return {}
    if known.ranges:
        return {
            pair.id: f"{number}"
            for pair in pairs
            if (digits := re.search(r"\d+", pair.id))
            for number, (first, last) in enumerate(known.ranges, 1)
            if first <= int(digits[0]) <= last
        }
    pattern, key, column = compile_pattern(known.table), known.key.lower(), known.column.lower()
    found = {}
    for member, place in placed:
        if pattern.fullmatch(place):
            for row in _rows(member, key, column):
                if row[0] and row[1]:
                    found[plain_id(row[0])] = row[1]
    return found


def _rows(member: Member, *columns: str) -> list[list[str]]:
    """The cells of these columns; raises UserError where it is no table that has them."""
    try:
        with member.open() as file:
            table = parse_table(decode_text(file.read()), columns)
        names = [name.lower() for name in table.columns]
        places = [names.index(column) for column in columns]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{member}: expected a table with the columns {' and '.join(columns)} ({error}).") from error
    return [[cells[place] if place < len(cells) else "" for place in places] for _, cells in table.rows]

"""`Recipe`: how a public dataset becomes pairs. One YAML file in `harness/data/catalogue` each, read here.

    title, citation, licence, home: for people
    modality: the canonical folder; `domain`, when it is not the file's name
    pairs: how many a whole download gives
    download: which parts to take
    layouts: as seen in the wild, each
        image: a pattern        masks: a pattern, or a list of which each must be found; the mask is the union of all
        seen: where this layout is documented; absent: not confirmed
        id, subject, split: texts with names of the pattern in braces      modality: of this layout alone (disc and cup)
        foreground: what is the object in a mask that is not plainly black and white (see `masks.py`)
        fit: `image` or `mask`, the one that is resized where their sizes differ; `crop_left`: half of the image to keep
        masks_as: outlines in files that are no pictures, by their format
    subjects: {table, key, column} of a table in the download (commas, semicolons or tabs), by its columns for the id and the
        subject, or {ranges: [[first, last], ...]} of a number in the id: its subject is the number of its range, from 1
    traps: what people get wrong

A pattern is the end of a path, whose first part is the name of the folder or archive that was given (without `.zip` and the like).
`*` is any text within a part, `{name}` the same with a name, `{name:regex}` a stricter one. Image and masks belong together where
the names they share have the same text. Case plays no part.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml

from harness.config.validation import Checked, Expected, OneOf, Range, Text, validated
from harness.data.sources.masks import FOREGROUND
from harness.data.sources.outlines import FORMATS
from harness.errors import UserError, did_you_mean

FOLDER = Path(__file__).parent.parent / "catalogue"
_FOREGROUND = Expected("nonzero, > 127, < 128, = 1, 2 or rgb 255 0 0", pattern=f"^(?:{FOREGROUND.pattern})$")
_TOKEN = re.compile(r"\{(?P<name>[a-z_]+)(?::(?P<regex>[^{}]+(?:\{\d+\}[^{}]*)*))?\}|(?P<star>\*)")


class OneOrMore(Expected):
    """In an annotation of a list: one item may stand for the list of it alone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        listed = super().__get_pydantic_core_schema__(source, handler)
        return core_schema.no_info_before_validator_function(lambda x: [x] if isinstance(x, str) else x, listed)


@dataclass(frozen=True)
class Layout(Checked):
    """One way in which a dataset is packed; see the top of this file."""

    image: Text
    masks: Annotated[tuple[Text, ...], OneOrMore("a pattern or a list of patterns", min_length=1)]
    seen: str = ""
    id: str = "{id}"
    subject: str = ""
    split: str = ""
    modality: str = ""
    foreground: Annotated[str, _FOREGROUND] | None = None
    fit: Annotated[str, OneOf("", "image", "mask")] = ""
    crop_left: bool = False
    masks_as: Annotated[str, OneOf("", *FORMATS)] = ""

    @cached_property
    def image_pattern(self) -> re.Pattern[str]:
        return compile_pattern(self.image)

    @cached_property
    def mask_patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(compile_pattern(mask) for mask in self.masks)

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The names by which image and masks find each other."""
        groups = [set(pattern.groupindex) for pattern in (self.image_pattern, *self.mask_patterns)]
        return tuple(sorted(set.intersection(*groups)))


@dataclass(frozen=True)
class Subjects(Checked):
    """Whose an image is: by a table in the download, or by ranges of the number in its id; see the top of this file."""

    table: str = ""
    key: str = ""
    column: str = ""
    ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Recipe(Checked):
    """A public dataset: what it is, whose it is, and how its archives become pairs."""

    name: str
    title: Text
    modality: Text
    citation: Text
    licence: Text
    home: Text
    download: Text
    pairs: Annotated[int, Range(1)] | None
    layouts: tuple[Layout, ...]
    domain: str = ""
    subjects: Subjects | None = None
    traps: tuple[Text, ...] = ()

    @property
    def modalities(self) -> list[str]:
        """The canonical folders that its pairs go to: several where it holds masks of several structures."""
        return sorted({layout.modality or self.modality for layout in self.layouts})

    @property
    def confirmed(self) -> bool:
        """Whether some layout was found documented by others."""
        return any(layout.seen for layout in self.layouts)


def compile_pattern(text: str) -> re.Pattern[str]:
    """A pattern as a regular expression that is matched with a whole path."""
    parts, at = [], 0
    for token in _TOKEN.finditer(text):
        parts.append(re.escape(text[at : token.start()]))
        name, regex = token["name"], token["regex"] or "[^/]+?"
        parts.append("[^/]*?" if token["star"] else f"(?P<{name}>{regex})")
        at = token.end()
    parts.append(re.escape(text[at:]))
    return re.compile(f"(?:.*/)?{''.join(parts)}", re.IGNORECASE)


@cache
def recipes() -> dict[str, Recipe]:
    """All recipes of the catalogue by name, in the order of their files."""
    return {path.stem: read_recipe(path) for path in sorted(FOLDER.glob("*.yaml"))}


def recipe(name: str) -> Recipe:
    """Raises UserError: no such dataset in the catalogue."""
    known = recipes()
    if name.lower() not in known:
        raise UserError(
            f"The catalogue has no dataset '{name}'.{did_you_mean(name.lower(), known)} `python -m harness data list` shows"
            " all. For data of your own: `python -m harness data add FOLDER`."
        )
    return known[name.lower()]


def read_recipe(path: Path) -> Recipe:
    """Reads one file of the catalogue.

    Raises:
        UserError: a key is missing or unknown, or a pattern makes no sense.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        names = {"name": path.stem, "domain": path.stem}
        found = validated(Recipe, {**names, **content} if isinstance(content, dict) else content)
        if (known := found.subjects) and not known.ranges and not (known.table and known.key and known.column):
            raise UserError("subjects: expected table, key and column, or ranges.")
        for number, layout in enumerate(found.layouts):
            if not layout.shared:
                raise UserError(f"layouts[{number}]: nothing joins {layout.image} and {', '.join(layout.masks)}.")
    except (UserError, yaml.YAMLError, re.error) as error:
        raise UserError(f"{path} is no recipe as harness/data/sources/recipe.py describes it: {error}") from error
    return found

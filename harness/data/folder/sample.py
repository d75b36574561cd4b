"""What a dataset is made of: pairs of an image and its mask, and the problems found with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

MODALITIES = ("dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy")
"""The canonical names; the index is the modality number De-LightSAM was published with."""

MANIFEST = "manifest.csv"

LONGEST_NAME = 200
"""Bytes of an id, a domain or a modality: file systems allow 255, and what is written beside a file adds a few."""

_BAD_CHARACTER = re.compile(r"[/\\\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")

SHOWN_LINES = 12
SHOWN_OF_A_KIND = 3


@dataclass(frozen=True)
class Pair:
    """An image and its mask on the disk (absolute paths); `id` is unique within its modality and domain."""

    modality: str
    domain: str
    id: str
    image: Path
    mask: Path

    @property
    def key(self) -> str:
        """The name of the pair everywhere: in splits, in caches and in the rows of results."""
        return f"{self.modality}/{self.domain}/{self.id}"

    @property
    def domain_key(self) -> str:
        """`"modality/domain"`: a domain's name alone may occur in several modalities."""
        return f"{self.modality}/{self.domain}"


@dataclass(frozen=True)
class Sample(Pair):
    """A pair with what the manifest says of it.

    `width` and `height` are in pixels of the image as shown (EXIF orientation applied), `foreground_fraction` in
    [0, 1], hashes are SHA-256 of the files' bytes, `subject` is the patient where it is known. `white_level` is the value
    that is white, where the image's format does not tell (see harness/data/reading/image.py). `split` is the part of an official
    division: train, validation or test.
    """

    width: int
    height: int
    foreground_fraction: float
    sha256_image: str
    sha256_mask: str
    subject: str | None = None
    white_level: float | None = None
    split: str | None = None

    @property
    def image_content(self) -> str:
        """What the image shows: the hash of its file, and its white level where it has one."""
        return self.sha256_image if self.white_level is None else f"{self.sha256_image}@{self.white_level:g}"


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file or folder. `kind` is the cause; `message` says what was expected, what was found and
    what to do; `images` are those that a person should see side by side."""

    kind: str
    file: str
    message: str
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


def fault_of_name(name: str) -> str | None:
    """Why `name` can be no id, domain or modality, in words that end a sentence after "found"; None where it can.

    Names become parts of paths, cells of tables and words on a command line, and must come out of each as they went in.
    """
    if not name or name in (".", ".."):
        return f"'{name}', which is no name"
    if name != name.strip():
        return f"'{name}' with a blank at its end or beginning"
    if found := _BAD_CHARACTER.search(name):
        kind = {"/": "a slash", "\\": "a backslash"}.get(found[0])
        kind = kind or ("bytes that are no UTF-8" if "\ud800" <= found[0] <= "\udfff" else "a control character")
        return f"{name!r} with {kind}" if kind != "a slash" else f"'{name}' with a slash"
    size = len(name.encode())
    return f"a name of {size} bytes (at most {LONGEST_NAME} fit beside a suffix)" if size > LONGEST_NAME else None


def list_problems(problems: Sequence[Problem], limit: int = SHOWN_LINES) -> str:
    """Every cause once: a few problems of a kind on a line each, many of them as one line with their count and examples.

    When that gives more than `limit` lines, every kind gets one line: a hundred orphans must not hide one damaged file.
    """
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    lines = [line for group in kinds.values() for line in _lines(group, SHOWN_OF_A_KIND)]
    if len(lines) > limit:
        lines = [line for group in kinds.values() for line in _lines(group, 1)]
    return "\n".join(f"  {line}" for line in lines)


def _lines(group: Sequence[Problem], most: int) -> list[str]:
    """The lines on problems of one kind."""
    if len(group) <= most:
        return [str(problem) for problem in group]
    others = [problem.file for problem in group[1:SHOWN_OF_A_KIND]]
    hidden = len(group) - 1 - len(others)
    also = ", ".join(others) + (f" and {hidden} more" if hidden else "")
    return [f"{len(group)} x {group[0].kind}: {group[0]} Also: {also}."]


def raise_problems(root: Path, problems: Sequence[Problem], hint: str = "") -> None:
    """Raises one UserError that lists the problems, if there are any, and ends with the hint."""
    if not problems:
        return
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise UserError(f"The dataset at {root} has {count}:\n{list_problems(problems)}" + (f"\n{hint}" if hint else ""))


Progress = Callable[[int, int], None]
"""Called with (done, total)."""

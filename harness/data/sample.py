"""What a dataset is made of: pairs of an image and its mask, and the problems found with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

MODALITIES = ("dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy")
"""The canonical names; the index is the modality number De-LightSAM was published with."""

SHOWN_PROBLEMS = 20


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
    [0, 1], hashes are SHA-256 of the files' bytes, `spacing_mm` is the side of a (square) pixel.
    """

    width: int
    height: int
    foreground_fraction: float
    sha256_image: str
    sha256_mask: str
    subject: str | None = None
    spacing_mm: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file. `message` says what was expected, what was found and what to do."""

    kind: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


def list_problems(problems: Sequence[Problem], limit: int = SHOWN_PROBLEMS) -> str:
    """One line a problem, at most `limit` of them, and how many of each kind there are when that hides some.

    When some are hidden, every kind gets its share of the lines: a hundred orphans must not hide one damaged file.
    """
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    share = max(1, limit // max(1, len(kinds)))
    shown = list(problems) if len(problems) <= limit else [p for group in kinds.values() for p in group[:share]]
    lines = [f"  {problem}" for problem in shown]
    if len(shown) < len(problems):
        counts = ", ".join(f"{len(group)} x {kind}" for kind, group in kinds.items())
        lines.append(f"  ... and {len(problems) - len(shown)} more. All: {counts}.")
    return "\n".join(lines)


def raise_problems(root: Path, problems: Sequence[Problem]) -> None:
    """Raises one UserError that lists the problems, if there are any."""
    if not problems:
        return
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise UserError(f"The dataset at {root} has {count}:\n{list_problems(problems)}")

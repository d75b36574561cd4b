"""A public dataset of the catalogue: from its archives to the canonical folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.data.folder.sample import Problem, Progress
from harness.data.sources.archives import Member, read_sources, unpack_nested
from harness.data.sources.pairing import Pairing, pair_members
from harness.data.sources.prepare import Outcome, prepare_pairs, scratch_beside
from harness.data.sources.recipe import Recipe
from harness.errors import UserError, some

_SHOWN = 12


@dataclass(frozen=True)
class Preparation:
    """What a download gave.

    Attributes:
        skipped: files that were not taken, and why.
        outcome: of the pairs.
    """

    recipe: Recipe
    skipped: list[Problem]
    outcome: Outcome

    @property
    def complete(self) -> bool:
        """Whether there are as many pairs as a whole download gives."""
        per_modality = len(self.recipe.modalities)
        return self.recipe.pairs is None or len(self.outcome.pairs) == self.recipe.pairs * per_modality


def prepare_public(
    recipe: Recipe, sources: Sequence[Path], root: Path, progress: Progress | None = None
) -> Preparation:
    """Pairs what is in the sources and writes it below `root`.

    Args:
        sources: archives and folders, as downloaded.
        root: the canonical folder.

    Raises:
        UserError: a source that is missing or refused, or in which nothing fits the recipe.
    """
    root = root.expanduser().absolute()
    with scratch_beside(root) as scratch:
        members = read_sources(sources, scratch)
        pairing = pair_members(recipe, members)
        if not pairing.pairs:
            members = [*members, *unpack_nested(members, scratch)]
            pairing = pair_members(recipe, members)
        if not pairing.pairs:
            raise UserError(_nothing_fits(recipe, sources, members, pairing))
        about: dict[str, Any] = {
            "dataset": recipe.name, "title": recipe.title, "citation": recipe.citation, "licence": recipe.licence,
            "home": recipe.home, "sources": [path.name for path in sources], "traps": list(recipe.traps),
        }  # fmt: skip
        about["skipped"] = {problem.file: problem.message for problem in pairing.skipped}
        outcome = prepare_pairs(pairing.pairs, root, about, progress)
    return Preparation(recipe, pairing.skipped, outcome)


def _nothing_fits(recipe: Recipe, sources: Sequence[Path], members: Sequence[Member], pairing: Pairing) -> str:
    folders = sorted({str(PurePosixPath(member.path).parent) for member in members})
    shown = some(folders, _SHOWN)
    expected = "\n".join(f"  {layout.image}  with  {' and '.join(layout.masks)}" for layout in recipe.layouts)
    lone = (
        f" {len(pairing.skipped)} images have no mask there: give the archive of the masks too."
        if pairing.skipped
        else ""
    )
    return (
        f"{', '.join(map(str, sources))}: found no pair of {recipe.title} in {len(members)} files (folders: {shown}).{lone}"
        f" Expected one of these layouts:\n{expected}\n"
        f"To take: {recipe.download}. Packed otherwise? `python -m harness data add FOLDER` takes any folder."
    )

"""Matches mask files to images by name and reports missing, extra and ambiguous files.

Three layouts, found by looking:

    <folder>/<modality>/<domain>/<id>.png           one set of masks: each image tested by a model that never saw its domain
    <folder>/<split>/<modality>/<domain>/<id>.png   a set for each split of the protocol (fold0, fold1, ...)
    <folder>/<id>.png, <folder>/<split>/<id>.png    the same, where no two of the images asked for share an id

One set is tested in every split that has the image among its test images. Where a modality has fewer domains than
another, an image is tested in several splits; with masks for each split it counts by the mean of all, as the bench's own
methods do. Sets for each split may hold the split's validation images too: then there is a seen Dice and a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, found_at, kinds_of
from harness.evaluation.external.mask_files import FORMATS, suffix_of
from harness.files import files_below

if TYPE_CHECKING:
    from harness.protocols.split import Split

SHOWN = 5


@dataclass(frozen=True)
class ExternalMasks:
    """What was found.

    Attributes:
        files: split name -> key -> file, of test and validation images.
        missing: split name -> keys of test images without a mask, sorted; splits that lack nothing are not in it.
        extra: masks of no image asked for, sorted.
        per_split: whether there is a set for each split.
    """

    files: dict[str, dict[str, Path]]
    missing: dict[str, list[str]]
    extra: list[Path]
    per_split: bool


def match_masks(folder: Path, splits: Sequence[Split]) -> ExternalMasks:
    """Finds the masks of the splits' images below `folder`; opens none of them.

    Raises:
        UserError: no such folder, no masks in it, none that fits, two files for one image, or flat names that may mean
            several images.
    """
    if not folder.is_dir():
        raise UserError(f"predictions={folder}: expected a folder of masks, found {found_at(folder)}")
    shown = [path for path in files_below(folder) if not _is_hidden(path.relative_to(folder))]
    found = [path for path in shown if suffix_of(path)]
    if not found:
        there = kinds_of(path.relative_to(folder).as_posix() for path in shown)
        raise UserError(f"predictions={folder}: expected masks ({', '.join(FORMATS)}) below it, found {there}.")
    names = {split.name for split in splits}
    # A split may have the name of a modality (`in_domain` with one model for each): the layout that fits more files is meant.
    sets = [
        per_split
        for per_split in (True, False)
        if not per_split or any(_first(path, folder) in names for path in found)
    ]
    readings = [(per_split, *_match_all(folder, found, splits, per_split)) for per_split in sets]
    per_split, files, used = max(readings, key=lambda reading: len(reading[2]))
    if not used:
        raise UserError(_nothing_fits(folder, found, splits, per_split))
    lacking = {split.name: sorted(set(split.test) - files[split.name].keys()) for split in splits}
    return ExternalMasks(
        files, {name: keys for name, keys in lacking.items() if keys}, sorted(set(found) - used), per_split
    )


def _first(path: Path, folder: Path) -> str:
    return path.relative_to(folder).parts[0]


def _match_all(
    folder: Path, found: Sequence[Path], splits: Sequence[Split], per_split: bool
) -> tuple[dict[str, dict[str, Path]], set[Path]]:
    """The files of each split by key, with or without a set for each split; and all of them."""
    files: dict[str, dict[str, Path]] = {}
    used: set[Path] = set()
    for split in splits:
        scope = folder / split.name if per_split else folder
        # Without a set for each split a validation image's mask is of a model that never saw its domain: it is no seen one.
        wanted = [*split.test, *(split.validation if per_split else ())]
        # A set for all splits must be clear about every image of theirs, not only about those of one.
        others = wanted if per_split else [key for other in splits for key in other.test]
        files[split.name] = _match([path for path in found if path.is_relative_to(scope)], scope, wanted, others)
        used |= set(files[split.name].values())
    return files, used


def _match(files: Sequence[Path], scope: Path, wanted: Sequence[str], others: Sequence[str]) -> dict[str, Path]:
    keys_of_id: dict[str, set[str]] = {}
    for key in others:
        keys_of_id.setdefault(key.split("/", 2)[2], set()).add(key)
    asked = set(wanted)
    matched: dict[str, Path] = {}
    for path in files:
        parts = _named(path.relative_to(scope))
        name = "/".join(parts)
        if len(parts) == 1 and name in keys_of_id:
            meant = sorted(keys_of_id[name])
            if len(meant) > 1:
                raise UserError(
                    f"{path}: its name fits {len(meant)} images ({', '.join(meant[:SHOWN])}). Put masks into folders"
                    f" <modality>/<domain>, for example {scope / meant[0]}{suffix_of(path)}."
                )
            name = meant[0]
        if name not in asked:
            continue
        if name in matched:
            raise UserError(f"Expected one mask for {name}, found {matched[name]} and {path}. Keep one.")
        matched[name] = path
    return matched


def _named(relative: Path) -> tuple[str, ...]:
    """The parts of a mask's path, the last without its suffix."""
    return (*relative.parts[:-1], relative.name[: -len(suffix_of(relative))])


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _nothing_fits(folder: Path, found: list[Path], splits: Sequence[Split], per_split: bool) -> str:
    key = splits[0].test[0]
    base = folder / splits[0].name if per_split else folder
    return (
        f"None of the {len(found)} masks below {folder} is named as an image of the protocol's test sets. Expected for"
        f" example {base / key}.png, or {base / key.split('/', 2)[2]}.png where no two images share a name; found for"
        f" example {found[0]}.{_other_level(folder, found, splits)} Check protocol= and data.root=, and name masks as their"
        " images."
    )


def _other_level(folder: Path, found: Sequence[Path], splits: Sequence[Split]) -> str:
    """ " Did you mean predictions=...?" where the masks fit from a folder above or below."""
    keys = {key for split in splits for key in split.test}
    names = {split.name for split in splits}
    for parts in (_named(path.relative_to(folder)) for path in found):
        if "/".join((folder.resolve().name, *parts)) in keys:
            return f" Did you mean predictions={folder.resolve().parent}?"
        above = parts[:-3]
        if above and "/".join(parts[-3:]) in keys:
            return f" Did you mean predictions={folder.joinpath(*(above[:-1] if above[-1] in names else above))}?"
    return ""

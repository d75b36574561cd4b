"""The canonical folder: `<root>/<modality>/<domain>/images/<id>.<ext>` and `<root>/<modality>/<domain>/masks/<id>.png`.

Pairs its pictures by name and opens none of them. What a whole folder has wrong (its name, the names of all its masks) is
one problem and not one for each picture. A tree that is no canonical folder at all is explained in `layout_help.py`.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from harness.data.folder.layout_help import explain_layout, without_domain
from harness.data.folder.paths import (
    PARTS,
    Pictures,
    ambiguous,
    dead_link,
    dead_links,
    domain_folders,
    part_folder,
    pictures,
    relative,
    subfolders,
)  # fmt: skip
from harness.data.folder.sample import MODALITIES, Pair, Problem, fault_of_name
from harness.data.reading import SUFFIXES
from harness.errors import UserError, kinds_of, near_name, some

_TRIED_NAMES = 20
_MOST_HINTS = 50
"""Up to so many pictures without a partner, the nearest name is looked for: that takes the square of their number."""


logger = logging.getLogger(__name__)


@dataclass
class Scan:
    """What was found.

    Attributes:
        pairs: sorted by key.
        problems: pictures and folders that are not as they should be.
        warnings: what lies there and is not read.
    """

    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def scan_folder(root: Path) -> Scan:
    """Pairs the pictures of a canonical folder by name; opens none of them.

    Raises:
        UserError: the folder holds no `<modality>/<domain>/images`; says which level is missing.
    """
    domains = list(domain_folders(root))
    if not domains:
        raise UserError(explain_layout(root))
    scan = Scan(problems=without_domain(root))
    for folder in (root, *subfolders(root)):
        scan.problems += [dead_link(path, root) for path in dead_links(folder) if not path.name.startswith(".")]
    for folder in domains:
        _scan_domain(root, folder, scan)
    scan.pairs.sort(key=lambda pair: pair.key)
    for modality in sorted({pair.modality for pair in scan.pairs} - set(MODALITIES)):
        near = near_name(modality, MODALITIES)
        if near:
            logger.warning("%s: '%s' is none of the usual modalities.%s", root, modality, near)
    return scan


def _scan_domain(root: Path, folder: Path, scan: Scan) -> None:
    """Adds what the folder of a domain holds to `scan`."""
    problems = [_missing_part(root, folder, part) for part in PARTS if not (folder / part).is_dir()]
    problems += [_bad_name(path, path.name, root) for path in (folder.parent, folder) if fault_of_name(path.name)]
    if problems:
        scan.problems += [problem for problem in problems if problem not in scan.problems]
        return
    images, other_images = pictures(folder / "images")
    masks, other_masks = pictures(folder / "masks")
    if not images and not masks:
        message = f"expected pictures directly in its images and masks, found {_others(folder, [*other_images, *other_masks])}"
        scan.problems.append(Problem("empty domain", relative(folder, root), message))
        return
    scan.warnings += _unread(root, [*other_images, *other_masks])
    lone_masks, lone_images = sorted(masks.keys() - images.keys()), sorted(images.keys() - masks.keys())
    explained: set[str] = set()
    for part, lone, partners, of in (
        ("masks", lone_masks, lone_images, masks),
        ("images", lone_images, lone_masks, images),
    ):
        if affixes := _common_affixes(lone, partners):
            problem, named = _affix_problem(root, folder / part, affixes, lone, partners, of)
            scan.problems.append(problem)
            explained |= named
            break
    hints = len(lone_masks) + len(lone_images) - len(explained) <= _MOST_HINTS
    for stem in sorted(images.keys() | masks.keys()):
        if stem in explained:
            continue
        files = [*images.get(stem, []), *masks.get(stem, [])]
        problem_of_stem = (
            next((dead_link(file, root) for file in files if not file.exists()), None)
            or (_bad_name(files[0], stem, root) if fault_of_name(stem) else None)
            or _unpaired(root, folder, stem, images, masks, [*other_images, *other_masks], hints)
        )
        if problem_of_stem:
            scan.problems.append(problem_of_stem)
        else:
            scan.pairs.append(Pair(folder.parent.name, folder.name, stem, images[stem][0], masks[stem][0]))


def _others(folder: Path, entries: list[Path]) -> str:
    """What lies there in place of pictures, and what to do with it, for the end of a message."""
    inner = [relative(entry, folder) for entry in entries if entry.is_dir()]
    if inner:
        return f"only {'the folder' if len(inner) == 1 else 'the folders'} {some(inner)}. Move what is in them up, or remove this folder."
    files = [relative(entry, folder) for entry in entries]
    if not files:
        return "none. Add them, or remove this folder."
    return (
        f"only {kinds_of(files)}. Pictures are {', '.join(sorted(SUFFIXES))}: convert them (`python -m harness data add` reads"
        " NIfTI and DICOM), or remove this folder."
    )


def _bad_name(path: Path, name: str, root: Path) -> Problem:
    message = f"expected a name that paths and tables keep as it is, found {fault_of_name(name)}. Rename it."
    return Problem("unusable name", relative(path, root), message)


def _unread(root: Path, entries: list[Path]) -> list[Problem]:
    """Folders and files beside pictures."""
    return [
        Problem(
            "unread folder", relative(entry, root), "is a folder among pictures; what is in it is not read. Move it up."
        )
        if entry.is_dir()
        else Problem("unread file", relative(entry, root), f"is not read: none of {', '.join(sorted(SUFFIXES))}.")
        for entry in entries
    ]


def _missing_part(root: Path, folder: Path, part: str) -> Problem:
    near = part_folder(folder, part)
    if near is not None:
        message = f"expected the name '{part}' (in lower case), found '{near.name}'. Rename this folder to '{part}'."
        return Problem("folder name", relative(near, root), message)
    other = PARTS[1 - PARTS.index(part)]
    message = f"expected the folders images and masks, found only {other}. Add {part}, or remove this folder."
    return Problem("missing folder", relative(folder, root), message)


def _common_affixes(names: list[str], partners: list[str]) -> tuple[str, str] | None:
    """What most of `names` have before and after the name of a partner (`("", "_mask")`), when at least two have it."""
    candidates = Counter(
        (name[:at], name[at + len(partner) :])
        for name in names[:_TRIED_NAMES]
        for partner in partners
        if (at := name.find(partner)) >= 0
    )
    counts = {affixes: len(_with_affixes(affixes, names, partners)) for affixes, _ in candidates.most_common(5)}
    best = max(counts, key=lambda affixes: counts[affixes], default=None)
    return best if best is not None and counts[best] > 1 else None


def _with_affixes(affixes: tuple[str, str], names: list[str], partners: list[str]) -> dict[str, str]:
    """Of the `names` that are a partner's name between `affixes`: name -> partner."""
    before, after = affixes
    found = {
        name: name[len(before) : len(name) - len(after)]
        for name in names
        if name.startswith(before) and name.endswith(after)
    }
    known = set(partners)
    return {name: partner for name, partner in found.items() if partner in known}


def _affix_problem(
    root: Path, folder: Path, affixes: tuple[str, str], lone: list[str], partners: list[str], pictures_there: Pictures
) -> tuple[Problem, set[str]]:
    """One problem for all of them, and the stems, of both parts, that it explains."""
    before, after = affixes
    named = _with_affixes(affixes, lone, partners)
    part, partner = folder.name, "image" if folder.name == "masks" else "mask"
    words = [f"start with '{before}'"] if before else []
    words += [f"end in '{after}'"] if after else []
    count = f"all {len(named)}" if len(named) == len(pictures_there) else f"{len(named)} of {len(pictures_there)}"
    name, new = next(iter(named.items()))
    file = pictures_there[name][0]
    message = (
        f"{count} {part} {' and '.join(words)}: rename them so that each {part[:-1]} has its {partner}'s name "
        f"({file.name} -> {new}{file.suffix})."
    )
    return Problem(f"names of {part}", relative(folder, root), message), named.keys() | set(named.values())


def _unpaired(
    root: Path, folder: Path, stem: str, images: Pictures, masks: Pictures, others: list[Path], hints: bool
) -> Problem | None:
    for files in (images.get(stem, []), masks.get(stem, [])):
        if problem := ambiguous(root, files):
            return problem
    if stem in images and stem in masks:
        return None
    here, kind, there = (
        (images, "image without mask", "masks") if stem in images else (masks, "mask without image", "images")
    )
    partner = "mask" if there == "masks" else "image"
    expected = relative(folder / there / (f"{stem}.png" if partner == "mask" else f"{stem}.<ext>"), root)
    # Of `0.nii.gz` the stem is no name: the id is what stands before the suffixes.
    unread = [
        file.name
        for file in others
        if file.parent.name == there and (file.name == stem or file.name.startswith(f"{stem}."))
    ]
    partners = masks if partner == "mask" else images
    near = get_close_matches(stem, partners.keys(), n=1, cutoff=0.6) if hints else []
    found = f"only {unread[0]}, which is none of {', '.join(sorted(SUFFIXES))}" if unread else "none"
    hint = f" The nearest name there is '{near[0]}'." if near and not unread else ""
    todo = "Convert it, or remove both." if unread else f"Add the {partner}, or remove this file."
    message = f"expected its {partner} {expected}, found {found}.{hint} {todo}"
    return Problem(kind, relative(here[stem][0], root), message)

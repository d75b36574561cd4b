"""The folders and pictures of a canonical dataset, found by name; nothing is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.folder.sample import Problem
from harness.data.reading import SUFFIXES

PARTS = ("images", "masks")
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
_OTHER_NAMES = {
    "images": {"images", "image", "imgs", "img"},
    "masks": {
        "masks", "mask", "labels", "label", "gt", "groundtruth", "ground_truth", "annotations", "segmentations",
        "segmentation",
    },
}  # fmt: skip


Pictures = dict[str, list[Path]]
"""Pictures by stem: more than one where only their suffixes differ."""


def canonical_files(root: Path) -> list[Path]:
    """All pictures in the folders `<modality>/<domain>/{images,masks}`, sorted."""
    return [
        file
        for folder in domain_folders(root)
        for part in PARTS
        for files in pictures(folder / part)[0].values()
        for file in files
    ]


def relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def domain_folders(root: Path) -> Iterator[Path]:
    """The folders `<modality>/<domain>` that hold images or masks, also when those folders are named a little otherwise."""
    for modality in subfolders(root):
        for domain in subfolders(modality):
            if has_parts(domain):
                yield domain


def subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def has_parts(folder: Path) -> bool:
    return any(part_folder(folder, part) is not None for part in PARTS)


def dead_links(folder: Path) -> list[Path]:
    """Links in `folder` that lead nowhere, or in a circle."""
    return [entry for entry in sorted(folder.iterdir()) if entry.is_symlink() and not entry.exists()]


def dead_link(path: Path, root: Path) -> Problem:
    message = (
        f"expected what the link leads to ({path.readlink()}), found nothing there. Restore it, or remove the link."
    )
    return Problem("dead link", relative(path, root), message)


def part_folder(folder: Path, part: str) -> Path | None:
    """The folder of images or of masks in `folder`: the one of that name, else one that may be meant (`Images`, `img`)."""
    if (folder / part).is_dir():
        return folder / part
    return next((entry for entry in subfolders(folder) if entry.name.lower() in _OTHER_NAMES[part]), None)


def pictures(folder: Path) -> tuple[Pictures, list[Path]]:
    """Pictures by stem, and the other entries (hidden ones apart); nothing of a folder that is not there."""
    found: Pictures = {}
    others = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES:
            continue
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, []).append(path)
        else:
            others.append(path)
    return found, others


def ambiguous(root: Path, files: list[Path]) -> Problem | None:
    if len(files) < 2:
        return None
    names = " and ".join(file.name for file in files)
    return Problem("ambiguous name", relative(files[0], root), f"expected one file a name, found {names}. Keep one.")

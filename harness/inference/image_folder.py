"""The images below a folder, and the file that each one's mask goes to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.data.reading import SUFFIXES
from harness.errors import UserError
from harness.files import files_below


@dataclass(frozen=True)
class ImageFolder:
    """What was found below `root`.

    Attributes:
        images: relative paths, sorted.
        skipped: reason -> relative paths of files that are no images to segment.
    """

    root: Path
    images: list[Path]
    skipped: dict[str, list[Path]]

    def mask_names(self) -> list[Path]:
        """Relative path of each image's mask, no two alike: `a/x.jpg` -> `a/x.png`, but `a/x.jpg.png` beside another `a/x`."""
        names = [path.with_suffix(".png") for path in self.images]
        whole = [path.with_name(f"{path.name}.png") for path in self.images]
        # A whole name may meet the short one of another image, which then needs its whole name, too.
        while len(set(names)) < len(names):
            counts = Counter(names)
            names = [full if counts[name] > 1 else name for name, full in zip(names, whole, strict=True)]
        return names


def find_images(root: Path, leave_out: Sequence[Path] = ()) -> ImageFolder:
    """All images below a folder, or the one image that `root` is.

    Left out are hidden files, the folders `leave_out`, and a `masks` folder beside an `images` folder (a dataset's).

    Raises:
        UserError: no such folder, or no image in it.
    """
    root = root.expanduser().resolve()
    if root.is_file() and root.suffix.lower() in SUFFIXES:
        return ImageFolder(root.parent, [Path(root.name)], {})
    if not root.is_dir():
        raise UserError(f"Expected a folder of images, found {'no image' if root.exists() else 'nothing'} at {root}.")
    left_out = [folder.resolve() for folder in leave_out]
    images: list[Path] = []
    skipped: dict[str, list[Path]] = {}
    for path in files_below(root):
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if any(folder in path.parents for folder in left_out):
            continue
        if not path.is_file():
            skipped.setdefault("a link to nothing" if path.is_symlink() else "no file", []).append(relative)
        elif path.suffix.lower() not in SUFFIXES:
            skipped.setdefault(f"not an image ({path.suffix.lower() or 'no suffix'})", []).append(relative)
        elif _is_datasets_mask(path):
            skipped.setdefault("a dataset's mask", []).append(relative)
        else:
            images.append(relative)
    if not images:
        found = ", ".join(f"{len(paths)} files that are {why}" for why, paths in skipped.items()) or "no files"
        raise UserError(f"Expected images ({', '.join(sorted(SUFFIXES))}) below {root}, found {found}.")
    return ImageFolder(root, images, skipped)


def _is_datasets_mask(path: Path) -> bool:
    return any(folder.name == "masks" and (folder.parent / "images").is_dir() for folder in path.parents)

"""The manifest of a dataset: read, written, or made by scanning the canonical folder.

Canonical folder: `<root>/<modality>/<domain>/images/<id>.<ext>` and `<root>/<modality>/<domain>/masks/<id>.png`,
and `<root>/manifest.csv` with one row a pair. Problems of single rows and files are collected, so that a user sees all
of them at once; what makes the whole unreadable is raised.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

from harness.data.images import SUFFIXES
from harness.data.sample import MODALITIES, Pair, Problem, Sample
from harness.errors import UserError, did_you_mean

MANIFEST = "manifest.csv"
REQUIRED = (
    "modality",
    "domain",
    "id",
    "image",
    "mask",
    "width",
    "height",
    "foreground_fraction",
    "sha256_image",
    "sha256_mask",
)
OPTIONAL = ("subject", "split", "spacing_mm")

_NAME = re.compile(r"(?!\.{1,2}$)[^\s/\\\x00-\x1f](?:[^/\\\x00-\x1f]*[^\s/\\\x00-\x1f])?$")
_SHA256 = re.compile(r"[0-9a-f]{64}$")

logger = logging.getLogger(__name__)


def read_manifest(root: Path) -> tuple[list[Sample], list[Problem]]:
    """Reads `<root>/manifest.csv` and sees that the files it names are there; opens none of them.

    Returns:
        The good rows sorted by key, and the problems of the others.

    Raises:
        UserError: the manifest is no UTF-8 CSV, has no rows, or lacks columns.
    """
    path = root / MANIFEST
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected a CSV file in UTF-8, found something else ({error}). Restore it.") from error
    columns = list(reader.fieldnames or [])
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise UserError(
            f"{path}: expected the columns {', '.join(REQUIRED)}; {', '.join(missing)} missing, "
            f"found {', '.join(columns) or 'nothing'}. Add what is missing, or move the manifest away: "
            "the folder is then scanned and gets a new one."
        )
    for column in columns:
        near = get_close_matches(column or "", OPTIONAL, n=1, cutoff=0.75)
        if column not in OPTIONAL and column not in REQUIRED and near:
            logger.warning("%s: the column '%s' is not used. Did you mean '%s'?", path, column, near[0])
    if not rows:
        raise UserError(f"{path}: expected one row a pair, found none. Move it away to have the folder scanned.")
    samples, problems = [], []
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"{MANIFEST} line {line}"
        try:
            sample = _parse(root, row)
        except ValueError as error:
            problems.append(Problem("bad row", where, str(error)))
            continue
        first = seen.setdefault(sample.key, line)
        if first != line:
            message = f"expected every pair once, found {sample.key} here and in line {first}. Remove one of them."
            problems.append(Problem("duplicate row", where, message))
            continue
        samples.append(sample)
    for sample in samples:
        for file in (sample.image, sample.mask):
            if not file.is_file():
                message = f"expected the file of {sample.key}, found none. Restore it, or remove its row in {MANIFEST}."
                problems.append(Problem("missing file", relative(file, root), message))
    return sorted(samples, key=lambda sample: sample.key), problems


def manifest_text(root: Path, samples: Iterable[Sample]) -> str:
    """The manifest of `samples`; optional columns only where some sample has a value."""
    ordered = sorted(samples, key=lambda sample: sample.key)
    optional = [name for name in OPTIONAL if any(getattr(sample, name) is not None for sample in ordered)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*REQUIRED, *optional])
    for sample in ordered:
        row = {name: getattr(sample, name) for name in (*REQUIRED, *optional)}
        row |= {"image": relative(sample.image, root), "mask": relative(sample.mask, root)}
        row["foreground_fraction"] = f"{sample.foreground_fraction:.6f}"
        writer.writerow(["" if value is None else value for value in row.values()])
    return text.getvalue()


def scan_folder(root: Path) -> tuple[list[Pair], list[Problem]]:
    """Pairs the pictures of a canonical folder by name; opens none of them.

    Returns:
        The pairs sorted by key, and the pictures without a partner.

    Raises:
        UserError: the folder holds no `<modality>/<domain>/images`.
    """
    pairs: list[Pair] = []
    problems: list[Problem] = []
    domains = list(_domain_folders(root))
    if not domains:
        inside = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        found = ", ".join(inside[:8]) + (" ..." if len(inside) > 8 else "") if inside else "an empty folder"
        deeper = sorted(root.glob(f"*/{MANIFEST}"))
        hint = f" Did you mean {deeper[0].parent}?" if deeper else ""
        raise UserError(
            f"{root}: expected {MANIFEST}, or folders <modality>/<domain>/images and <modality>/<domain>/masks; "
            f"found {found}.{hint} Without data of your own, draw some: `python -m harness data phantoms --out FOLDER`."
        )
    for folder in domains:
        modality, domain = folder.parent.name, folder.name
        images, other_images = _pictures(folder / "images")
        masks, other_masks = _pictures(folder / "masks")
        for stem in sorted(images.keys() | masks.keys()):
            problem = _unpaired(root, folder, stem, images, masks, [*other_images, *other_masks])
            if problem:
                problems.append(problem)
            else:
                pairs.append(Pair(modality, domain, stem, images[stem][0], masks[stem][0]))
    for modality in sorted({pair.modality for pair in pairs} - set(MODALITIES)):
        near = did_you_mean(modality, MODALITIES)
        if "Did you mean" in near:
            logger.warning("%s: '%s' is none of the usual modalities.%s", root, modality, near)
    return sorted(pairs, key=lambda pair: pair.key), problems


def orphans(root: Path, samples: Iterable[Pair]) -> list[Problem]:
    """Pictures in the canonical folders that the manifest does not name."""
    named = {file for sample in samples for file in (sample.image, sample.mask)}
    message = f"expected a row in {MANIFEST}, found none: the file is not used. Remove it, or move {MANIFEST} away to "
    message += "have the folder scanned again."
    return [
        Problem("orphan file", relative(file, root), message) for file in canonical_files(root) if file not in named
    ]


def canonical_files(root: Path) -> list[Path]:
    """All pictures in the folders `<modality>/<domain>/{images,masks}`, sorted."""
    return [
        file
        for folder in _domain_folders(root)
        for part in ("images", "masks")
        for files in _pictures(folder / part)[0].values()
        for file in files
    ]


def relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _domain_folders(root: Path) -> Iterator[Path]:
    for modality in _subfolders(root):
        for domain in _subfolders(modality):
            if (domain / "images").is_dir() or (domain / "masks").is_dir():
                yield domain


def _subfolders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _pictures(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Pictures by stem, and the other files (hidden ones apart)."""
    pictures: dict[str, list[Path]] = {}
    others = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.name == "Thumbs.db":
            continue
        if path.suffix.lower() in SUFFIXES:
            pictures.setdefault(path.stem, []).append(path)
        else:
            others.append(path)
    return pictures, others


def _unpaired(
    root: Path,
    folder: Path,
    stem: str,
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    others: list[Path],
) -> Problem | None:
    for files in (images.get(stem, []), masks.get(stem, [])):
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            return Problem(
                "ambiguous name", relative(files[0], root), f"expected one file a name, found {names}. Keep one."
            )
    if stem in images and stem in masks:
        return None
    here, kind, there = (
        (images, "image without mask", "masks") if stem in images else (masks, "mask without image", "images")
    )
    partner = "mask" if there == "masks" else "image"
    expected = relative(folder / there / (f"{stem}.png" if partner == "mask" else f"{stem}.<ext>"), root)
    unread = [file.name for file in others if file.stem == stem and file.parent.name == there]
    near = get_close_matches(stem, (masks if partner == "mask" else images).keys(), n=1, cutoff=0.6)
    found = f"only {unread[0]}, which is none of {', '.join(sorted(SUFFIXES))}" if unread else "none"
    hint = f" The nearest name there is '{near[0]}'." if near and not unread else ""
    message = f"expected its {partner} {expected}, found {found}.{hint} Add the {partner}, or remove this file."
    return Problem(kind, relative(here[stem][0], root), message)


def _parse(root: Path, row: dict[str, str]) -> Sample:
    """One row as a sample. Raises ValueError with words for the user."""
    if None in row or None in row.values():
        raise ValueError("expected as many values as there are columns, found more or fewer. Mend the row.")
    cells = {name: value.strip() for name, value in row.items()}
    for name in ("modality", "domain", "id"):
        if not _NAME.match(cells[name]):
            raise ValueError(f"expected a name without slashes as {name}, found '{cells[name]}'. Mend the row.")
    for name in ("sha256_image", "sha256_mask"):
        if not _SHA256.match(cells[name].lower()):
            raise ValueError(f"expected 64 hexadecimal digits as {name}, found '{cells[name]}'. Mend the row.")
    return Sample(
        modality=cells["modality"],
        domain=cells["domain"],
        id=cells["id"],
        image=_inside(root, "image", cells["image"]),
        mask=_inside(root, "mask", cells["mask"]),
        width=int(_number("width", cells["width"], minimum=1, whole=True)),
        height=int(_number("height", cells["height"], minimum=1, whole=True)),
        foreground_fraction=_number("foreground_fraction", cells["foreground_fraction"], minimum=0, maximum=1),
        sha256_image=cells["sha256_image"].lower(),
        sha256_mask=cells["sha256_mask"].lower(),
        subject=cells.get("subject") or None,
        spacing_mm=_number("spacing_mm", cells["spacing_mm"], minimum=1e-9) if cells.get("spacing_mm") else None,
        split=cells.get("split") or None,
    )


def _number(name: str, text: str, *, minimum: float, maximum: float = 1e9, whole: bool = False) -> float:
    kind = "a whole number" if whole else "a number"
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not minimum <= value <= maximum:
        limits = f"from {minimum:g} to {maximum:g}" if maximum < 1e9 else f"of at least {minimum:g}"
        raise ValueError(f"expected {kind} {limits} as {name}, found '{text}'. Mend the row.")
    return value


def _inside(root: Path, name: str, text: str) -> Path:
    """The absolute path of a file that the manifest names relative to its own folder.

    The path's spelling must stay inside; links inside the folder may lead elsewhere, as whoever made them meant it.
    """
    relative_path = Path(os.path.normpath(text))
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    if not text or absolute or relative_path.parts[:1] == ("..",):
        raise ValueError(f"expected a path inside the dataset's folder as {name}, found '{text}'. Mend the row.")
    return root / relative_path

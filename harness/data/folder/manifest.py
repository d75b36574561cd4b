"""The manifest of a dataset: `<root>/manifest.csv`, one row a pair.

Needed are the columns `modality`, `domain` and `id`. All others may be absent, or empty in some rows:

- `image`, `mask` (paths within the folder): without them the pair is looked for where the canonical layout has it;
- `width`, `height`, `foreground_fraction`, `sha256_image`, `sha256_mask`: without them they are measured, once. A file
  whose hash is stated must have that hash; without one, a changed file is simply measured again;
- `subject`: the patient, where several images are of one; see `subjects.py` for other names that are taken;
- `white_level`: the value that is white, for images of 16 bits or real numbers;
- `split`: train, validation or test, where the dataset has an official division; `protocol=in_domain` keeps to it.

Other columns are not used; they are named once. A manifest that somebody wrote is never written to: what was measured is
kept with the verdict (harness/data/validation/verified.py). Only a folder without a manifest gets one.

Problems of single rows and files are collected, so that a user sees all of them at once; what makes the whole unreadable
is raised.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath

from harness.data.folder.csv_text import Table, decode_text, parse_table
from harness.data.folder.paths import Pictures, ambiguous, canonical_files, dead_link, pictures, relative
from harness.data.folder.sample import MANIFEST, Pair, Problem, Sample, fault_of_name
from harness.data.folder.subjects import SUBJECT, is_unknown, subject_column
from harness.data.reading import SUFFIXES
from harness.errors import UserError

REQUIRED = ("modality", "domain", "id")
MEASURED = ("width", "height", "foreground_fraction", "sha256_image", "sha256_mask")
OPTIONAL = ("white_level", SUBJECT, "split")
SPLITS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
"""Other words for the three parts of an official split."""
COLUMNS = (*REQUIRED, "image", "mask", *MEASURED, *OPTIONAL)

_SHA256 = re.compile(r"[0-9a-f]{64}$")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row(Pair):
    """A pair with what the manifest says of it, as in `Sample`; None where it says nothing."""

    width: int | None
    height: int | None
    foreground_fraction: float | None
    sha256_image: str | None
    sha256_mask: str | None
    subject: str | None
    white_level: float | None
    split: str | None

    @property
    def missing(self) -> list[str]:
        """The columns of `MEASURED` that the row says nothing in."""
        return [name for name in MEASURED if getattr(self, name) is None]

    def sample(self, found: Sample | None = None) -> Sample:
        """The row as a sample; what is missing in it is taken from what was `found` in its files."""
        absent = [*self.missing, *(["white_level"] if found and self.white_level is None else [])]
        return Sample(**vars(self) | {name: getattr(found, name) for name in absent})


def read_manifest(root: Path) -> tuple[list[Row], list[Problem]]:
    """Reads `<root>/manifest.csv` and sees that its pairs' files are there; opens none of them.

    Returns:
        The good rows sorted by key, and the problems of the others.

    Raises:
        UserError: the manifest is no CSV, has no rows, or lacks one of the columns modality, domain and id.
    """
    return _read(root, _table(root / MANIFEST))


def parse_manifest(root: Path, text: str) -> tuple[list[Row], list[Problem]]:
    """As `read_manifest`, of a text. Raises csv.Error where that can't be read."""
    return _read(root, parse_table(text, COLUMNS))


def manifest_rows(root: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of `<root>/manifest.csv` and its rows by column; looks at no file of a pair.

    Returns:
        Columns that are read have their names in `COLUMNS`, numbers their decimal point; others stay as they are.

    Raises:
        UserError: it can't be read, or a row has more or fewer values than there are columns.
    """
    path = root / MANIFEST
    table = _table(path)
    columns = [used or found for used, found in zip(_checked_columns(path, table.columns), table.columns, strict=True)]
    if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
        raise UserError(f"{path}: expected every column once, found {', '.join(twice)} twice. Remove one of them.")
    rows = []
    for line, values in table.rows:
        try:
            rows.append(_cells(columns, values, decimal_commas=table.separator != ","))
        except ValueError as error:
            raise UserError(f"{path} line {line}: {error}") from error
    return [column for column in columns if column], rows


def _table(path: Path) -> Table:
    """Raises UserError where the file is no table."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a file that can be read ({error.strerror}). Restore it.") from error
    expected = f"{path}: expected a CSV file in UTF-8, its cells separated by commas, semicolons or tabs; found"
    if content.startswith(b"PK"):
        raise UserError(f"{expected} a spreadsheet or an archive. Save the table as CSV in UTF-8.")
    try:
        return parse_table(decode_text(content), COLUMNS)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{expected} bytes of another encoding (0x{error.object[error.start]:02x} at position {error.start}). Save it"
            " again in UTF-8, which spreadsheet programs call 'CSV UTF-8'."
        ) from error
    except csv.Error as error:
        raise UserError(f"{expected} something else ({error}). Restore it.") from error


def _read(root: Path, table: Table) -> tuple[list[Row], list[Problem]]:
    columns = _checked_columns(root / MANIFEST, table.columns)
    if not table.rows:
        raise UserError(
            f"{root / MANIFEST}: expected one row a pair, found none. Move it away to have the folder scanned."
        )
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    listings: dict[Path, Pictures] = {}
    unknown: dict[str, int] = {}
    for line, values in table.rows:
        try:
            cells = _cells(columns, values, decimal_commas=table.separator != ",")
            if cells[SUBJECT] and is_unknown(cells[SUBJECT]):
                unknown[cells[SUBJECT]] = unknown.get(cells[SUBJECT], 0) + 1
            row = _parse(root, cells, listings)
        except ValueError as error:
            problems.append(Problem("bad row", f"{MANIFEST} line {line}", str(error)))
            continue
        if isinstance(row, Problem):
            problems.append(row)
            continue
        first = seen.setdefault(row.key, line)
        if first != line:
            message = f"expected every pair once, found {row.key} here and in line {first}. Remove one of them."
            problems.append(Problem("duplicate row", f"{MANIFEST} line {line}", message))
            continue
        rows.append(row)
    for row in rows:
        for file in (row.image, row.mask):
            if file.is_symlink() and not file.exists():
                problems.append(dead_link(file, root))
            elif not file.is_file():
                message = f"expected the file of {row.key}, found none. Restore it, or remove its row in {MANIFEST}."
                problems.append(Problem("missing file", relative(file, root), message))
    for text_, count in unknown.items():
        rows_ = "a row has" if count == 1 else f"{count} rows have"
        logger.warning("%s: %s '%s' as subject: an unknown one, each image its own.", root / MANIFEST, rows_, text_)
    return sorted(rows, key=lambda row: row.key), problems


def manifest_text(root: Path, samples: Iterable[Sample]) -> str:
    """The manifest of `samples`, with all columns; the optional ones only where some sample has a value."""
    ordered = sorted(samples, key=lambda sample: sample.key)
    columns = [name for name in COLUMNS if name not in OPTIONAL or any(getattr(sample, name) for sample in ordered)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for sample in ordered:
        row = {name: getattr(sample, name) for name in columns}
        row |= {"image": relative(sample.image, root), "mask": relative(sample.mask, root)}
        row["foreground_fraction"] = f"{sample.foreground_fraction:.6f}"
        if sample.white_level is not None:
            row["white_level"] = f"{sample.white_level:g}"
        writer.writerow(["" if value is None else value for value in row.values()])
    return text.getvalue()


def orphans(root: Path, samples: Iterable[Pair]) -> list[Problem]:
    """Pictures in the canonical folders that the manifest does not name."""
    named = {file for sample in samples for file in (sample.image, sample.mask)}
    message = f"expected a row in {MANIFEST}, found none: the file is not used. Remove it, or move {MANIFEST} away to "
    message += "have the folder scanned again."
    return [
        Problem("orphan file", relative(file, root), message) for file in canonical_files(root) if file not in named
    ]


def _checked_columns(path: Path, found: list[str]) -> list[str]:
    """The columns by the names of `COLUMNS`; "" for one that is not used, which is said."""
    known = [column.lower() if column.lower() in COLUMNS else column for column in found]
    absent = [column for column in COLUMNS if column not in known]
    if missing := [column for column in REQUIRED if column in absent]:
        raise UserError(
            f"{path}: expected at least the columns {', '.join(REQUIRED)}, separated by commas, semicolons or tabs; "
            f"{', '.join(missing)} missing, found {', '.join(found) or 'nothing'}. Add what is missing, or move the manifest "
            "away: the folder is then scanned and gets a new one."
        )
    if twice := [column for column in COLUMNS if known.count(column) > 1]:
        raise UserError(f"{path}: expected every column once, found {', '.join(twice)} twice. Remove one of them.")
    try:
        subject = subject_column(known)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if subject is not None and subject != SUBJECT:
        logger.warning("%s: the column '%s' is taken as the subject (the patient).", path, subject)
    columns = [SUBJECT if column == subject else column for column in known]
    unused = [column for column in columns if column and column not in COLUMNS]
    for column in unused:
        near = get_close_matches(column, absent, n=1, cutoff=0.75)
        if near and near[0] not in columns:
            logger.warning("%s: the column '%s' is not used. Did you mean '%s'?", path, column, near[0])
            unused = [other for other in unused if other != column]
    if unused:
        logger.info("%s: not used are the columns %s.", path, ", ".join(unused))
    return [column if column in COLUMNS else "" for column in columns]


def _cells(columns: list[str], values: list[str], *, decimal_commas: bool) -> dict[str, str]:
    """Text by column, "" where there is none. Raises ValueError: more or fewer values than columns."""
    if len(values) < len(columns) or any(values[len(columns) :]):
        raise ValueError("expected as many values as there are columns, found more or fewer. Fix the row.")
    cells = dict.fromkeys(COLUMNS, "") | {name: value for name, value in zip(columns, values, strict=False) if name}
    if decimal_commas:
        for name in ("foreground_fraction", "white_level"):
            cells[name] = cells[name].replace(",", ".")
    return cells


def _parse(root: Path, cells: dict[str, str], listings: dict[Path, Pictures]) -> Row | Problem:
    """One row; a problem where its files can't be found. Raises ValueError with words for the user.

    `listings` keeps what was seen of the canonical folders: each is looked through once.
    """
    for name in REQUIRED:
        if fault := fault_of_name(cells[name]):
            raise ValueError(f"expected a name without slashes as {name}, found {fault}. Fix the row.")
    for name in ("sha256_image", "sha256_mask"):
        if cells[name] and not _SHA256.match(cells[name].lower()):
            raise ValueError(f"expected 64 hexadecimal digits as {name}, found '{cells[name]}'. Fix the row.")
    width, height = (_number(name, cells[name], minimum=1, whole=True) for name in ("width", "height"))
    files = []
    for name in ("image", "mask"):
        file = _inside(root, name, cells[name]) if cells[name] else _canonical(root, cells, f"{name}s", listings)
        if isinstance(file, Problem):
            return file
        files.append(file)
    return Row(
        modality=cells["modality"],
        domain=cells["domain"],
        id=cells["id"],
        image=files[0],
        mask=files[1],
        width=None if width is None else int(width),
        height=None if height is None else int(height),
        foreground_fraction=_number("foreground_fraction", cells["foreground_fraction"], minimum=0, maximum=1),
        sha256_image=cells["sha256_image"].lower() or None,
        sha256_mask=cells["sha256_mask"].lower() or None,
        subject=None if is_unknown(cells[SUBJECT]) else cells[SUBJECT],
        white_level=_number("white_level", cells["white_level"], minimum=1),
        split=_split(cells["split"]),
    )


def _split(text: str) -> str | None:
    if is_unknown(text):
        return None
    word = SPLITS.get(text.lower(), text.lower())
    if word not in ("train", "validation", "test"):
        # An official test image that were taken for one without a part would be trained on.
        raise ValueError(
            f"expected train, validation or test as split, found '{text}'. Fix the row, or rename the column."
        )
    return word


def _canonical(root: Path, cells: dict[str, str], part: str, listings: dict[Path, Pictures]) -> Path | Problem:
    """The picture of a row that names no file, at its place in the canonical layout."""
    folder = root / cells["modality"] / cells["domain"] / part
    if folder not in listings:
        listings[folder] = pictures(folder)[0]
    found = listings[folder].get(cells["id"], [])
    if found:
        return ambiguous(root, found) or found[0]
    expected = relative(folder / cells["id"], root)
    if Path(cells["id"]).suffix.lower() in SUFFIXES:
        message = f"expected an id without a file's suffix in {MANIFEST}, found '{cells['id']}'. Fix the row."
        return Problem("id with suffix", expected, message)
    message = (
        f"expected this file with one of the suffixes {', '.join(sorted(SUFFIXES))}, as the row of its id in {MANIFEST} "
        f"names no {part[:-1]}; found none. Add the file, name it in the column '{part[:-1]}', or remove the row."
    )
    return Problem(f"{part[:-1]} of a row not found", expected, message)


def _number(name: str, text: str, *, minimum: float, maximum: float = 1e9, whole: bool = False) -> float | None:
    if not text:
        return None
    kind = "a whole number" if whole else "a number"
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = float("nan")
    if not minimum <= value <= maximum:
        limits = f"from {minimum:g} to {maximum:g}" if maximum < 1e9 else f"of at least {minimum:g}"
        raise ValueError(f"expected {kind} {limits} as {name}, found '{text}'. Fix the row.")
    return value


def _inside(root: Path, name: str, text: str) -> Path:
    """The absolute path of a file that the manifest names relative to its own folder.

    The path's spelling must stay inside; links inside the folder may lead elsewhere, since the dataset's owner chose them.
    """
    if not text.isprintable():
        raise ValueError(f"expected a path without control characters as {name}, found {text!r}. Fix the row.")
    relative_path = Path(os.path.normpath(text))
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    if absolute or relative_path.parts[:1] == ("..",):
        raise ValueError(f"expected a path inside the dataset's folder as {name}, found '{text}'. Fix the row.")
    path = root / relative_path
    if "\\" in text and not path.exists():  # as Windows writes it
        return _inside(root, name, text.replace("\\", "/"))
    return path

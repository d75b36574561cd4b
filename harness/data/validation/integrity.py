"""Is the data what it says it is? Sizes, hashes, binary masks, orphans, copies.

Two depths. `check_rows` is what `Dataset.open` needs for trust: every file is hashed and decoded once, the verdict is
kept (`verified.py`). `verify` is the whole examination for `data verify`: always done afresh, also looks for files that
nobody names and for pictures that occur twice. All problems of a dataset are collected, not only the first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.data.folder import manifest
from harness.data.folder.images import JPEG_SUFFIXES, NotBinary, read_image, read_mask
from harness.data.folder.layout import scan_folder
from harness.data.folder.manifest import Row
from harness.data.folder.paths import relative
from harness.data.folder.sample import MANIFEST, MODALITIES, Pair, Problem, Progress, Sample, list_problems
from harness.data.validation import verified
from harness.errors import UserError, did_you_mean
from harness.files import sha256_file

_FRACTION_TOLERANCE = 1e-3

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Report:
    """What `verify` found. `problems` make the dataset unfit, `warnings` are for a person to look at, `notes` say what a
    sound dataset can't be used for."""

    root: Path
    pairs: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def text(self) -> str:
        """For the terminal: the verdict, then problems, warnings and notes, every cause once; about 20 lines."""
        verdict_word = "is sound" if self.ok else f"has {len(self.problems)} problem(s)"
        lines = [f"{self.root}: {self.pairs} pairs checked in {self.seconds:.1f} s; the dataset {verdict_word}."]
        if self.problems:
            lines += [f"Problems ({len(self.problems)}):", list_problems(self.problems)]
        if self.warnings:
            lines += [f"Warnings ({len(self.warnings)}):", list_problems(self.warnings, limit=5)]
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything, nothing cut."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "pairs": self.pairs,
            "problems": [vars(problem) for problem in self.problems],
            "warnings": [vars(problem) for problem in self.warnings],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


def verify(root: Path, progress: Progress | None = None) -> Report:
    """Examines the whole dataset in `root`, whatever was found earlier, and keeps the verdict when it is good.

    Problems: rows of the manifest that can't be used, missing and damaged files, other hashes or sizes than stated,
    masks that are not binary, files without a partner or a row, one picture in two domains of a modality.
    Warnings: other pictures that occur twice (also by perceptual hash, within a modality across domains), empty masks.
    Notes: modalities with a single domain, and modalities of an unknown name.

    Raises:
        UserError: there is no dataset there, or its manifest can't be read at all.
    """
    from harness.data.validation.duplicates import Prints, find_duplicates, fingerprints  # loads scipy and pywavelets

    started = time.perf_counter()
    has_manifest = (root / MANIFEST).is_file()
    named: Sequence[Pair]
    named, problems = manifest.read_manifest(root) if has_manifest else scan_folder(root)
    pairs = [pair for pair in named if pair.image.is_file() and pair.mask.is_file()]

    def examine(pair: Pair) -> tuple[Sample | None, list[Problem], Prints | None]:
        sample, found = _measure(root, pair)
        if sample is None:
            return None, found, None
        if isinstance(pair, Row):
            found, sample = _compare(root, pair, sample), pair.sample(sample)
        return sample, found, fingerprints(read_image(pair.image))

    results = in_threads(examine, pairs, progress)
    samples = [sample for sample, _, _ in results if sample]
    problems = [*problems, *(problem for _, found, _ in results for problem in found)]
    if has_manifest:
        problems += manifest.orphans(root, named)
    prints = {sample.key: found for sample, _, found in results if sample and found}
    copies, warnings = find_duplicates(root, samples, prints)
    problems += copies
    warnings += [
        Problem("empty mask", relative(sample.mask, root), "the mask has no foreground. See that it is meant so.")
        for sample in samples
        if sample.foreground_fraction == 0
    ]
    if has_manifest and not problems:
        whole = not any(isinstance(pair, Row) and pair.missing for pair in pairs)
        verified.save_verified(root, pairs, None if whole else manifest.manifest_text(root, samples))
    seconds = time.perf_counter() - started
    return Report(root, len(pairs), tuple(problems), tuple(warnings), seconds, tuple(_notes(named)))


def check_rows(root: Path, rows: Sequence[Row], progress: Progress | None = None) -> tuple[list[Sample], list[Problem]]:
    """Hashes and decodes the files of `rows`, compares them with what the manifest says and adds what it does not say."""

    def examine(row: Row) -> tuple[Sample | None, list[Problem]]:
        found, problems = _measure(root, row)
        return (None, problems) if found is None else (row.sample(found), _compare(root, row, found))

    results = in_threads(examine, rows, progress)
    samples = [sample for sample, _ in results if sample is not None]
    return samples, [problem for _, problems in results for problem in problems]


def measure_pairs(
    root: Path, pairs: Sequence[Pair], progress: Progress | None = None
) -> tuple[list[Sample], list[Problem]]:
    """Makes samples of scanned pairs: decodes, measures and hashes them."""
    results = in_threads(lambda pair: _measure(root, pair), pairs, progress)
    samples = [sample for sample, _ in results if sample is not None]
    return samples, [problem for _, problems in results for problem in problems]


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Progress | None = None
) -> list[Result]:
    """Applies `function` to all items, in order, on a few threads: decoding and hashing release the GIL."""
    work = list(items)
    results = []
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for result in pool.map(function, work):
            results.append(result)
            if progress is not None:
                progress(len(results), len(work))
    return results


def _notes(pairs: Sequence[Pair]) -> list[str]:
    """What is no fault of the data and yet decides what can be done with it."""
    domains: dict[str, set[str]] = {}
    for pair in pairs:
        domains.setdefault(pair.modality, set()).add(pair.domain)
    notes = []
    if single := sorted(modality for modality, names in domains.items() if len(names) == 1):
        verb = "has one domain" if len(single) == 1 else "have one domain each"
        notes.append(f"{', '.join(single)} {verb}: leave_one_domain_out needs two.")
    if unknown := sorted(domains.keys() - set(MODALITIES)):
        verb, them = ("is", "it a number of its own") if len(unknown) == 1 else ("are", "each a number of its own")
        nearest = [f"{name}:{hint}" for name in unknown if "Did you mean" in (hint := did_you_mean(name, MODALITIES))]
        notes.append(
            f"{', '.join(unknown)} {verb} none of the six known modalities ({', '.join(MODALITIES)}): methods that use the "
            f"modality number give {them}.{''.join(f' {near}' for near in nearest)}"
        )
    return notes


def _measure(root: Path, pair: Pair) -> tuple[Sample | None, list[Problem]]:
    """The pair as its files are, and what is wrong with the files themselves."""
    problems = []
    image = mask = None
    try:
        image = read_image(pair.image)
    except UserError as error:
        problems.append(_unreadable(root, pair.image, "unreadable image", error))
    try:
        mask = read_mask(pair.mask)
    except UserError as error:
        jpeg = isinstance(error, NotBinary) and pair.mask.suffix.lower() in JPEG_SUFFIXES
        problems.append(_unreadable(root, pair.mask, "JPEG mask" if jpeg else "unusable mask", error))
    if image is None or mask is None:
        return None, problems
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
    if (height, width) != (mask_height, mask_width):
        message = (
            f"expected a mask of {width} x {height} pixels (width x height), as its image "
            f"{relative(pair.image, root)}, found {mask_width} x {mask_height}. Restore the mask that was drawn "
            "on this image, or resize it with nearest neighbour. (Sides swapped? The image's EXIF orientation is "
            "applied when it is read.)"
        )
        return None, [Problem("sizes differ", relative(pair.mask, root), message)]
    sample = Sample(
        modality=pair.modality,
        domain=pair.domain,
        id=pair.id,
        image=pair.image,
        mask=pair.mask,
        width=width,
        height=height,
        foreground_fraction=float(mask.mean()),
        sha256_image=sha256_file(pair.image),
        sha256_mask=sha256_file(pair.mask),
    )
    return sample, []


def _compare(root: Path, stated: Row, found: Sample) -> list[Problem]:
    """Where the manifest says otherwise than the files."""
    problems = []
    for file, expected, actual in (
        (stated.image, stated.sha256_image, found.sha256_image),
        (stated.mask, stated.sha256_mask, found.sha256_mask),
    ):
        if expected is not None and expected != actual:
            message = (
                f"expected SHA-256 {expected[:12]}... as in {MANIFEST}, found {actual[:12]}...: the file was "
                f"changed after the manifest was written. Restore the file, or, if the change is meant, move "
                f"{MANIFEST} away to have the folder scanned again."
            )
            problems.append(Problem("hash differs", relative(file, root), message))
    if problems:  # a changed file differs in the rest as well: one problem, said once
        return problems
    image = relative(stated.image, root)
    width, height = stated.width or found.width, stated.height or found.height
    if (width, height) != (found.width, found.height):
        message = (
            f"expected {width} x {height} pixels (width x height) as in {MANIFEST}, "
            f"found {found.width} x {found.height}. Fix the row."
        )
        problems.append(Problem("size differs", image, message))
    fraction = stated.foreground_fraction
    if fraction is not None and abs(fraction - found.foreground_fraction) > _FRACTION_TOLERANCE:
        message = (
            f"expected a foreground fraction of {fraction:g} as in {MANIFEST}, found "
            f"{found.foreground_fraction:.6f}. Fix the row."
        )
        problems.append(Problem("foreground differs", relative(stated.mask, root), message))
    return problems


def _unreadable(root: Path, file: Path, kind: str, error: UserError) -> Problem:
    """The error without the path in front, which the problem gives itself."""
    return Problem(kind, relative(file, root), str(error).removeprefix(f"{file}: "))

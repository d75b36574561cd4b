"""The whole examination of a dataset, for `data verify`: always done afresh.

It looks, beyond what `Dataset.open` asks of every pair (`examine.py`), for files that nobody names and for pictures that
occur twice. All problems are collected, not only the first.
"""

from __future__ import annotations

import shutil
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.data.folder import manifest
from harness.data.folder.layout import Scan, scan_folder
from harness.data.folder.manifest import Row
from harness.data.folder.paths import relative
from harness.data.folder.sample import MANIFEST, MODALITIES, Pair, Problem, Progress, Sample, list_problems
from harness.data.validation import verified
from harness.data.validation.examine import Examined, conclude, examine, in_threads
from harness.data.validation.pictures import KINDS, draw_doubtful
from harness.errors import UserError, near_name


@dataclass(frozen=True)
class Report:
    """What `verify` found. `problems` make the dataset unfit, `warnings` are for a person to look at, `notes` say what a
    sound dataset can't be used for. `pictures` show masks that are named there: file -> picture."""

    root: Path
    pairs: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    pictures: dict[str, Path] = field(default_factory=dict)

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
        if self.pictures:
            folder = next(iter(self.pictures.values())).parent
            lines.append(
                f"Pictures of {len(self.pictures)} of these (masks: image, file, what was read; copies: both): {folder}"
            )
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
            "pictures": {file: str(path) for file, path in self.pictures.items()},
            "seconds": round(self.seconds, 3),
        }


def verify(root: Path, progress: Progress | None = None, pictures: Path | None = None) -> Report:
    """Examines the whole dataset in `root`, whatever was found earlier, and keeps the verdict when it is good.

    Problems: rows of the manifest that can't be used, missing and damaged files, other hashes or sizes than stated,
    masks that are not binary, files without a partner or a row, one picture in two domains of a modality.
    Warnings: other pictures that occur twice (also by perceptual hash and detail, within a modality), images like masks, masks
    that are empty, full or look inverted, files that are read by a rule worth knowing, files that are not read.
    Notes: modalities with a single domain or of an unknown name, subjects that are not known of all images.

    Args:
        pictures: folder for pictures of doubtful masks; None is one in the user's cache folder.

    Raises:
        UserError: there is no dataset there, its manifest can't be read at all, or `pictures` can't be written.
    """
    from harness.data.validation.duplicates import Prints, find_duplicates, fingerprints  # loads scipy and pywavelets

    started = time.perf_counter()
    has_manifest = (root / MANIFEST).is_file()
    if has_manifest:
        rows, problems = manifest.read_manifest(root)
        scan = Scan([*rows], problems)
    else:
        scan = scan_folder(root)
    pairs = [pair for pair in scan.pairs if pair.image.is_file() and pair.mask.is_file()]

    def look_at(pair: Pair) -> tuple[Examined, Prints | None]:
        found = examine(root, pair, keep_rgb=True)
        prints = None if found.rgb is None else fingerprints(found.rgb)
        return _without_pixels(found), prints

    results = in_threads(look_at, pairs, progress)
    findings = conclude(root, [examined for examined, _ in results])
    problems = [*scan.problems, *findings.problems]
    if has_manifest:
        problems += manifest.orphans(root, scan.pairs)
    prints = {one.pair.key: found for one, found in results if one.sample and found}
    copies, warnings = find_duplicates(root, [s for s in findings.samples if s.key in prints], prints)
    problems += copies
    warnings += [*findings.warnings, *scan.warnings, *_names_alike(root, scan.pairs)]
    if has_manifest and not problems:
        verified.save_verified(root, pairs, manifest_to_keep(root, pairs, findings.samples), findings.warnings)
    seconds = time.perf_counter() - started
    notes = [*_notes(scan.pairs), *_subject_notes(findings.samples)]
    drawn = _drawn(root, pairs, [*problems, *warnings], pictures)
    return Report(root, len(pairs), tuple(problems), tuple(warnings), seconds, tuple(notes), drawn)


def _drawn(root: Path, pairs: Sequence[Pair], found: Sequence[Problem], folder: Path | None) -> dict[str, Path]:
    if not any(problem.kind in KINDS or problem.images for problem in found):
        return {}
    try:
        if folder is not None:
            return draw_doubtful(root, pairs, found, folder)
        own = verified.user_cache_path(root).with_suffix(".pictures")
        shutil.rmtree(own, ignore_errors=True)  # those of an earlier examination
        return draw_doubtful(root, pairs, found, own)
    except (UserError, OSError, RuntimeError):
        if folder is not None:
            raise
        return {}  # a home that can't be written to: the words remain


def manifest_to_keep(root: Path, pairs: Sequence[Pair], samples: Sequence[Sample]) -> str | None:
    """The text of the whole manifest, where that in the folder says less than was measured."""
    levels = {pair.key: pair.white_level for pair in pairs if isinstance(pair, Row)}
    whole = not any(isinstance(pair, Row) and pair.missing for pair in pairs)
    if whole and all(sample.white_level == levels.get(sample.key) for sample in samples):
        return None
    return manifest.manifest_text(root, samples)


def _without_pixels(examined: Examined) -> Examined:
    return Examined(examined.pair, examined.sample, examined.problems, examined.warnings, examined.range)


def _names_alike(root: Path, pairs: Sequence[Pair]) -> list[Problem]:
    """Names that a file system which ignores case, or spells accents otherwise, takes for one."""
    first: dict[str, Pair] = {}
    found = []
    for pair in pairs:
        other = first.setdefault(unicodedata.normalize("NFC", pair.key).casefold(), pair)
        if other is not pair:
            message = (
                f"its name differs from {relative(other.image, root)} in upper and lower case or in the spelling of "
                "accents alone: some systems take the two for one file. Rename one."
            )
            found.append(Problem("names alike", relative(pair.image, root), message))
    return found


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
        nearest = [f"{name}:{hint}" for name in unknown if (hint := near_name(name, MODALITIES))]
        notes.append(
            f"{', '.join(unknown)} {verb} none of the six known modalities ({', '.join(MODALITIES)}): methods that use the "
            f"modality number give {them}.{''.join(f' {near}' for near in nearest)}"
        )
    return notes


def _subject_notes(samples: Sequence[Sample]) -> list[str]:
    notes = []
    places: dict[tuple[str, str], set[str]] = {}
    for sample in samples:
        if sample.subject:
            places.setdefault((sample.modality, sample.subject), set()).add(sample.domain)
    known = sum(bool(sample.subject) for sample in samples)
    if 0 < known < len(samples):
        notes.append(f"the subject is known of {known} of {len(samples)} images; each of the others is its own.")
    if shared := sorted(
        f"{subject} ({', '.join(sorted(names))})" for (_, subject), names in places.items() if len(names) > 1
    ):
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        notes.append(
            f"subjects of one name in several domains are taken for different people: {'; '.join(shared[:3])}{more}. If they are "
            "one person, that person is trained on and tested."
        )
    return notes

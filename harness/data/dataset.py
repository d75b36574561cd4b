"""A dataset as the rest of the harness sees it: samples by modality and domain."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.folder import layout, manifest
from harness.data.folder.layout_help import how_to_add
from harness.data.folder.sample import (
    MANIFEST,
    MODALITIES,
    Pair,
    Problem,
    Progress,
    Sample,
    list_problems,
    raise_problems,
)
from harness.data.validation import verified
from harness.data.validation.examine import examine_pairs
from harness.data.validation.integrity import manifest_to_keep
from harness.errors import UserError, did_you_mean, near_name
from harness.files import atomic_write_text, sha256_json

__all__ = ["MODALITIES", "Dataset", "Sample"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """The samples of a canonical dataset folder, sorted by key."""

    root: Path
    samples: tuple[Sample, ...]

    @classmethod
    def open(cls, root: str | Path, *, verify: bool = True, progress: Progress | None = None) -> Dataset:
        """Opens the dataset in `root`, from its manifest or, without one, by scanning the folder and writing one.

        Args:
            root: the folder that holds `manifest.csv` or `<modality>/<domain>/images`.
            verify: hash and decode every file once and compare with the manifest; the verdict is kept until a file
                changes. What no manifest states (sizes, hashes) is always measured, and kept with the verdict; a
                manifest that is there is never changed.
            progress: called with (done, total) while files are checked.

        Raises:
            UserError: nothing there, or files and manifest are not what they should be; lists all that was found.
        """
        root = existing_folder(root)
        if (root / MANIFEST).is_file():
            samples = _from_manifest(root, verify, progress)
        else:
            samples = _scan(root, progress)
        return cls(root, tuple(samples))

    def modalities(self) -> list[str]:
        """In the order of `MODALITIES`, then others by name."""
        present = {sample.modality for sample in self.samples}
        return [name for name in MODALITIES if name in present] + sorted(present - set(MODALITIES))

    def domains(self, modality: str) -> list[str]:
        """Sorted.

        Raises:
            UserError: the dataset has no such modality.
        """
        self._known(modality)
        return sorted({sample.domain for sample in self.samples if sample.modality == modality})

    def select(self, modalities: Sequence[str] | None = None, max_per_domain: int | None = None) -> Dataset:
        """A part of the dataset, always the same for the same data: of each domain those whose key hashes lowest.

        Args:
            modalities: those to keep; None for all.
            max_per_domain: at most so many samples of each domain; None for all. A larger number keeps all that a
                smaller one kept.

        Raises:
            UserError: an unknown modality, or a number below 1.
        """
        for name in modalities or ():
            self._known(name)
        if modalities is not None and not modalities:
            raise UserError(f"Expected at least one modality, found none.{did_you_mean('', self.modalities())}")
        if max_per_domain is not None and max_per_domain < 1:
            raise UserError(f"Expected data.max_per_domain to be at least 1 (or null for all), found {max_per_domain}.")
        taken: dict[str, int] = {}
        kept = []
        for sample in sorted(self.samples, key=lambda sample: hashlib.sha256(sample.key.encode()).digest()):
            count = taken.get(sample.domain_key, 0)
            if (modalities is None or sample.modality in modalities) and (
                max_per_domain is None or count < max_per_domain
            ):
                taken[sample.domain_key] = count + 1
                kept.append(sample)
        return Dataset(self.root, tuple(sorted(kept, key=lambda sample: sample.key)))

    def by_key(self) -> dict[str, Sample]:
        return {sample.key: sample for sample in self.samples}

    def fingerprint(self) -> str:
        """SHA-256 of what the samples are (keys, hashes of the files, subjects), wherever they lie."""
        ordered = sorted(self.samples, key=lambda sample: sample.key)
        return sha256_json([[s.key, s.image_content, s.sha256_mask, s.subject] for s in ordered])

    def _known(self, modality: str) -> None:
        if modality not in (names := self.modalities()):
            raise UserError(f"The dataset at {self.root} has no modality '{modality}'.{did_you_mean(modality, names)}")


def existing_folder(root: str | Path) -> Path:
    """The absolute path of a folder that must be there.

    Raises:
        UserError: nothing, or a file, is there.
    """
    path = Path(root).expanduser().absolute()
    if path.is_dir():
        return path
    found = "a file" if path.exists() else "nothing"
    near = ""
    if path.parent.is_dir():
        near = near_name(path.name, [entry.name for entry in path.parent.iterdir() if entry.is_dir()])
    raise UserError(
        f"{path}: expected a folder with a dataset, found {found}.{near} Give the folder that holds "
        f"<modality>/<domain>/images, or draw phantoms there: "
        f"`python -m harness data phantoms --out {path}`."
    )


def _from_manifest(root: Path, verify: bool, progress: Progress | None) -> list[Sample]:
    rows, problems = manifest.read_manifest(root)
    raise_problems(root, problems)
    _warn_of_orphans(root, manifest.orphans(root, rows))
    missing = [name for name in manifest.MEASURED if any(name in row.missing for row in rows)]
    if not (missing or verify):
        return [row.sample() for row in rows]
    known = verified.load_verified(root, rows)
    if known is not None:
        kept = (
            [row.sample() for row in rows]
            if known.get("manifest") is None and not missing
            else _kept_samples(root, known)
        )
        if kept is not None:
            _warn_again(root, known)
            return kept
    measured = f"; {', '.join(missing)} are not in {MANIFEST} and are measured" if missing else ""
    logger.info("Checking the %d pairs in %s once%s; the verdict is kept.", len(rows), root, measured)
    samples, warnings = _examined(root, rows, progress)
    verified.save_verified(root, rows, manifest_to_keep(root, rows, samples), warnings)
    return samples


def _scan(root: Path, progress: Progress | None) -> list[Sample]:
    scan = layout.scan_folder(root)
    raise_problems(root, scan.problems, "" if scan.pairs else how_to_add(root))
    _warn(root, scan.warnings)
    known = verified.load_verified(root, scan.pairs)
    if known is not None and (kept := _kept_samples(root, known)) is not None:
        _warn_again(root, known)
        return kept
    logger.info("%s has no %s: scanning its %d pairs.", root, MANIFEST, len(scan.pairs))
    samples, warnings = _examined(root, scan.pairs, progress)
    text = manifest.manifest_text(root, samples)
    try:
        written = verified.is_writable(root)
        if written:
            atomic_write_text(root / MANIFEST, text)
    except UserError:
        written = False
    if not written:
        logger.warning(
            "%s is read-only: its manifest is kept outside, in %s. To keep it with the data, make the folder writable once.",
            root,
            verified.user_cache_path(root),
        )
    verified.save_verified(root, samples, None if written else text, warnings)
    return samples


def _examined(root: Path, pairs: Sequence[Pair], progress: Progress | None) -> tuple[list[Sample], list[Problem]]:
    """The samples, and what is doubtful about them, which is said. Raises UserError: problems."""
    findings = examine_pairs(root, pairs, progress)
    raise_problems(root, findings.problems)
    # An empty or full mask may be meant: `data verify` lists those.
    warnings = [warning for warning in findings.warnings if warning.kind not in ("empty mask", "full mask")]
    _warn(root, warnings)
    return findings.samples, warnings


_said: set[str] = set()


def _warn(root: Path, warnings: Sequence[Problem]) -> None:
    """Once in a process: a run opens its data before every trial."""
    text = f"{root}:\n{list_problems(warnings, limit=5)}"
    if warnings and text not in _said:
        _said.add(text)
        logger.warning("%s", text)


def _warn_again(root: Path, known: dict[str, Any]) -> None:
    _warn(root, [Problem(**warning) for warning in known.get("warnings", [])])


def _kept_samples(root: Path, known: dict[str, Any]) -> list[Sample] | None:
    """Samples from the whole manifest that was kept with a verdict, if one was."""
    text = known.get("manifest")
    if not isinstance(text, str):
        return None
    try:
        rows, problems = manifest.parse_manifest(root, text)
    except (UserError, csv.Error):
        return None
    return None if problems or any(row.missing for row in rows) else [row.sample() for row in rows]


def _warn_of_orphans(root: Path, found: Sequence[Problem]) -> None:
    if found:
        files = ", ".join(problem.file for problem in found[:3]) + (" ..." if len(found) > 3 else "")
        logger.warning(
            "%s: %d picture(s) without a row in %s are not used (%s). `data verify` lists them.",
            root,
            len(found),
            MANIFEST,
            files,
        )

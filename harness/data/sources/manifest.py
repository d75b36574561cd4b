"""The prepared pairs in the manifest of a folder that may hold other domains as well."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.data.dataset import Dataset
from harness.data.folder.manifest import COLUMNS, OPTIONAL, manifest_rows
from harness.data.folder.paths import domain_folders
from harness.data.folder.sample import MANIFEST
from harness.files import atomic_write_text


@dataclass(frozen=True)
class Prepared:
    """A pair as it was written: a row of the manifest, and the stamp of the files it was made of."""

    modality: str
    domain: str
    id: str
    image: str
    mask: str
    width: int
    height: int
    foreground_fraction: float
    sha256_image: str
    sha256_mask: str
    white_level: float | None
    subject: str | None
    split: str | None
    stamp: list[Any]

    def is_there(self, root: Path) -> bool:
        return (root / self.image).is_file() and (root / self.mask).is_file()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Rows = tuple[list[str], list[dict[str, str]]]
"""The columns of a manifest, and its rows by column."""


def known_rows(root: Path) -> Rows | None:
    """The manifest that is there, if any.

    Raises:
        UserError: it can't be read.
    """
    return manifest_rows(root) if (root / MANIFEST).is_file() else None


def merge_manifest(
    root: Path, prepared: Sequence[Prepared], domains: Iterable[tuple[str, str]], known: Rows | None = None
) -> None:
    """Puts the rows of `domains` into the manifest; what it says of other domains stays.

    Args:
        known: what `known_rows` found.

    Raises:
        UserError: the manifest that is there can't be read, or other domains without one are not sound.
    """
    ours, path = set(domains), root / MANIFEST
    others = [f for f in domain_folders(root) if (f.parent.name, f.name) not in ours]
    if others and known is None:
        Dataset.open(root)  # writes the manifest of what is there
    columns, found = known or known_rows(root) or ([], [])
    rows = [row for row in found if (row["modality"], row["domain"]) not in ours]
    new = [{name: value for name, value in one.to_json().items() if value is not None} for one in prepared]
    needed = [name for name in COLUMNS if name not in OPTIONAL or any(name in row for row in new)]
    columns = [*columns, *(name for name in needed if name not in columns)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted([*rows, *new], key=lambda row: (row["modality"], row["domain"], str(row["id"]))))
    atomic_write_text(path, text.getvalue())

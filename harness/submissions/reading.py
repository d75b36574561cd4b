"""Reads a submission of a stranger whole, or refuses it with the reason."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from harness.errors import UserError, found_at
from harness.submissions.archive import read_file, unpack
from harness.submissions.checking import check_images, check_predictions, read_splits
from harness.submissions.layout import IMAGES, MANIFEST, PREDICTIONS, SPLITS, Refused, Submission
from harness.submissions.manifest import read_manifest, read_trials
from harness.submissions.tables import read_table


def read_submission(path: Path) -> Submission:
    """The submission in the file `path`, every size, type, range and checksum of which was checked.

    Raises:
        Refused: the reason, in one sentence.
    """
    return parse_submission(read_file(path))


def read_chosen(path: Path) -> Submission:
    """As `read_submission`, of a file that the user named: every error names it.

    Raises:
        UserError: no such file, or a submission that is not sound.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a file that `python -m harness submit` wrote, found {found_at(path)}")
    try:
        return read_submission(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def parse_submission(content: bytes) -> Submission:
    """As `read_submission`, of the bytes of a file."""
    members = unpack(content)
    manifest = read_manifest(members[MANIFEST])
    _check_checksums(manifest, members)
    splits = read_splits(
        read_table(SPLITS, members[SPLITS]),
        [each["name"] for each in manifest["splits"]],
        [each["held_out"] for each in manifest["splits"]],
    )
    trials = read_trials(manifest, splits)
    images = read_table(IMAGES, members[IMAGES])
    check_images(images, trials)
    predictions = None
    if PREDICTIONS in members:
        predictions = read_table(PREDICTIONS, members[PREDICTIONS])
        check_predictions(predictions, trials)
    return Submission(hashlib.sha256(content).hexdigest(), len(content), manifest, trials, images, predictions)


def _check_checksums(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    wanted = manifest["files"]
    if set(wanted) != set(members) - {MANIFEST}:
        raise Refused(
            f"expected the checksums of {', '.join(sorted(set(members) - {MANIFEST}))}; found {', '.join(sorted(wanted))[:200]}."
        )
    for name, digest in wanted.items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise Refused(f"{name} does not match its checksum: it was changed or damaged on its way.")

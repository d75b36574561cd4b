"""Finds the column that holds the patient, under the names in use, and recognises the ways to write "unknown"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.errors import UserError

SUBJECT = "subject"
_PERSON = ("subject", "patient", "participant", "case", "study", "person")
_NAMES = {
    "pid",
    *_PERSON,
    *(f"{word}{end}" for word in _PERSON for end in ("id", "no", "nr", "number", "key", "name", "code")),
}
_UNKNOWN = {"nan", "na", "n/a", "n.a.", "none", "null", "nil", "nat", "<na>", "-", "--", "?", "unknown", "#n/a"}


def subject_column(columns: Sequence[str]) -> str | None:
    """The column that tells the patient: `subject` itself, else the only one with a name that means it.

    Raises:
        UserError: several may be meant.
    """
    if SUBJECT in columns:
        return SUBJECT
    found = [column for column in columns if _plain(column) in _NAMES]
    if len(found) > 1:
        raise UserError(
            f"the columns {', '.join(found)} may each tell the patient, whose images must stay together. Rename the right "
            f"one to '{SUBJECT}'."
        )
    return found[0] if found else None


def is_unknown(text: str) -> bool:
    """Whether a cell says that the patient is not known: empty, `nan`, `NA`, `-` and the like."""
    return not text or text.lower() in _UNKNOWN


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "", column.lower())

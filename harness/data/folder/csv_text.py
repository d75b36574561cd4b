"""Tables of text as spreadsheets and pandas write them: commas, semicolons or tabs, UTF-8 or UTF-16."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass

_SEPARATORS = (",", ";", "\t")
_STATED = re.compile(r"\ufeff?sep=(.)\r?\n", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Cells without blanks around them.

    Attributes:
        columns: names; "" for a column without one.
        rows: (number of the line, cells); rows without any text are left out.
        separator: as it was found.
    """

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    separator: str


def decode_text(content: bytes) -> str:
    """Text of UTF-8, with or without a byte order mark, or UTF-16 with one; raises UnicodeDecodeError."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


def parse_table(text: str, expected: Collection[str]) -> Table:
    """Reads a table whose first line names its columns.

    Args:
        expected: column names, in lower case; the separator is the one that shows most of them.

    Raises:
        csv.Error: quotes that don't close, a NUL byte, an endless cell.
    """
    skipped = 0
    stated = _STATED.match(text)
    if stated:
        text, skipped = text[stated.end() :], 1
    separator = stated[1] if stated else max(_SEPARATORS, key=lambda mark: _matches(text, mark, expected))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns = [cell.strip() for cell in next(reader, [])]
    rows = [(reader.line_num + skipped, [cell.strip() for cell in row]) for row in reader]
    return Table(columns, [(line, row) for line, row in rows if any(row)], separator)


def _matches(text: str, separator: str, expected: Collection[str]) -> int:
    """How many of the expected columns the first line has, when it is cut at `separator`."""
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
    except csv.Error:
        return 0
    return sum(cell.strip().lower() in expected for cell in header)

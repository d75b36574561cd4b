"""Manifests as spreadsheets and pandas write them give the same samples, or one word about what is wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.dataset import Dataset
from harness.errors import UserError


def with_separator(mark: str, quoting: int = csv.QUOTE_MINIMAL, end: str = "\r\n") -> Callable[[str], str]:
    def change(text: str) -> str:
        new = io.StringIO()
        csv.writer(new, delimiter=mark, quoting=quoting, lineterminator=end).writerows(csv.reader(io.StringIO(text)))
        return new.getvalue()

    return change


def with_decimal_commas(text: str) -> str:
    rows = list(csv.DictReader(io.StringIO(text)))
    for row in rows:
        row["foreground_fraction"] = row["foreground_fraction"].replace(".", ",")
    new = io.StringIO()
    writer = csv.DictWriter(new, rows[0], delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    return new.getvalue()


READ: dict[str, tuple[Callable[[str], str], str]] = {
    "semicolons": (with_separator(";"), "utf-8"),
    "semicolons, quotes": (with_separator(";", csv.QUOTE_ALL), "utf-8"),
    "tabs": (with_separator("\t"), "utf-8"),
    "tabs, quotes": (with_separator("\t", csv.QUOTE_ALL), "utf-8"),
    "commas, quotes": (with_separator(",", csv.QUOTE_ALL), "utf-8"),
    "byte order mark": (lambda text: text, "utf-8-sig"),
    "UTF-16, tabs": (with_separator("\t"), "utf-16"),
    "UTF-16, commas": (with_separator(","), "utf-16"),
    "sep=;": (lambda text: "sep=;\r\n" + with_separator(";")(text), "utf-8"),
    "sep=;, byte order mark": (lambda text: "sep=;\r\n" + with_separator(";")(text), "utf-8-sig"),
    "decimal commas": (with_decimal_commas, "utf-8"),
    "old Macintosh lines": (with_separator(",", end="\r"), "utf-8"),
    "blank lines": (lambda text: text.replace("\n", "\n\n"), "utf-8"),
    "empty rows": (lambda text: text + ",,,,,,,,,\n" * 3, "utf-8"),
    "blanks around cells": (lambda text: text.replace(",", " , "), "utf-8"),
    "upper case": (lambda text: text.replace("modality,domain,id", "Modality,DOMAIN,Id"), "utf-8"),
    "a column without a name": (lambda text: text.replace("\n", ",\n"), "utf-8"),
    "an index column": (lambda text: "\n".join(f"{n},{line}" for n, line in enumerate(text.splitlines())).replace("0,", ",", 1), "utf-8"),
    "paths of Windows": (lambda text: text.replace("/", "\\"), "utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_read_alike(own_manifest: Path, name: str) -> None:
    expected = Dataset.open(own_manifest).samples
    path = own_manifest / "manifest.csv"
    change, encoding = READ[name]
    path.write_bytes(change(path.read_text()).encode(encoding))
    assert Dataset.open(own_manifest).samples == expected


def with_split(text: str, word: str) -> str:
    return "\n".join(f"{line},{word if number else 'split'}" for number, line in enumerate(text.splitlines()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("case_0", '"case_0', 1).encode(), "expected a CSV file in UTF-8, its cells separated by"),
        (lambda text: text.replace("case_0", "caf\xe9", 1).encode("latin-1"), "Save it again in UTF-8, which spreadsheet programs call 'CSV UTF-8'"),
        (lambda text: with_split(text, "holdout").encode(), "expected train, validation or test as split, found 'holdout'"),
        (lambda text: text.replace(",", "|").encode(), "separated by commas, semicolons or tabs; modality, domain, id missing"),
        (lambda text: text.replace("domain,id", "domain,domain", 1).encode(), "id missing"),
        (lambda text: text.replace("width,height", "width,width", 1).encode(), "expected every column once, found width twice"),
        (lambda text: text.replace("\n", ",more\n").replace(",more", "", 1).encode(), "expected as many values as there are columns"),
        (lambda text: text.replace("images/", "images/\x07", 1).encode(), "expected a path without control characters"),
        (lambda text: text.replace("case_0,", '"case\n0",', 1).encode(), "with a control character"),
        (lambda text: b"PK\x03\x04" + text.encode(), "found a spreadsheet or an archive. Save the table as CSV in UTF-8"),
        (lambda text: b"", "expected at least the columns"),
        (lambda text: text.splitlines()[0].encode(), "expected one row a pair, found none"),
    ],
)  # fmt: skip
def test_refused_with_the_cause(own_manifest: Path, change: Callable[[str], bytes], said: str) -> None:
    path = own_manifest / "manifest.csv"
    path.write_bytes(change(path.read_text()))
    with pytest.raises(UserError) as caught:
        Dataset.open(own_manifest)
    assert said in str(caught.value) and "manifest.csv" in str(caught.value)

"""Published numbers are read with their source, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from reports.page.published import left_out, references
from reports.records.published import PublishedResult, read_published

ENTRY = {
    "method": "A", "modality": "fundus", "domain": "drishti", "metric": "dice", "value": 0.91, "source": "Paper, 2025",
    "page": "Table 2",
}  # fmt: skip


def write(path: Path, *entries: object) -> Path:
    path = path / "published.yaml"
    path.write_text(yaml.safe_dump({"results": list(entries)}))
    return path


def test_entries_come_in_order(tmp_path: Path) -> None:
    whole = {key: value for key, value in ENTRY.items() if key != "domain"} | {"metric": "hd95", "value": 12}
    assert read_published(write(tmp_path, ENTRY, whole)) == [
        PublishedResult("A", "fundus", "drishti", "dice", 0.91, "Paper, 2025", "Table 2"),
        PublishedResult("A", "fundus", None, "hd95", 12.0, "Paper, 2025", "Table 2"),
    ]


def test_an_entry_without_its_source_is_refused(tmp_path: Path) -> None:
    lone = {key: value for key, value in ENTRY.items() if key not in ("source", "page")}
    with pytest.raises(UserError, match="entry 1: source, page are missing"):
        read_published(write(tmp_path, lone))


def test_a_page_may_be_a_number(tmp_path: Path) -> None:
    assert read_published(write(tmp_path, ENTRY | {"page": 6}))[0].page == "6"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": None}, "entry 1: source=null: expected a text"),
        ({"page": ""}, "page=: expected a text"),
        ({"metric": "dise"}, "Did you mean 'dice'"),
        ({"value": 91.2}, r"expected 0 to 1\. Percent\? Write 0\.912"),
        ({"value": "high"}, "expected a number"),
        ({"value": float("nan")}, "expected a number"),
        ({"metric": "hd95", "value": -1}, "value=-1 is out of range"),
        ({"method": 1.1}, r"method=1\.1: expected a text, found 1\.1\. Write it in quotes"),
        ({"domain": False}, "domain=false: expected a text or null, found False"),
        ({"source": 2025}, "source=2025: expected a text, found 2025"),
        ({"modality": ["fundus"]}, r"modality=\['fundus'\]: expected a text"),
        ({"value": "0,91"}, "expected a number"),
        ({"value": True}, "expected a number"),
        ({"vallue": 1}, "vallue is unknown. Did you mean 'value'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_published(write(tmp_path, ENTRY | change))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        read_published(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="entry 2: entry 1 is of the same"):
        read_published(write(tmp_path, ENTRY, ENTRY | {"value": 0.5}))
    with pytest.raises(UserError, match="entry 1: expected one of its keys, for example method="):
        read_published(write(tmp_path, "text"))
    (tmp_path / "published.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="expected one key, results:"):
        read_published(tmp_path / "published.yaml")
    (tmp_path / "published.yaml").write_text("a: [")
    with pytest.raises(UserError, match="no valid YAML"):
        read_published(tmp_path / "published.yaml")


def test_entries_that_match_nothing_are_named() -> None:
    domains = ["fundus/drive", "xray/jsrt"]

    def entry(method: str, modality: str, domain: str | None, metric: str = "dice") -> PublishedResult:
        return PublishedResult(method, modality, domain, metric, 0.9, "S", "1")

    shown = [entry("A", "fundus", "drive"), entry("A", "xray", None)]
    assert left_out(shown, domains) == []
    assert len(references(shown, domains)) == 1
    (elsewhere,) = left_out([*shown, entry("B", "fundus", "drve"), entry("B", "fundus", "drve")], domains)
    assert elsewhere == (
        "2 entries are of no domain of this report and left out: B on fundus/drve. Did you mean 'fundus/drive'?"
    )
    several = [entry("B", "ct", None), entry("C", "fundus", "Drive"), entry("D", "xray", "jsrt", "hd95")]
    first, second = left_out(several, domains)
    assert "B on ct, C on fundus/Drive. This report has: fundus, fundus/drive, xray, xray/jsrt." in first
    assert second == "1 entry is of other metrics than dice, which are not shown: D on xray/jsrt (hd95)."

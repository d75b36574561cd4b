"""Who is the patient: other names of the column, ways to write that nobody knows, text that stays text."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from harness.data.dataset import Dataset
from harness.data.folder.subjects import is_unknown, subject_column
from harness.data.validation.integrity import verify
from harness.errors import UserError
from tests.harness.data.editing import edit_manifest


def give(root: Path, **columns: list[str]) -> None:
    """Columns whose values are taken in turn."""

    def change(rows: list[dict[str, str]]) -> None:
        for number, row in enumerate(rows):
            row.update({name: values[number % len(values)] for name, values in columns.items()})

    edit_manifest(root, change)


def subjects(root: Path) -> list[str | None]:
    return [sample.subject for sample in Dataset.open(root).samples]


@pytest.mark.parametrize(
    "name",
    ["patient", "Patient", "patient_id", "PatientID", "patient id", "case", "case_id", "study", "StudyID", "pid", "Subject", "subject_id",
     "SUBJECT", "participant_id", "patient-no", "patient_nr"],
)  # fmt: skip
def test_a_column_of_another_name_is_taken_and_said(
    own_manifest: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    give(own_manifest, **{name: ["p1", "p1", "p2"]})
    assert subjects(own_manifest)[:4] == ["p1", "p1", "p2", "p1"]
    assert name.lower() == "subject" or f"the column '{name}' is taken as the subject" in caplog.text


@pytest.mark.parametrize("name", ["age", "lesion", "casement", "grade", "operator", "eye"])
def test_other_columns_are_named_and_not_taken(own_manifest: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    give(own_manifest, **{name: ["p1"]})
    assert set(subjects(own_manifest)) == {None}
    assert f"not used are the columns {name}" in caplog.text


def test_several_columns_that_may_be_meant_are_refused(own_manifest: Path) -> None:
    give(own_manifest, patient_id=["1"], study=["2"])
    with pytest.raises(
        UserError, match=r"manifest\.csv: the columns patient_id, study may each .* Rename the right one"
    ):
        Dataset.open(own_manifest)


def test_the_column_itself_goes_first(own_manifest: Path) -> None:
    give(own_manifest, patient_id=["1"], subject=["2"])
    assert set(subjects(own_manifest)) == {"2"}
    assert subject_column(["id", "subject", "patient"]) == "subject"


@pytest.mark.parametrize(
    "text", ["", "nan", "NaN", "NA", "N/A", "None", "null", "-", "--", "?", "unknown", "<NA>", "NaT", "#N/A"]
)
def test_unknown_subjects_are_no_patient(own_manifest: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    give(own_manifest, subject=["p1", text])
    assert is_unknown(text)
    assert subjects(own_manifest)[:4] == ["p1", None, "p1", None]
    assert not text or f"12 rows have '{text}' as subject: an unknown one, each image its own" in caplog.text
    assert any("the subject is known of 12 of 24 images" in note for note in verify(own_manifest).notes)


def test_numbers_and_text_with_zeros_in_front_stay_apart(own_manifest: Path) -> None:
    names = ["7", "007", "7.0", "07", "0", "1e3", "-1", "True"]
    give(own_manifest, subject=names)
    assert subjects(own_manifest)[:8] == names


def test_one_name_in_two_domains_is_pointed_out(own_manifest: Path) -> None:
    give(own_manifest, subject=["p1"])
    assert any("taken for different people: p1 (" in note for note in verify(own_manifest).notes)

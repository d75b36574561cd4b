"""The hints at the end of error messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import described, did_you_mean, found_at, kinds_of, raise_stop_behind


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("unett", ["unet", "segformer", "otsu"]) == " Did you mean 'unet'?"


def test_all_names_are_listed_in_order_when_none_is_near() -> None:
    assert did_you_mean("xyz", ["unet", "otsu", "unet"]) == " Available: otsu, unet."


def test_nothing_is_said_when_there_is_nothing_to_offer() -> None:
    assert did_you_mean("xyz", []) == ""


def test_options_need_not_be_words() -> None:
    assert did_you_mean("1", [2, 12]) in (" Did you mean '12'?", " Available: 12, 2.")


def test_what_is_there_instead_is_said(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks.zip").touch()
    assert found_at(tmp_path / "masks") == "a folder."
    assert found_at(tmp_path / "masks.zip") == "a file."
    assert found_at(tmp_path / "mask") == "nothing. Did you mean 'masks'?"
    assert found_at(tmp_path / "no/where") == "nothing."


def test_files_are_counted_by_their_kind() -> None:
    names = ["a/1.nii.gz", "a/0.nii.gz", "b.TXT", "readme"]
    assert kinds_of(names) == "2 files of .nii.gz, 1 of .txt, 1 without a suffix (for example a/0.nii.gz)"
    assert kinds_of(f"x.{kind}" for kind in "abcde").startswith("1 file of .a, 1 of .b, 1 of .c and 2 more kinds")
    assert kinds_of([]) == "none"


def test_a_stop_is_found_behind_an_error_and_an_exit_is_none() -> None:
    error, other = ValueError(), ValueError()
    error.__cause__, other.__context__ = other, error  # each comes of the other
    raise_stop_behind(error)
    other.__cause__ = SystemExit(3)
    raise_stop_behind(error)
    other.__cause__.__context__ = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        raise_stop_behind(error)


def test_an_error_in_words_can_be_kept_and_shown_anywhere() -> None:
    assert described(KeyError()) == "KeyError"
    assert described(ValueError("a \udcff \x1b[31m\x00 [/b]\nä")) == r"ValueError: a \udcff \x1b[31m\x00 [/b]" + "\nä"
    shortened = described(ValueError("x" * 10_000))
    assert len(shortened) < 3000 and shortened.endswith("... (10000 characters)")

"""The hints at the end of error messages."""

from __future__ import annotations

import pytest

from harness.errors import described, did_you_mean, raise_stop_behind


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("unett", ["unet", "segformer", "otsu"]) == " Did you mean 'unet'?"


def test_all_names_are_listed_in_order_when_none_is_near() -> None:
    assert did_you_mean("xyz", ["unet", "otsu", "unet"]) == " Available: otsu, unet."


def test_nothing_is_said_when_there_is_nothing_to_offer() -> None:
    assert did_you_mean("xyz", []) == ""


def test_options_need_not_be_words() -> None:
    assert did_you_mean("1", [2, 12]) in (" Did you mean '12'?", " Available: 12, 2.")


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
    told = described(ValueError("x" * 10_000))
    assert len(told) < 3000 and told.endswith("... (10000 characters)")

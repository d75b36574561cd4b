"""Checks of hyperparameters that several algorithms have."""

from __future__ import annotations


def check_range(algorithm: str, name: str, value: float, low: float, high: float = float("inf")) -> None:
    """
    Raises:
        ValueError: `value` is outside low..high, ends included, or is not a number.
    """
    if not low <= value <= high or value == float("inf"):
        to = "or more" if high == float("inf") else f"to {high:g}"
        raise ValueError(f"{algorithm}: expected {name} of {low:g} {to}, found {value}.")


def check_name(algorithm: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """
    Raises:
        ValueError: `value` is none of `choices`.
    """
    if value not in choices:
        raise ValueError(f"{algorithm}: expected {name} to be one of {', '.join(choices)}; found '{value}'.")

"""Numbers, intervals and missing values as words, the same in every output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

MISSING = "—"
SELECTION_WORDS = {
    "training_domain_validation": "validation", "last": "last epoch", "oracle": "oracle (test)", "trainer": "its own trainer",
}  # fmt: skip


def number(value: Any, digits: int = 3) -> str:
    """A number with fixed decimals, or a dash."""
    return fixed(value, digits)


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """ "[0.684, 0.741]", or nothing."""
    return "" if pd.isna(low) or pd.isna(high) else f"[{_minus(low, digits)}, {_minus(high, digits)}]"


def _minus(value: float, digits: int, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def fixed(value: Any, digits: int) -> str:
    return MISSING if pd.isna(value) else _minus(float(value), digits)


def words_of(value: Any, otherwise: str = MISSING) -> str:
    return otherwise if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


def written(value: Any, write: Callable[[float], str]) -> str:
    return MISSING if pd.isna(value) else write(float(value))


def significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def short(key: str) -> str:
    """`training.learning_rate` -> `learning rate`."""
    return key.rpartition(".")[2].replace("_", " ")


def value_words(value: Any) -> str:
    """A hyperparameter's value, floats with three significant digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "none" if value is None else str(value)


def values_words(values: dict[str, Any]) -> str:
    """ "learning rate 0.001, weight decay 1e-05"."""
    return ", ".join(f"{short(key)} {value_words(value)}" for key, value in values.items())


def counted(value: float) -> str:
    """ "12.3 M", "830 k", "0"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f}"

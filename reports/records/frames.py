"""Small helpers for tables."""

from __future__ import annotations

from typing import Any

import pandas as pd


def rows(table: pd.DataFrame) -> list[Any]:
    """The table's rows as named tuples, without the index. Their fields' types are known to the table only."""
    return list(table.itertuples(index=False))

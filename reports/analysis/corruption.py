"""What methods lose when the test images are corrupted, after Hendrycks and Dietterich (ICLR 2019): relative to the clean Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.records.corruption import SUMS

_CELL = ["method", "corruption", "severity"]


def corruption_table(corrupted: pd.DataFrame) -> pd.DataFrame:
    """Means over domains of means over images, folds and seeds; and what is lost of them.

    The loss is that of the means. A mean of the losses of single images would be that of a few images on which a method
    all but fails: from a Dice of 0.003 to one of 0.03 is a gain of 900 %.

    Args:
        corrupted: see `Records.corrupted`.

    Returns:
        A row for each method, corruption and severity: `clean` and `dice`, the mean Dice of the same images without and
        with the corruption; `loss`, 100 (clean - dice) / clean, NaN where the clean mean is 0; `domains`, their number.
    """
    columns = [*_CELL, "clean", "dice", "loss", "domains"]
    if corrupted.empty:
        return pd.DataFrame(columns=columns)
    sums = corrupted.groupby([*_CELL, "domain"], sort=False)[SUMS].sum().astype(float)
    means = sums[["clean", "dice"]].div(sums["images"], axis=0)
    groups = means.groupby(_CELL, sort=False)
    table = groups.mean().assign(domains=groups.size())
    clean = table["clean"].where(table["clean"] > 0, np.nan)
    return table.assign(loss=100 * (clean - table["dice"]) / clean).reset_index()[columns]


def mean_losses(table: pd.DataFrame, methods: Sequence[str]) -> dict[str, float | None]:
    """Method -> mean relative loss in per cent over its corruptions and severities; None where it is not known.

    Args:
        table: of `corruption_table`.
    """
    means = table.groupby("method")["loss"].mean().astype(float)
    return {name: float(means[name]) if pd.notna(means.get(name)) else None for name in methods}

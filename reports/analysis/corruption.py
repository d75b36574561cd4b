"""What methods lose when the test images are corrupted, after Hendrycks and Dietterich (ICLR 2019): relative to the clean Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reports.records.corruption import SUMS

_CELL = ["method", "corruption", "severity"]


def corruption_table(corrupted: pd.DataFrame) -> pd.DataFrame:
    """Means over domains of means over images, folds and seeds.

    Args:
        corrupted: see `Records.corrupted`.

    Returns:
        A row for each method, corruption and severity: `clean` and `dice`, the mean Dice of the same images without and
        with the corruption; `loss`, the mean relative loss in per cent, NaN where no image had a clean Dice above 0;
        `domains`, their number.
    """
    columns = [*_CELL, "clean", "dice", "loss", "domains"]
    if corrupted.empty:
        return pd.DataFrame(columns=columns)
    sums = corrupted.groupby([*_CELL, "domain"], sort=False)[SUMS].sum().astype(float)
    means = pd.DataFrame(
        {
            "clean": sums["clean"] / sums["images"],
            "dice": sums["dice"] / sums["images"],
            "loss": 100 * sums["loss"] / sums["compared"].where(sums["compared"] > 0, np.nan),
            "domains": 1,
        }
    )
    groups = means.groupby(_CELL, sort=False)
    table = groups[["clean", "dice", "loss"]].mean().assign(domains=groups["domains"].sum())
    return table.reset_index()[columns]


def mean_losses(table: pd.DataFrame, methods: Sequence[str]) -> dict[str, float | None]:
    """Method -> mean relative loss in per cent over its corruptions and severities; None where it is not known.

    Args:
        table: of `corruption_table`.
    """
    means = table.groupby("method")["loss"].mean().astype(float)
    return {name: float(means[name]) if pd.notna(means.get(name)) else None for name in methods}

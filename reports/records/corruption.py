"""What is kept of the corrupted images of a trial: sums over the images of a domain, not a row for each image."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.data.corruptions.form import CorruptedForm

SUMS = ["images", "clean", "dice"]
COLUMNS = ["domain", "corruption", "severity", *SUMS]


def corruption_sums(samples: pd.DataFrame) -> pd.DataFrame:
    """Compares the corrupted images of one trial with the clean ones.

    Args:
        samples: the table of the trial, with the columns role, key, modality, domain and dice.

    Returns:
        A row for each domain ("modality/domain"), corruption and severity: number of `images`, the sum of their `clean`
        Dice and that of their `dice` when corrupted. An image where either is undefined is left out. No rows where nothing
        was corrupted.
    """
    forms = {role: form for role in samples["role"].unique() if (form := CorruptedForm.of_role(role)) is not None}
    rows = samples[samples["role"].isin(forms)]
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    tests = samples[samples["role"] == "test"].set_index("key")["dice"]
    clean = rows["key"].map(tests).astype(float)
    table = pd.DataFrame(
        {
            "domain": rows["modality"].astype(str) + "/" + rows["domain"].astype(str),
            "corruption": rows["role"].map({role: form.name for role, form in forms.items()}),
            "severity": rows["role"].map({role: form.severity for role, form in forms.items()}),
            "images": 1,
            "clean": clean,
            "dice": rows["dice"].astype(float),
        }
    ).dropna()
    return table.groupby(COLUMNS[:3], sort=False, as_index=False)[SUMS].sum()


def no_corruption() -> pd.DataFrame:
    """The table of `Records.corrupted` where nothing was corrupted."""
    return pd.DataFrame(columns=["method", "fold", "seed", "trial", *COLUMNS])


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `Records.corrupted` as one."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else no_corruption()

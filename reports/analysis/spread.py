"""How the images of a domain spread, and in which ways predictions fail: what a mean hides."""

from __future__ import annotations

import pandas as pd

from reports.records.records import Records

QUANTILES = {"low": 0.05, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "high": 0.95}
FAILURES = ("missed", "elsewhere", "false_alarms", "both_empty")


def spread_table(images: pd.DataFrame) -> pd.DataFrame:
    """Quantiles of the Dice over the images of each method and domain, an image tested several times by its mean.

    Args:
        images: columns method, domain_key ("modality/domain") and dice, one row per method and test image.

    Returns:
        One row per method and domain: `images`, the quantiles of QUANTILES, `least` and `most`. A domain with an undefined
        Dice has NaN in all of them.
    """
    if images.empty:
        return pd.DataFrame(columns=["method", "domain", *QUANTILES, "least", "most", "images"])
    groups = images.groupby(["method", "domain_key"], sort=False, observed=True)["dice"]
    table = pd.DataFrame({name: groups.quantile(part) for name, part in QUANTILES.items()})
    table = table.assign(least=groups.min(), most=groups.max(), images=groups.size())
    undefined = images["dice"].isna().groupby([images["method"], images["domain_key"]], observed=True).any()
    table.loc[undefined.reindex(table.index, fill_value=False).to_numpy(), [*QUANTILES, "least", "most"]] = float("nan")
    return table.reset_index().rename(columns={"domain_key": "domain"})


def failure_table(records: Records) -> pd.DataFrame:
    """Counts of test predictions by the way they failed, over all folds and seeds.

    Returns:
        One row per method and domain: `predictions`; `missed` (empty although there is an object), `elsewhere` (not empty,
        but without one common pixel), `false_alarms` (something where there is nothing) and `both_empty` (no failure).
    """
    tests = records.samples[records.samples["role"] == "test"]
    empty = tests["empty"]
    flags = pd.DataFrame(
        {
            "method": tests["method"],
            "domain": tests["modality"].astype(str) + "/" + tests["domain"].astype(str),
            "predictions": 1,
            "missed": empty == "prediction",
            "elsewhere": (empty == "none") & (tests["dice"] == 0),
            "false_alarms": empty == "reference",
            "both_empty": empty == "both",
        }
    )
    counts = flags.groupby(["method", "domain"], sort=False, observed=True)[["predictions", *FAILURES]].sum()
    return counts.astype(int).reset_index()

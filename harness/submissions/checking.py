"""Whether the rows of a submission can be true: every image once, values in their ranges, numbers that fit each other.

Dice, precision and recall of a row follow from three counts of pixels, two of which stand in the row. So a change of one of
them alone is found without the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.data.folder.sample import fault_of_name
from harness.metrics import REGISTRY
from harness.protocols.split import ROLES as SPLIT_ROLES
from harness.submissions.layout import (
    EMPTY,
    IMAGES,
    METRICS,
    MOST_DOMAINS,
    MOST_IMAGES,
    PREDICTIONS,
    ROLES,
    SPLITS,
    Refused,
    SubmittedTrial,
)

LARGEST_SIDE = 100_000
"""Pixels."""
_ROUNDING = 1e-6


def read_splits(table: pd.DataFrame, names: list[str], held_out: list[list[str]]) -> list[dict[str, tuple[str, ...]]]:
    """Of each split its keys by role, sorted.

    Args:
        names, held_out: of each split, as submission.json has them.

    Raises:
        Refused: an image twice in a split, a key that is none, a held-out domain that is trained on.
    """
    _check_places(SPLITS, table["split"], len(names), "split")
    _check_words(SPLITS, table["role"], SPLIT_ROLES)
    images = table["key"].unique()
    for key in images:
        _check_key(key)
    for what, count, most in (
        ("images", len(images), MOST_IMAGES),
        ("domains", len({key.rpartition("/")[0] for key in images}), MOST_DOMAINS),
    ):
        if count > most:
            raise Refused(f"{SPLITS}: expected at most {most:,} {what}, found {count:,}.")
    if table.duplicated(["split", "key"]).any():
        twice = table[table.duplicated(["split", "key"])].iloc[0]
        raise Refused(f"{SPLITS}: expected each image once in a split, found {twice['key']} twice.")
    found = []
    for place, domains in enumerate(held_out):
        own = table[table["split"] == place]
        keys = {role: tuple(sorted(own.loc[own["role"] == role, "key"])) for role in SPLIT_ROLES}
        if not keys["test"]:
            raise Refused(f"{SPLITS}: expected test images in the split {names[place]}, found none.")
        if domains:
            _check_held_out(names[place], keys, set(domains))
        found.append(keys)
    return found


def _check_held_out(name: str, keys: dict[str, tuple[str, ...]], held_out: set[str]) -> None:
    for role in SPLIT_ROLES:
        for key in keys[role]:
            if (key.rpartition("/")[0] in held_out) != (role == "test"):
                raise Refused(
                    f"{SPLITS}: the split {name} holds out {', '.join(sorted(held_out))[:200]}, and has {key} for {role}."
                )


def _check_key(key: str) -> None:
    parts = key.split("/")
    if len(parts) != 3 or any(fault_of_name(part) for part in parts):
        raise Refused(f"expected images as modality/domain/id, found {key[:100]!r}.")


def check_images(table: pd.DataFrame, trials: list[SubmittedTrial]) -> None:
    """Checks images.parquet.

    Raises:
        Refused: what was expected, what was found, and in which row.
    """
    _check_places(IMAGES, table["trial"], len(trials), "trial")
    _check_words(IMAGES, table["role"], ROLES)
    _check_words(IMAGES, table["empty"], EMPTY)
    _check_rows(IMAGES, table, trials)
    _check_sizes(table)
    _check_metrics(table, trials)
    _check_counts(table)


def check_predictions(table: pd.DataFrame, trials: list[SubmittedTrial]) -> None:
    """Checks that predictions.parquet has one mask for each row of images.parquet; the masks are read when they are measured."""
    _check_places(PREDICTIONS, table["trial"], len(trials), "trial")
    _check_words(PREDICTIONS, table["role"], ROLES)
    _check_rows(PREDICTIONS, table, trials)


def _check_places(name: str, column: pd.Series, count: int, what: str) -> None:
    if len(column) == 0:
        raise Refused(f"{name}: expected rows, found none.")
    if column.min() < 0 or column.max() >= count:
        raise Refused(f"{name}: expected {what} from 0 to {count - 1}, found {column.min()} to {column.max()}.")


def _check_words(name: str, column: pd.Series, words: tuple[str, ...]) -> None:
    if other := [word for word in column.unique() if word not in words]:
        raise Refused(f"{name}: column {column.name}: expected {', '.join(words)}; found {str(other[0])[:60]!r}.")


def _check_rows(name: str, table: pd.DataFrame, trials: list[SubmittedTrial]) -> None:
    """Every trial has exactly the test and validation images of its split."""
    groups = dict(list(table.groupby(["trial", "role"], sort=False)["key"]))
    for place, trial in enumerate(trials):
        for role in ROLES:
            wanted, found = trial.spec.split.of(role), groups.get((place, role), pd.Series(dtype=object))
            if found.duplicated().any():
                twice = found[found.duplicated()].iloc[0]
                raise Refused(f"{name}: expected each image once in {trial.spec.label}, found {twice} twice.")
            if set(found) != set(wanted):
                both = len(set(wanted) & set(found))
                raise Refused(
                    f"{name}: expected the {len(wanted):,} {role} images of {trial.spec.label}, found {len(found):,} rows,"
                    f" {both:,} of them of these images."
                )


def _check_sizes(table: pd.DataFrame) -> None:
    pixels = table["width"] * table["height"]
    for side in ("width", "height"):
        _all(table, table[side].between(1, LARGEST_SIDE), side, f"from 1 to {LARGEST_SIDE:,} pixels")
    for count in ("reference_pixels", "predicted_pixels"):
        _all(table, (table[count] >= 0) & (table[count] <= pixels), count, "from 0 to the pixels of the image")
    predicted, reference = table["predicted_pixels"] > 0, table["reference_pixels"] > 0
    kinds = np.select(
        [predicted & reference, ~predicted & ~reference, ~predicted], ["none", "both", "prediction"], "reference"
    )
    _all(table, table["empty"] == kinds, "empty", "what the counts of pixels say")


def _check_metrics(table: pd.DataFrame, trials: list[SubmittedTrial]) -> None:
    largest = np.hypot(table["width"], table["height"]) * (1 + _ROUNDING)
    for name in METRICS:
        values = table[name]
        top: Any = largest if REGISTRY[name].unit else 1.0
        words = "from 0 to the diagonal of the image" if REGISTRY[name].unit else "from 0 to 1"
        _all(table, values.isna() | ((values >= 0) & (values <= top)), name, words)
        measured = np.array([name in trial.metrics for trial in trials])[table["trial"]]
        undefined = np.array([trial.spec.evaluation.empty == "nan" for trial in trials])[table["trial"]]
        may_lack = ~measured | (undefined & (table["empty"] != "none"))
        _all(table, values.notna() | may_lack, name, "a number")
        _all(
            table, values.isna() | measured, name, "no number, since submission.json does not say that it was measured,"
        )


def _check_counts(table: pd.DataFrame) -> None:
    """Dice, precision and recall must name one and the same number of shared pixels."""
    both_full = table[table["empty"] == "none"]
    predicted, reference = both_full["predicted_pixels"], both_full["reference_pixels"]
    shared = both_full["dice"] * (predicted + reference) / 2
    whole = shared.round()
    tolerance = _ROUNDING * (predicted + reference) + _ROUNDING
    _all(both_full, (shared - whole).abs() <= tolerance, "dice", "what some whole number of shared pixels gives")
    _all(both_full, whole <= np.minimum(predicted, reference), "dice", "what these counts of pixels can give")
    for name, count in (("precision", predicted), ("recall", reference)):
        values = both_full[name]
        _all(both_full, values.isna() | ((values * count - whole).abs() <= tolerance), name, "what fits the Dice")
    _check_policy(table)


def _check_policy(table: pd.DataFrame) -> None:
    """Where one mask is empty nothing is shared; where both are, the Dice is 1 or undefined."""
    one = table["empty"].isin(["prediction", "reference"]) & table["dice"].notna()
    _all(table, ~one | (table["dice"] == 0), "dice", "0 where one mask is empty")
    both = (table["empty"] == "both") & table["dice"].notna()
    _all(table, ~both | (table["dice"] == 1), "dice", "1 where both masks are empty")


def _all(table: pd.DataFrame, holds: Any, column: str, expected: str) -> None:
    good: npt.NDArray[np.bool_] = np.asarray(holds, bool)
    if not good.all():
        row = table.iloc[int(np.argmin(good))]
        raise Refused(f"{IMAGES}: {row['key']}: expected {column} {expected}, found {row[column]}.")

"""What a search is worth: each fold's choice, made without the domain that the fold holds out, tested on that domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.store.store import Store
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class NestedScore:
    """Test Dice over the folds' held-out domains, with 95 % intervals over images: [value, low, high].

    `difference` is tuned less default, paired by image.
    """

    tuned: tuple[float, float | None, float | None]
    default: tuple[float, float | None, float | None]
    difference: tuple[float, float | None, float | None]


def tested_rows(store: Store, trials: Sequence[TrialSpec]) -> pd.DataFrame | None:
    """The rows of the trials' test images; None unless all trials are done."""
    import pandas as pd

    records = [store.load(trial.ids) if store.result(trial.ids) else None for trial in trials]
    frames = [record.samples for record in records if record is not None and record.samples is not None]
    if len(frames) < len(trials):
        return None
    rows = pd.concat(frames, ignore_index=True)
    return rows[rows["role"] == "test"]


def mean_test_dice(rows: pd.DataFrame) -> float:
    """Over a domain's images, then over domains."""
    from harness.statistics import macro_mean

    images = _images(rows)
    return macro_mean(images["dice"], images["domain_key"])


def nested_score(tuned: Sequence[pd.DataFrame], default: Sequence[pd.DataFrame]) -> NestedScore:
    """Both over the same folds; an image tested in several folds counts once, by its mean.

    Args:
        tuned, default: test rows of each fold's choice, and of the method without a search.
    """
    import pandas as pd

    from harness.statistics import DomainBootstrap, Estimate

    before, after = (_images(pd.concat(rows)) for rows in (default, tuned))
    images = before.assign(tuned=after["dice"])
    units = images["subject"].where(images["subject"].notna(), images.index.to_series()).astype(str).tolist()
    bootstrap = DomainBootstrap(images[["dice", "tuned"]].to_numpy(float), images["domain_key"].tolist(), units)

    def as_interval(estimate: Estimate) -> tuple[float, float | None, float | None]:
        return estimate.value, estimate.low, estimate.high

    plain, best = bootstrap.weights(0), bootstrap.weights(1)
    return NestedScore(*(as_interval(bootstrap.contrast(weights)) for weights in (best, plain, best - plain)))


def _images(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per image, by key: its mean Dice over folds and seeds, and the domain it is from."""
    from harness.statistics import mean_per_image

    images = mean_per_image(rows, ["dice"], by=("role",)).set_index("key")
    return images.assign(domain_key=images["modality"].astype(str) + "/" + images["domain"].astype(str))

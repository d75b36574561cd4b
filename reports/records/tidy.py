"""The records of a run as two tidy tables, for people who compute with them: one row for each image, one for each trial."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from harness.metrics import shown_metrics
from harness.statistics import macro_mean
from reports.records.records import GUESS, Records, ReportedTrial

START = "what its weights learnt on before: scratch, natural images, medical images, none or not stated; compare within equal starts"
IMAGE_COLUMNS = {
    "method": "name of the method, as in method=...",
    "title": "what the report calls it",
    "start": START,
    "fold": "name of the split",
    "seed": "seed of the training",
    "role": "test (a domain that was held out, unless protocol=in_domain) or validation (a training domain)",
    "modality": "such as dermoscopy",
    "domain": "hospital, device or protocol, within the modality",
    "id": "the image, within the domain",
    "key": "modality/domain/id",
    "subject": "the patient, where the manifest knows",
    "width": "pixels",
    "height": "pixels",
    "empty": "which mask is empty: none, prediction, reference or both",
    "reference_pixels": "foreground pixels of the reference mask",
    "predicted_pixels": "foreground pixels of the predicted mask",
    GUESS: "what the method took the image's modality for; missing where it does not guess",
}
"""Columns of `images_table`, before one for each metric. An image stands in it once for each trial that predicted it."""

TRIAL_COLUMNS = {
    "method": "name of the method, as in method=...",
    "title": "what the report calls it",
    "start": START,
    "fold": "name of the split",
    "seed": "seed of the training",
    "state": "done, failed, unfinished, damaged or missing",
    "reason": "why it is not done",
    "held_out": "domains that were kept out of training, modality/domain, separated by commas",
    "prompt": "none, or how the truth prompts the method: such rows are ranked apart",
    "epochs": "epochs trained; missing where nothing was trained",
    "chosen_epoch": "the epoch whose weights were tested",
    "seconds": "training and prediction together",
    "images": "test images",
    "trial": "id of the training: the folder in <store>/trials",
    "prediction": "id of the masks",
    "measurement": "id of the numbers",
}
"""Columns of `trials_table`, before one for each metric: its mean over the test images of a domain, then over domains."""


def images_table(records: Records) -> pd.DataFrame:
    """One row for each trial and image: `IMAGE_COLUMNS`, then the metrics. A metric that was not measured is NaN.

    Trials without a result have no rows: `trials_table` names them. A mean over images of a method that lacks trials is no
    result of that method.
    """
    titles = {name: facts.title for name, facts in records.methods.items()}
    starts = {name: facts.start for name, facts in records.methods.items()}
    methods = records.samples["method"]
    table = records.samples.assign(title=methods.map(titles), start=methods.map(starts))
    return _typed(table[[*IMAGE_COLUMNS, *shown_metrics()]].reset_index(drop=True))


def trials_table(records: Records) -> pd.DataFrame:
    """One row for each trial that the run asked for: `TRIAL_COLUMNS`, then the metrics, NaN where there is no result."""
    tests = records.samples[records.samples["role"] == "test"]
    groups = {str(trial): rows for trial, rows in tests.groupby("trial", sort=False)}
    rows = [_trial_row(records, trial, groups.get(trial.id)) for trial in records.trials]
    return _typed(pd.DataFrame(rows, columns=[*TRIAL_COLUMNS, *shown_metrics()]))


def _trial_row(records: Records, trial: ReportedTrial, tests: pd.DataFrame | None) -> dict[str, Any]:
    facts = records.methods[trial.method]
    row: dict[str, Any] = {
        "method": trial.method,
        "title": facts.title,
        "start": facts.start,
        "fold": trial.fold,
        "seed": trial.seed,
        "state": trial.state,
        "reason": trial.reason,
        "held_out": ", ".join(trial.spec.split.held_out) if trial.spec else None,
        "prompt": facts.prompt,
        "epochs": trial.summary.get("epochs"),
        "chosen_epoch": trial.summary.get("chosen_epoch"),
        "seconds": trial.seconds,
        "images": 0 if tests is None else len(tests),
        "trial": trial.ids.training,
        "prediction": trial.ids.prediction,
        "measurement": trial.ids.measurement,
    }
    for metric in shown_metrics():
        row[metric] = math.nan
        if tests is not None:
            row[metric] = macro_mean(tests[metric], tests["modality"].astype(str) + "/" + tests["domain"].astype(str))
    return row


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers: a column without a single value would be one of objects."""
    numbers = [name for name in ("epochs", "chosen_epoch", "seconds", *shown_metrics()) if name in table]
    return table.assign(**{name: pd.to_numeric(table[name]).astype(float) for name in numbers})

"""Adds the trials of an earlier submission to a new one: seeds and methods that ran elsewhere, or whose store is gone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.protocols.split import Split
from harness.submissions.layout import IMAGES, PREDICTIONS, Submission, SubmittedTrial

Manifest = dict[str, Any]
Tables = dict[str, pd.DataFrame]

# What a trial was made by, but for its method, its split and its seed.
_SETTINGS = ("protocol", "training", "inference", "versions")
# What a method is, but for its card and its costs: those of the new submission stand for both.
_METHOD = ("version", "model", "files", "trainer")


def with_earlier(
    manifest: Manifest, tables: Tables, splits: Sequence[Split], file: str, earlier: Submission
) -> tuple[Manifest, Tables, list[Split]]:
    """The new submission's manifest, tables and splits, and behind them what the earlier one holds.

    Methods of one name are one method: their seeds stand together, so both must have been trained and tested alike.

    Args:
        tables: IMAGES, and PREDICTIONS where masks are packed.
        file: the earlier one's, for messages.

    Raises:
        UserError: other images, rules or settings; a trial that both have; masks that the earlier one lacks.
    """
    for key in ("data", "metrics"):
        _check_equal(file, key, manifest[key], earlier.manifest[key])
    old: Any = earlier.manifest
    names = [method["name"] for method in manifest["methods"]]
    added = [method for method in old["methods"] if method["name"] not in names]
    methods = [*manifest["methods"], *added]
    places = [[each["name"] for each in methods].index(method["name"]) for method in old["methods"]]
    for method, place in zip(old["methods"], places, strict=True):
        for key in _METHOD:
            _check_equal(file, f"{key} of {method['name']}", methods[place][key], method[key])
    whole = list(dict.fromkeys([*splits, *(trial.spec.split for trial in earlier.trials)]))
    trials = [
        {
            **entry,
            "method": places[entry["method"]],
            "split": whole.index(trial.spec.split),
            "provenance": entry["provenance"] + len(manifest["provenances"]),
            **_settings(trial),
        }
        for entry, trial in zip(old["trials"], earlier.trials, strict=True)
    ]
    _check_trials(file, methods, whole, manifest["trials"], trials)
    joined = {
        **manifest,
        "runs": [*manifest["runs"], *old["runs"]],
        "splits": [*manifest["splits"], *(_entry(split) for split in whole[len(splits) :])],
        "methods": methods,
        "provenances": [*manifest["provenances"], *old["provenances"]],
        "trials": [*manifest["trials"], *trials],
    }
    return joined, _tables(tables, file, earlier, len(manifest["trials"])), whole


def _entry(split: Split) -> dict[str, Any]:
    return {"name": split.name, "held_out": list(split.held_out), "content": split.to_json()["content"]}


def _settings(trial: SubmittedTrial) -> dict[str, Any]:
    """As this version of the bench names them."""
    found = {key: getattr(trial.spec, key) for key in _SETTINGS}
    return {key: None if value is None else asdict(value) for key, value in found.items()}


def _check_trials(
    file: str,
    methods: Sequence[Mapping[str, Any]],
    splits: Sequence[Split],
    new: Sequence[Mapping[str, Any]],
    old: Sequence[Mapping[str, Any]],
) -> None:
    """The trials of a method that both have differ in split and seed alone, and no two have both."""
    for place, name in enumerate(method["name"] for method in methods):
        ours, theirs = ([trial for trial in trials if trial["method"] == place] for trials in (new, old))
        if not ours or not theirs:
            continue
        for key, trial in itertools.product(_SETTINGS, theirs):
            _check_equal(file, f"{key} of {name}", ours[0][key], trial[key])
        if {trial["split"] for trial in ours} != {trial["split"] for trial in theirs}:
            raise UserError(
                f"{file}: {name} was tested there on other splits or images than in this run. Submit them as two files."
            )
        both = {(trial["split"], trial["seed"]) for trial in ours} & {
            (trial["split"], trial["seed"]) for trial in theirs
        }
        if both:
            split, seed = min(both)
            raise UserError(
                f"The run and {file} both have {name} on {splits[split].name}, seed {seed}. Choose what the run adds, with"
                " --method or --seed."
            )


def _check_equal(file: str, what: str, new: Any, old: Any) -> None:
    if new == old:
        return
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        new, old = ({key: each.get(key) for key in keys} for each in (new, old))
    raise UserError(
        f"{file}: expected the same {what} as in this run, {str(new)[:200]}, found {str(old)[:200]}. Submit them as two files."
    )


def _tables(tables: Tables, file: str, earlier: Submission, count: int) -> Tables:
    """The rows of both; the earlier ones are of trials that come after the first `count`."""
    found = {IMAGES: earlier.images}
    if PREDICTIONS in tables:
        if earlier.predictions is None:
            raise UserError(f"{file} holds no masks: pack numbers alone, with --without-masks.")
        found[PREDICTIONS] = earlier.predictions
    return {
        name: pd.concat([tables[name], table.assign(trial=table["trial"] + count)], ignore_index=True)
        for name, table in found.items()
    }

"""Adds the trials of an earlier submission to a new one: seeds and methods that ran elsewhere, or whose store is gone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.protocols.split import Split
from harness.submissions.layout import IMAGES, PREDICTIONS, Submission, SubmittedTrial
from harness.trial_spec import without_files

Manifest = dict[str, Any]
Tables = dict[str, pd.DataFrame]

# What a trial was made by, but for its method, its split and its seed.
_SETTINGS = ("protocol", "training", "inference", "versions")
_METHOD = ("version", "files", "trainer")
# Of a card, what a method may do and what it starts from. Titles, papers and costs of the run stand for both.
_CARD = ("prompt", "uses_modality", "external", "start", "pretrained", "pretrained_on", "sees_test_images", "algorithm")
_ALONE = "Submit them as two files."


def with_earlier(
    manifest: Manifest, tables: Tables, splits: Sequence[Split], file: str, earlier: Submission
) -> tuple[Manifest, Tables, list[Split]]:
    """The new submission's manifest (without `splits`), tables and splits, and behind them what the earlier one holds.

    Methods of one name are one method: their seeds stand together, so both must have been trained and tested alike.

    Args:
        tables: IMAGES, and PREDICTIONS where masks are packed.
        file: the earlier one's, for messages.

    Raises:
        UserError: other images, rules or settings; a trial that both have; masks that the earlier one lacks.
    """
    old: Any = earlier.manifest
    for key in (
        "metrics",
        "data",
    ):  # a folder may have another name elsewhere: splits tell whether its images are the same
        _check_equal(file, key, *({**each[key], "name": None} for each in (manifest, old)))
    names = [method["name"] for method in manifest["methods"]]
    _check_names("the run", names)
    _check_names(file, [method["name"] for method in old["methods"]])
    costs = {method["name"]: method["costs"] for method in old["methods"]}
    methods = [
        # What the run did not count the earlier one may have.
        *({**method, "costs": method["costs"] or costs.get(method["name"], {})} for method in manifest["methods"]),
        *(method for method in old["methods"] if method["name"] not in names),
    ]
    places = {method["name"]: place for place, method in enumerate(methods)}
    for method in old["methods"]:
        _check_method(file, methods[places[method["name"]]], method)
    whole = _all_splits(file, splits, [trial.spec.split for trial in earlier.trials])
    trials = [
        {
            **entry,
            "method": places[trial.spec.method.name],
            "split": whole.index(trial.spec.split),
            "provenance": entry["provenance"] + len(manifest["provenances"]),
            **_settings(trial),
        }
        for entry, trial in zip(old["trials"], earlier.trials, strict=True)
    ]
    _check_trials(file, methods, whole, manifest["trials"], trials)
    joined = {
        **manifest,
        "runs": [*manifest["runs"], *(run for run in old["runs"] if run not in manifest["runs"])],
        "methods": _with_own_titles(methods),
        "provenances": [*manifest["provenances"], *old["provenances"]],
        "trials": [*manifest["trials"], *trials],
    }
    return joined, _tables(tables, file, earlier, len(manifest["trials"])), whole


def _settings(trial: SubmittedTrial) -> dict[str, Any]:
    """As this version of the bench names them."""
    found = {key: getattr(trial.spec, key) for key in _SETTINGS}
    return {key: None if value is None else asdict(value) for key, value in found.items()}


def _with_own_titles(methods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two rows of one title would look the same: the later one has its name behind it."""
    found: list[dict[str, Any]] = []
    for method in methods:
        card = method["card"]
        if card["title"].casefold() in {each["card"]["title"].casefold() for each in found}:
            card = {**card, "title": f"{card['title']} ({method['name']})"}
        found.append({**method, "card": card})
    return found


def _all_splits(file: str, new: Sequence[Split], old: Sequence[Split]) -> list[Split]:
    whole = list(dict.fromkeys([*new, *old]))
    names = Counter(split.name for split in whole)
    if twice := sorted(name for name, count in names.items() if count > 1):
        raise UserError(f"{file}: {', '.join(twice)} had other images there than in this run. {_ALONE}")
    return whole


def _check_names(where: str, names: Sequence[str]) -> None:
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(f"{where}: expected each method once, found several named {', '.join(twice)}. {_ALONE}")


def _check_method(file: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    """Both are the same method."""
    if new is old:
        return
    for key in _METHOD:
        _check_equal(file, f"{key} of {new['name']}", new[key], old[key])
    models = (without_files(each["model"], each["files"]) for each in (new, old))
    _check_equal(file, f"model of {new['name']}", *models)
    cards = ({key: each["card"].get(key) for key in _CARD} for each in (new, old))
    _check_equal(file, f"card of {new['name']}", *cards)


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
        where = [{splits[trial["split"]].name for trial in trials} for trials in (ours, theirs)]
        if where[0] != where[1]:
            here, there = (", ".join(sorted(each)) for each in where)
            raise UserError(
                f"{file}: expected the same splits of {name} as in this run, {here}, found {there}. {_ALONE}"
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
        keys = [key for key in {**old, **new} if old.get(key, ...) != new.get(key, ...)]
        new, old = ({key: each[key] for key in keys if key in each} for each in (new, old))
    raise UserError(
        f"{file}: expected the same {what} as in this run, {str(new)[:300]}, found {str(old)[:300]}. {_ALONE}"
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

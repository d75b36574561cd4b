"""What the numbers of a run are, in one line, and what a reader must know before believing them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import yaml

from harness.errors import counted
from reports.records.formatting import SELECTION_WORDS
from reports.records.records import Records

TINY_BUDGET = 10_000
"""Images that a method sees in training, repetitions included. Published runs take hundreds of thousands."""
_SCOPES = {"universal": "one model for all modalities", "per_modality": "one model per modality"}


def headline(records: Records) -> str:
    """For example "leave_one_domain_out, one model for all modalities, 3 folds · 128 px · 15 epochs (training=quick) · ..."."""
    folds = len({trial.fold for trial in records.trials})
    scopes = [_SCOPES.get(scope, scope) for scope in _values(records, "protocol", "scope")]
    protocol = [_joined(_values(records, "protocol", "name")), _joined(scopes), counted(folds, "fold")]
    preset = _training_preset(records.suite.config.get("training") or {})
    epochs = _values(records, "training", "epochs")
    selections = [SELECTION_WORDS.get(name, name) for name in _values(records, "training", "selection")]
    seeds = sorted({trial.seed for trial in records.trials})
    parts = [
        ", ".join(filter(None, protocol)),
        f"{_joined(_values(records, 'training', 'image_size'))} px" + _geometry(records),
        f"{_joined(epochs)} {'epoch' if epochs == ['1'] else 'epochs'}" + (f" (training={preset})" if preset else ""),
        f"selection: {_joined(selections)}",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {_joined(map(str, seeds))}",
        f"data: {_data(records)}",
    ]
    # What neither the trials nor the configuration tell is left out.
    return " · ".join(part for part in parts if part.strip() not in ("px", "epochs", "selection:", "data:"))


def cautions(records: Records) -> list[str]:
    """What stands above everything else: drawn images, or a budget too small to compare methods by."""
    if _are_phantoms(records):
        return ["Phantoms: drawn images. Shows that everything works, not how good a method is."]
    budgets = {
        (trial.summary.get("epochs", trial.spec.training.epochs), len(trial.spec.split.train))
        for trial in records.trials
        if trial.spec and trial.spec.training
    }
    if not any(epochs for epochs, _ in budgets):  # nothing learns by epochs: no budget is too small for it
        return []
    epochs, images = max(budgets, key=lambda budget: budget[0] * budget[1])
    if epochs * images >= TINY_BUDGET:
        return []
    seen = f"at most {counted(epochs, 'epoch')} of {counted(images, 'training image')}"
    return [f"Tiny budget: {seen}. Shows what methods learn in a short time, not how good they become."]


def _are_phantoms(records: Records) -> bool:
    data = records.suite.config.get("data") or {}
    return ("root" in data and data["root"] is None) or _data_names(records) == ["phantoms"]


def _data(records: Records) -> str:
    most = (records.suite.config.get("data") or {}).get("max_per_domain")
    names = _data_names(records) or (["phantoms"] if _are_phantoms(records) else [])
    return _joined(names) + (f", at most {counted(most, 'image')} per domain" if names and most else "")


def _data_names(records: Records) -> list[str]:
    """The planned trials' data; the configured folder's name while there is none."""
    names = dict.fromkeys(trial.spec.data.name for trial in records.trials if trial.spec)
    root = (records.suite.config.get("data") or {}).get("root")
    return list(names) or ([str(root).rstrip("/").rpartition("/")[2]] if root else [])


def _values(records: Records, part: str, key: str) -> list[str]:
    """The trials' settings, each value once; the run's configuration while no trial has begun."""
    settings = [trial.spec.settings()[part] for trial in records.trials if trial.spec]
    found = [each[key] for each in settings if key in each]
    if not found:
        found = [value for value in [(records.suite.config.get(part) or {}).get(key)] if value is not None]
    return [str(value) for value in sorted(set(found))]


def _geometry(records: Records) -> str:
    """ " tiles", and the like; nothing where all images are stretched."""
    found = _values(records, "training", "geometry")
    return "" if found in ([], ["stretch"]) else f" {_joined(found)}"


def _training_preset(training: dict[str, Any]) -> str:
    """The name of the shipped training settings that these are, or ""."""
    from harness.config import TrainingConfig
    from harness.config.yaml_tree import config_folder, option_names

    for name in option_names("training"):
        preset = yaml.safe_load((config_folder() / "training" / f"{name}.yaml").read_text("utf-8"))
        wanted = asdict(TrainingConfig(**preset))
        # An older run may lack a key that is new, but none that the settings themselves name.
        if set(preset) <= set(training) and all(training.get(key, value) == value for key, value in wanted.items()):
            return name
    return ""


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)

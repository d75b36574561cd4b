"""The cards of all methods and algorithms, read from their YAML files without importing or composing anything."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.encoder_weights import encoder_data, encoder_start, encoder_state
from harness.config.yaml_tree import config_folder, config_folders, parse_yaml
from harness.errors import UserError

_OF_WEIGHTS = {"start": encoder_start, "pretrained": encoder_state, "pretrained_on": encoder_data}
"""Keys of a card that follow from `encoder_weights` where the YAML says so."""
COUNTED_SIZE = 256
"""Side in pixels of the image for which `suites/counts.csv` counts multiply-accumulates."""


@dataclass(frozen=True)
class Counts:
    """What a shipped method's default costs, the same on every machine: see docs/count_costs.py.

    Attributes:
        parameters: deployed ones, built for all six modalities.
        active: those that an image of one modality passes through.
        gmacs: 10^9 multiply-accumulates of one image of COUNTED_SIZE pixels a side.
    """

    parameters: int
    active: int
    gmacs: float


def method_cards(extra_folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Name -> card of every `method/<name>.yaml`, with what it inherits from `base/`.

    Raises:
        UserError: a YAML file can't be read.
    """
    return _cards("method", extra_folder)


def algorithm_cards(extra_folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Name -> card of every `algorithm/<name>.yaml`.

    Raises:
        UserError: a YAML file can't be read.
    """
    return _cards("algorithm", extra_folder)


def method_counts() -> dict[str, Counts]:
    """Name -> counts of the shipped methods that can be built without weights that nobody ships."""
    with (config_folder() / "counts.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["method"]: Counts(int(row["parameters"]), int(row["active"]), float(row["gmacs"]))
            for row in csv.DictReader(file)
        }


def _cards(group: str, extra_folder: Path | None) -> dict[str, dict[str, Any]]:
    return {
        path.stem: _plain(*_card_and_model(path))
        for folder in config_folders(extra_folder)
        for path in sorted((folder / group).glob("*.yaml"))
    }


def _card_and_model(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """These parts of a YAML file, with what they inherit."""
    content = _content(path)
    card: dict[str, Any] = {}
    model: dict[str, Any] = {}
    for entry in content.get("defaults") or []:
        if isinstance(entry, str) and (parent := re.fullmatch(r"([\w/]+)@_here_", entry)):
            inherited = _card_and_model(path.parent / f"{parent[1]}.yaml")
            card |= inherited[0]
            model |= inherited[1]
    return card | (content.get("card") or {}), model | (content.get("model") or {})


def _content(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = parse_yaml(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected lines of key: value, found a {type(content).__name__}.")
    return content


def _plain(card: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Without what only a composed run knows: an interpolation with a default or a title counts as that, any other as none."""
    weights = model.get("encoder_weights")
    weights = None if isinstance(weights, str) and weights.startswith("${") else weights
    return {
        key: _OF_WEIGHTS[key](weights)
        if key in _OF_WEIGHTS and isinstance(value, str) and value.startswith("${encoder_")
        else _without_interpolation(value)
        for key, value in card.items()
    }


def _without_interpolation(value: Any) -> Any:
    if isinstance(value, str):
        value = re.sub(r"\$\{encoder_title:([^,]*),[^}]*\}\}", r"\1", value)
    if not isinstance(value, str) or not value.startswith("${"):
        return value
    default = re.fullmatch(r"\$\{oc\.select:[^,]+,(.*)\}", value)
    return parse_yaml(default[1]) if default else "none"

"""What a method's YAML must say of it: the keys of its card, and which values they take."""

from __future__ import annotations

from typing import Any

from harness.errors import UserError, did_you_mean
from harness.methods.trainer import check_trainer

CARD_KEYS = ("title", "paper", "licence", "prompt", "uses_modality", "pretrained", "pretrained_on")
"""Required. `start` is a further one, which may be left out where `pretrained: none` says it."""
TEXTS = ("title", "paper", "licence", "prompt", "pretrained")
_CONFIG_KEYS = ("card", "version", "model", "trainer", "training", "supports_algorithms")
ORACLE = "oracle"
PROMPTS = ("none", "oracle box", "oracle point", "oracle patches")
USES_MODALITY = (True, False, "inferred")
SCRATCH, NO_WEIGHTS, NOT_STATED = "scratch", "none", "not stated"
STARTS = (SCRATCH, "natural images", "medical images", NO_WEIGHTS, NOT_STATED)
"""What the weights of a method learnt on before its training here. `medical images`: at last, whatever came before."""
_WEIGHTS = ("weights", "encoder_weights", "teacher_weights")
"""Keys of a model that name a file of weights, in the methods shipped here."""


def check_method_config(name: str, config: Any) -> None:
    """Checks the parts of a `method/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown.
    """
    if not isinstance(config, dict):
        raise UserError(f"methods.{name} is {type(config).__name__}, expected the keys card, version, model, training.")
    for key in config:
        if key not in _CONFIG_KEYS:
            raise UserError(f"methods.{name}.{key} is unknown.{did_you_mean(key, _CONFIG_KEYS)}")
    if "trainer" in config:
        check_trainer(name, config["trainer"])
        if config.get("model") or config.get("supports_algorithms"):
            raise UserError(
                f"methods.{name} has a trainer of its own: expected neither model: nor supports_algorithms: true beside it."
            )
    elif not isinstance(config.get("model"), dict) or "_target_" not in config["model"]:
        raise UserError(
            f"methods.{name}.model._target_ is missing: expected the import path of a class, as package.module.Class."
        )
    card = config.get("card") or {}
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise UserError(
            f"methods.{name}.card lacks {', '.join(missing)}: these keys are required, because the report shows them."
        )
    check_card(card, f"methods.{name}.card")
    if "trainer" not in config:
        _check_weights(name, card, config["model"])


def check_card(card: dict[str, Any], where: str) -> None:
    """Checks the values of a whole card; `where` is its name in messages.

    Raises:
        UserError: a text that YAML took for something else, an unknown prompt or start, a list that is none.
    """
    for key in TEXTS:
        if not isinstance(card[key], str) or not card[key].strip():
            raise UserError(
                f"{where}.{key}: expected a text, found {card[key]!r}, which YAML makes of it without quotes. Write it in"
                f' quotes: {key}: "..."'
            )
    if card["prompt"] not in PROMPTS:
        raise UserError(f"{where}.prompt is '{card['prompt']}', expected one of: {', '.join(PROMPTS)}.")
    if card["uses_modality"] not in USES_MODALITY:
        raise UserError(
            f"{where}.uses_modality is '{card['uses_modality']}', expected true, false, or inferred (the method guesses it)."
        )
    names = card["pretrained_on"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}.pretrained_on={names}: expected a list of names, for example [isic2017, ph2].")
    _check_start(card, where)


def start_of(card: dict[str, Any]) -> str:
    """The start that a card states, one of STARTS; where it does not: `pretrained: none` tells, else it is not stated."""
    if card.get("start") in STARTS:
        return str(card["start"])
    if card.get("trivial_baseline") is True:
        return NO_WEIGHTS
    return SCRATCH if card.get("pretrained") == "none" else NOT_STATED


def _check_start(card: dict[str, Any], where: str) -> None:
    if "start" not in card:
        if card["pretrained"] in ("none", NOT_STATED):
            return
        raise UserError(
            f"{where}.start is missing: the card says pretrained: {card['pretrained']}. Expected one of:"
            f" {', '.join(STARTS)}. The report ranks methods within equal starts."
        )
    start = card["start"]
    if start not in STARTS:
        raise UserError(
            f"{where}.start is '{start}', expected one of: {', '.join(STARTS)}.{did_you_mean(str(start), STARTS)}"
        )
    if start in (SCRATCH, NO_WEIGHTS) and card["pretrained"] != "none":
        raise UserError(f"{where}: start: {start} and pretrained: {card['pretrained']} contradict each other.")
    if start in ("natural images", "medical images") and card["pretrained"] == "none":
        raise UserError(
            f"{where}: start: {start} and pretrained: none contradict each other. Say which weights these are."
        )


def _check_weights(name: str, card: dict[str, Any], model: dict[str, Any]) -> None:
    """A file given on the command line starts the method from more than its card says."""
    given = [key for key in _WEIGHTS if model.get(key) is not None]
    if given and start_of(card) in (SCRATCH, NO_WEIGHTS):
        raise UserError(
            f"methods.{name}.model.{given[0]} names weights, but the card says pretrained: none. Say what they are and learnt"
            f' on, for the report: methods.{name}.card.pretrained="..." methods.{name}.card.start="natural images" (or medical'
            " images, or not stated)."
        )

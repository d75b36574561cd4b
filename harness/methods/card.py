"""What a method's YAML must say of it: the keys of its card, and which values they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, ClassVar

from harness.config.validation import Checked, Expected, Flag, OneOf, Range, Text, validated
from harness.errors import UserError
from harness.methods.trainer import TrainerFile

ORACLE = "oracle"
PROMPTS = ("none", "oracle box", "oracle point", "oracle patches")
SCRATCH, NO_WEIGHTS, NOT_STATED = "scratch", "none", "not stated"
STARTS = (SCRATCH, "natural images", "medical images", NO_WEIGHTS, NOT_STATED)
"""What the weights of a method learnt on before its training here. `medical images`: at last, whatever came before."""
Passes = Annotated[int, Range(1)]
_WEIGHTS = ("weights", "encoder_weights", "teacher_weights")
"""Keys of a model that name a file of weights, in the methods shipped here."""


@dataclass(frozen=True)
class Card(Checked):
    """What reports say of a method. Trials keep a card as the dictionary that it was read from.

    Attributes:
        uses_modality: "inferred" where the method guesses it.
        pretrained_on: the public datasets that its weights learnt on.
        start: what its weights learnt on; may be left out where `pretrained: none` says it.
        trivial_baseline: it learns no weights, and networks must beat it.
        passes: how many times it predicts a tested image, mirrored for example, whose mean counts.
        sees_test_images: it adapts to unlabelled test images.
        algorithm: the algorithm's own card, where a search tuned a pair of method and algorithm.
        note: for readers of the file.
    """

    title: Text
    paper: Text
    licence: Text
    prompt: Annotated[str, OneOf(*PROMPTS)]
    uses_modality: Annotated[bool | str, OneOf(True, False, "inferred")]
    pretrained: Text
    pretrained_on: Annotated[list[str], Expected("a list of names", "[isic2017,ph2]")]
    start: Annotated[str, OneOf(*STARTS)] | None = None
    trivial_baseline: Flag = False
    sees_test_images: Flag = False
    passes: Passes = 1
    algorithm: dict[str, Any] | None = None
    note: str = ""


CARD_KEYS = tuple(item.name for item in fields(Card) if item.default is MISSING)
TEXTS = ("title", "paper", "licence", "prompt", "pretrained")
ADDED = ("external", "resized")
"""What `evaluate` adds to the card of another tool: no author writes it."""


@dataclass(frozen=True)
class Model(Checked):
    """A class and its arguments, which the class checks itself when it is built."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "allow"}

    _target_: Annotated[str, Expected("the import path of a class, as package.module.Class", pattern=r"\S")]


@dataclass(frozen=True)
class MethodFile(Checked):
    """A `method/<name>.yaml` after composition: with `model:` or `trainer:`.

    Attributes:
        version: a number; of a tuned pair of method and algorithm, two joined by a plus.
        training: checked where it is merged with the preset.
    """

    card: Card
    version: Any = 1
    model: Model | None = None
    trainer: TrainerFile | None = None
    training: Any = None
    supports_algorithms: Flag | None = None


def check_method_config(name: str, config: Any) -> None:
    """Checks the parts of a `method/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown, has a wrong value, or contradicts another one.
    """
    where = f"methods.{name}"
    checked = validated(MethodFile, config, where)
    if checked.trainer is not None:
        if checked.model or checked.supports_algorithms:
            raise UserError(
                f"{where} has a trainer of its own: expected neither model: nor supports_algorithms: true beside it."
            )
    elif checked.model is None:
        validated(Model, {}, f"{where}.model")
    _check_start(checked.card, f"{where}.card")
    if checked.model is not None:
        _check_weights(name, config["card"], config["model"])


def check_card(card: Mapping[str, Any], where: str) -> None:
    """Checks a whole card; `where` is its name in messages.

    Raises:
        UserError: a key is missing or unknown, a value is wrong, or two contradict each other.
    """
    _check_start(validated(Card, card, where), where)


def start_of(card: dict[str, Any]) -> str:
    """The start that a card states, one of STARTS; where it does not: `pretrained: none` tells, else it is not stated."""
    if card.get("start") in STARTS:
        return str(card["start"])
    if card.get("trivial_baseline") is True:
        return NO_WEIGHTS
    return SCRATCH if card.get("pretrained") == "none" else NOT_STATED


def _check_start(card: Card, where: str) -> None:
    if card.start is None:
        if card.pretrained in ("none", NOT_STATED):
            return
        raise UserError(
            f"{where}.start is missing: the card says pretrained: {card.pretrained}. Expected one of:"
            f" {', '.join(STARTS)}. The report ranks methods within equal starts."
        )
    if card.start in (SCRATCH, NO_WEIGHTS) and card.pretrained != "none":
        raise UserError(f"{where}: start: {card.start} and pretrained: {card.pretrained} contradict each other.")
    if card.start in ("natural images", "medical images") and card.pretrained == "none":
        raise UserError(
            f"{where}: start: {card.start} and pretrained: none contradict each other. Say which weights these are."
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

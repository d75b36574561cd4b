"""What methods bring along by themselves, and no training preset says: from their cards and the arguments of their `model:`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.records.records import MethodFacts

_TOLD = {"none": "not told", "given": "told", "inferred": "guessed by the method"}
_FRESH = "new ones each time"


def method_terms(facts: MethodFacts) -> dict[str, str]:
    """Terms in words, under the same keys for every method, so that they can be compared.

    The arguments that count are those that `harness/methods/contract.py` names: `stages`, `views` and `encoder_rate`. One of these
    names that holds something else belongs to the network, and is left out.
    """
    arguments = _own_arguments(facts.model or {})
    stages, views, encoder_rate = (arguments.get(key) for key in ("stages", "views", "encoder_rate"))
    in_order = [_stage(entry) for entry in stages] if isinstance(stages, list) else []
    in_order = in_order if all(isinstance(stage.get("name"), str) for stage in in_order) else []
    return {
        "modality of each image": _TOLD[facts.modality_knowledge],
        "passes over a tested image": str(facts.card.get("passes") or 1),
        "stages": _stage_words(in_order),
        "augmented views of an image": _view_words(in_order, views),
        "parts at another learning rate": _rate_words(in_order, encoder_rate),
    }


def _own_arguments(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of the method itself, where an algorithm wraps it."""
    while isinstance(model.get("method"), Mapping):
        model = model["method"]
    return model


def _stage(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {"name": entry}


def _stage_words(stages: Sequence[Mapping[str, Any]]) -> str:
    if len(stages) < 2:
        return "one"
    shares = [_number(stage.get("share"), 1) for stage in stages]
    return ", then ".join(
        f"{stage['name']} ({share:g}/{sum(shares):g} of the epochs)" if "share" in stage else str(stage["name"])
        for stage, share in zip(stages, shares, strict=True)
    )


def _view_words(stages: Sequence[Mapping[str, Any]], views: Any) -> str:
    given = [(f" in {stage['name']}", stage.get("views")) for stage in stages] + [("", views)]
    return ", ".join(f"{_fixed(number)}{where}" for where, number in given if type(number) is int) or _FRESH


def _fixed(views: int) -> str:
    return f"{views} fixed ones" if views else "none, as it is"


def _rate_words(stages: Sequence[Mapping[str, Any]], encoder_rate: Any) -> str:
    given = [(f"in {stage['name']}", stage.get("learning_rate")) for stage in stages] + [("encoder", encoder_rate)]
    parts = []
    for where, factor in given:
        by_pattern = factor.items() if isinstance(factor, Mapping) else [("", factor)]
        parts += [
            f"{f'{where} {pattern}'.rstrip()} x {rate:g}"
            for pattern, value in by_pattern
            if (rate := _number(value, 1)) != 1
        ]
    return ", ".join(parts) or "none"


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

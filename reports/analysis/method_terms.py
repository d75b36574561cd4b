"""What methods bring along by themselves, and no training preset says: what their cards say, and the stages that they learnt in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from reports.records.records import MethodFacts, ReportedTrial

_MODALITY = {"none": "not given", "given": "given", "inferred": "guessed by the method"}
_LONGEST = 500
_FRESH, _NOT_SAID = "new ones each time", "not recorded"
Stages = Sequence[Mapping[str, Any]]


def method_terms(facts: MethodFacts, trials: Sequence[ReportedTrial]) -> dict[str, str]:
    """Terms in words, under the same keys for every method, so that they can be compared.

    A finished trial tells its stages. Others' results (`submit`) tell no more of them than the arguments of `model:` do.
    """
    recorded = next((trial.summary["stages"] for trial in trials if trial.summary.get("stages")), None)
    stages = recorded or _configured(facts.model or {})
    words = {
        "modality of each image": _MODALITY[facts.modality_knowledge],
        "passes over a tested image": str(facts.card.get("passes") or 1),
        "stages": _stage_words(stages),
        "augmented views of an image": _by_stage(stages, _view_words, _FRESH),
        "parts at another learning rate": _by_stage(stages, _rate_words, "none"),
    }
    # What a stranger submits may hold a thousand stages.
    return {term: shorten(text, _LONGEST, placeholder=" ...") for term, text in words.items()}


def _configured(model: Mapping[str, Any]) -> Stages:
    """Stages by the arguments `stages`, `views` and `encoder_rate` of the method itself; those of networks mean something else."""
    while isinstance(model.get("method"), Mapping):  # an algorithm around it
        model = model["method"]
    given = model.get("stages")
    stages = (
        [entry if isinstance(entry, Mapping) else {"name": entry} for entry in given] if isinstance(given, list) else []
    )
    if stages and all(isinstance(stage.get("name"), str) for stage in stages):
        return [{"views": _NOT_SAID, **stage} for stage in stages]
    return [{"name": "train", "views": model.get("views"), "learning_rate": {"encoder": model.get("encoder_rate")}}]


def _stage_words(stages: Stages) -> str:
    if len(stages) < 2:
        return "one"
    shares = [_number(stage.get("share")) if stage.get("gradient", True) else 0.0 for stage in stages]
    return ", then ".join(
        f"{stage['name']} ({share:g}/{sum(shares):g} of the epochs)"
        if "share" in stage and share
        else str(stage["name"])
        for stage, share in zip(stages, shares, strict=True)
    )


def _by_stage(stages: Stages, words: Any, usual: str) -> str:
    """What is not as usual in each stage; the stage is named where there are several."""
    found = [(each, str(stage["name"])) for stage in stages if (each := words(stage)) != usual]
    return ", ".join(f"{each} in {name}" if len(stages) > 1 else each for each, name in found) or usual


def _view_words(stage: Mapping[str, Any]) -> str:
    views = stage.get("views")
    if views == _NOT_SAID:
        return _NOT_SAID
    return _FRESH if type(views) is not int else f"{views} fixed ones" if views else "the image as it is"


def _rate_words(stage: Mapping[str, Any]) -> str:
    factor = stage.get("learning_rate")
    by_part = factor if isinstance(factor, Mapping) else {"": factor}
    parts = [f"{part} x {rate:g}".strip() for part, value in by_part.items() if (rate := _number(value)) != 1]
    return ", ".join(parts) or "none"


def _number(value: Any) -> float:
    """1, the default of shares and factors, for what is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 1.0

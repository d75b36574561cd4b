"""Equal terms in numbers: what budget each method had, and how its learning rate was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.store.records import SearchChoice
from reports.analysis.starts import are_mixed, marked
from reports.records.formatting import MISSING, short, value_words
from reports.records.records import MethodFacts, Records, ReportedTrial

LEARNING_RATE = "training.learning_rate"


@dataclass(frozen=True)
class Terms:
    """What one method had.

    Attributes:
        title: with a mark of the start, where starts differ.
        images_seen, epochs: in training, the median over finished trials; None while unknown.
        images: the same in words.
        configurations: that the search of a fold tried; 0 where nothing was searched.
        tried: the same in words.
        choices: fold -> what its nested search chose.
        chosen: the learning rate, or whatever was searched, in words: a line for each fold, or one for all.
    """

    method: str
    title: str
    images_seen: float | None
    epochs: float | None
    images: str
    configurations: int
    tried: str
    choices: dict[str, SearchChoice]
    chosen: tuple[str, ...]


def terms_of(records: Records) -> list[Terms]:
    """The terms of every method, in the order of the run."""
    mixed = are_mixed(facts.start for facts in records.methods.values())
    return [
        _terms(facts, marked(facts.title, facts.start) if mixed else facts.title, records.trials_of(name))
        for name, facts in records.methods.items()
    ]


def searched_keys(terms: Sequence[Terms]) -> list[str]:
    """The keys that nested searches chose."""
    choices = [choice for each in terms for choice in each.choices.values()]
    return list(dict.fromkeys(key for choice in choices for key in choice.values))


def chosen_title(terms: Sequence[Terms]) -> str:
    """The heading of `Terms.chosen`."""
    return "Learning rate" if set(searched_keys(terms)) <= {LEARNING_RATE} else "Hyperparameters"


def search_words(terms: Sequence[Terms]) -> str:
    """How the learning rates came about, in a sentence or two; "" where nothing was trained."""
    if any(each.choices for each in terms):
        what = ", ".join(map(short, searched_keys(terms))) or "learning rate"
        return (
            f"Chosen by nested search: {what}. Each fold's values come from a search of that method on that fold's training and"
            " validation images alone, with the run's first seed; its test domain took no part. They were then trained with every"
            " seed. Each configuration had at most the budget of a trial, the method's default was one of them, and a fold"
            " whose search failed or is incomplete has no result."
        )
    return "No learning rate was searched: each method has the one of its configuration."


def _terms(facts: MethodFacts, title: str, trials: Sequence[ReportedTrial]) -> Terms:
    done = [trial for trial in trials if trial.state == "done"]
    seen, epochs = (
        [float(t.summary[key]) for t in done if t.summary.get(key) is not None] for key in ("images_seen", "epochs")
    )
    choices = {trial.fold: trial.search for trial in trials if trial.search is not None}
    configurations = max((choice.configurations for choice in choices.values()), default=0)
    learns = bool(epochs) and max(epochs) > 0
    if choices:
        chosen = tuple(f"{fold}: {_choice_words(choice)}" for fold, choice in choices.items())
    else:
        chosen = (_configured(facts, trials, learns),)
    return Terms(
        facts.name, title, median(seen) if seen else None, median(epochs) if epochs else None,
        _images(facts, trials, seen, epochs), configurations, _tried(choices, configurations, learns), choices, chosen,
    )  # fmt: skip


def _images(facts: MethodFacts, trials: Sequence[ReportedTrial], seen: list[float], epochs: list[float]) -> str:
    if facts.external:
        return "not known: masks of another tool"
    if not any(trial.state == "done" for trial in trials):
        return f"{MISSING} no trial is finished"
    outside = _trainer(trials) is not None
    if not seen or (outside and not any(seen)):
        return "not reported by its own program" if outside else MISSING
    low, high = min(seen), max(seen)
    counted = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
    if outside:
        return f"{counted}, as its own program tells"
    if not any(epochs):
        return f"{counted}, looked at once: it learns nothing by epochs" if high else "none: it learns nothing"
    few, many = min(epochs), max(epochs)
    return f"{counted} ({f'{few:g}' if few == many else f'{few:g} to {many:g}'} epochs)"


def _tried(choices: dict[str, SearchChoice], configurations: int, learns: bool) -> str:
    if not choices:
        return "none" if learns else MISSING
    failed = sum(choice.failed for choice in choices.values())
    return f"{configurations} a fold" + (f", {failed} failed in all" if failed else "")


def _choice_words(choice: SearchChoice) -> str:
    if choice.missing:
        # The whole reason stands beside the trial, under Failures.
        return f"none. {choice.missing.partition('. ')[0].rstrip('.')}."
    return ", ".join(_value_words(key, value, choice) for key, value in choice.values.items())


def _value_words(key: str, value: Any, choice: SearchChoice) -> str:
    name = "" if list(choice.values) == [LEARNING_RATE] else f"{short(key)} "
    return f"{name}{value_words(value)}{' (at the edge of what was tried)' if key in choice.at_edge else ''}"


def _configured(facts: MethodFacts, trials: Sequence[ReportedTrial], learns: bool) -> str:
    trainer = _trainer(trials)
    if facts.external or (trainer is not None and "learning_rate" not in trainer["settings"]):
        return "its own program's"
    if not learns and trainer is None:
        return MISSING
    rates = {t.spec.training.learning_rate for t in trials if t.spec and t.spec.training}
    return ", ".join(value_words(rate) for rate in sorted(rates)) + ", not searched"


def _trainer(trials: Sequence[ReportedTrial]) -> dict[str, Any] | None:
    return next((trial.spec.method.trainer for trial in trials if trial.spec), None)

"""Equal terms: what a method's training differs in from that of the others, so that a reader need not take it on trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.methods.card import NOT_STATED, SCRATCH
from reports.analysis.method_terms import method_terms
from reports.analysis.starts import are_mixed, data_words, marked
from reports.records.records import Records, ReportedTrial

_TOLERANCE = 0.02
"""Images seen that differ by less are the same budget: batches are rounded to whole ones."""
_OUTSIDE = "trained by a program of its own, which is given of these settings: {}"
_DIFFERENT = "All trained methods have the same start and settings and see as many images in training, but for these:"
_ALIKE = (
    "Same budget in images seen, start, augmentation, selection and every other training setting for all trained methods; the same"
    " knowledge of the modality, passes over a tested image, stages, views of an image and factors on the learning rate."
)


@dataclass(frozen=True)
class Difference:
    """A method's title, marked with its start where starts differ, and what differs, in words such as "augmentation none (others: standard)"."""

    title: str
    what: tuple[str, ...]


def differences(records: Records) -> list[Difference]:
    """Of every trained method what differs from what most have; trivial baselines and other tools' masks are trained by no setting."""
    trained = {
        name: [trial for trial in records.trials_of(name) if trial.spec and trial.spec.training]
        for name, facts in records.methods.items()
        if not facts.trivial_baseline and not facts.external
    }
    settings = {
        name: {**_settings(trials), **method_terms(records.methods[name], trials)}
        for name, trials in trained.items()
        if trials
    }
    images = {name: seen for name, trials in trained.items() if (seen := _images_seen(trials)) is not None}
    usual = {key: _most_common(own[key] for own in settings.values() if key in own) for key in _keys(settings)}
    usual_images = _most_common(images.values())
    starts = {name: records.methods[name].start for name in settings}
    usual_start, mixed = _most_common(starts.values()), are_mixed(starts.values())
    usual_data = _most_common(
        tuple(records.methods[each].pretrained_on) for each in settings if starts[each] == usual_start
    )
    found = []
    for name, own in settings.items():
        outside = next((trial.spec.method.trainer for trial in trained[name] if trial.spec), None)
        what = [_OUTSIDE.format(", ".join(outside["settings"]) or "none")] if outside else []
        what += [
            f"{key} {_word(own[key])} (others: {_word(value)})"
            for key, value in usual.items()
            if key in own and own[key] != value
        ]
        if name in images and abs(images[name] - usual_images) > _TOLERANCE * usual_images:
            what.append(f"saw {images[name]:,.0f} images in training (others: {usual_images:,.0f})")
        if starts[name] == NOT_STATED:
            what.append("its start is not stated")
        elif starts[name] != usual_start:
            data = data_words(records.methods[name].pretrained_on)
            what.append(f"start: {starts[name]}{f' ({data})' if data else ''} (others: {usual_start})")
        elif starts[name] != SCRATCH and (
            added := [each for each in records.methods[name].pretrained_on if each not in usual_data]
        ):
            what.append(f"its weights learnt on {data_words(added)}, too (others: not)")
        if records.methods[name].card.get("sees_test_images"):
            what.append("adapts to the unlabelled test images of each domain")
        if what:
            title = records.methods[name].title
            found.append(Difference(marked(title, starts[name]) if mixed else title, tuple(what)))
    return found


def equal_terms(found: list[Difference], *, searched: bool = False) -> str:
    """The sentence that stands above the list. `searched`: some hyperparameters were chosen by nested searches."""
    words = _DIFFERENT if found else _ALIKE
    return f"Apart from what the searches chose: {words[0].lower()}{words[1:]}" if searched else words


def _settings(trials: list[ReportedTrial]) -> dict[str, Any]:
    """A method's training settings without those that were searched; one that is not the same in all trials has all its values."""
    keys = {key for trial in trials if trial.search for key in trial.search.values}
    searched = {key.rpartition(".")[2] for key in keys if ".training." in f".{key}"}
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        for key, value in trial.spec.settings()["training"].items() if trial.spec else ():
            if key not in searched:
                found.setdefault(key, {})[_word(value)] = value
    return {
        key: next(iter(values.values())) if len(values) == 1 else f"{', '.join(values)} in different trials"
        for key, values in found.items()
    }


def _images_seen(trials: Iterable[ReportedTrial]) -> float | None:
    """The median over finished trials: folds differ a little in their number of images."""
    seen = [float(trial.summary["images_seen"]) for trial in trials if trial.summary.get("images_seen")]
    return median(seen) if seen else None


def _keys(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for own in settings.values() for key in own))


def _most_common(values: Iterable[Any]) -> Any:
    counted = Counter(values).most_common(1)
    return counted[0][0] if counted else None


def _word(value: Any) -> str:
    return "none" if value is None else str(value)

"""Files are decoded as seldom as can be: an image once for all trials of a run, a mask at its own size once for each table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data.dataset import Dataset
from harness.data.reading import picture
from harness.execution.measuring import measure_missing
from harness.metrics import REGISTRY
from harness.planning.plan import Plan
from harness.trial import TrialContext, run_trial

ToyPlan = Callable[..., Plan]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file's pixels are read, by whatever reads them."""
    found: Counter[Path] = Counter()
    decode = picture._decode

    def counted(path: Path, what: str) -> picture.Picture:
        found[path] += 1
        return decode(path, what)

    monkeypatch.setattr(picture, "_decode", counted)
    return found


def test_trials_of_a_run_decode_each_image_once(
    toy_plan: ToyPlan, context: TrialContext, decoded: Counter[Path]
) -> None:
    """And each mask once, but for those that are measured: their own size is not kept, and each trial's table needs it."""
    trials = toy_plan("TinyConv", "TwoStages").trials
    decoded.clear()
    for trial in trials:
        assert run_trial(trial, context)["state"] == "done"
    samples = Dataset.open(Path(trials[0].data.root)).by_key()
    split = trials[0].split
    shown, measured = {*split.train, *split.validation, *split.test}, {*split.validation, *split.test}
    assert len(trials) == 2 and trials[1].split == split and shown > measured
    assert {samples[key].image: decoded[samples[key].image] for key in shown} == {
        samples[key].image: 1 for key in shown
    }
    assert {key: decoded[samples[key].mask] for key in shown} == {key: 1 + 2 * (key in measured) for key in shown}
    own = {path: count for path, count in decoded.items() if path.is_relative_to(context.store_root)}
    assert len(own) == 2 * len(measured) and {*own.values()} == {1}
    assert decoded.total() == len(shown) + len(shown) + 2 * len(measured) + len(own)


def test_measuring_decodes_each_mask_once_and_no_image(
    toy_plan: ToyPlan, context: TrialContext, decoded: Counter[Path]
) -> None:
    (trial,) = toy_plan("TinyConv").trials
    run_trial(trial, context)
    decoded.clear()
    other = replace(trial, evaluation=replace(trial.evaluation, nsd_tolerance=9.0))
    assert measure_missing(other, context, list(REGISTRY), map, {}).state == "measured"
    samples, keys = Dataset.open(Path(trial.data.root)).by_key(), [*trial.split.validation, *trial.split.test]
    references = [samples[key].mask for key in keys]
    predicted = [path for path in decoded if path.is_relative_to(context.store_root)]
    assert len(predicted) == len(keys)
    assert decoded == Counter([*references, *predicted])

"""A search in which every configuration failed ends the sweep, and says so with the folds that were searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.planning.plan import build_plan
from harness.search import sweep as sweeping
from harness.search.ray_search import ConfigurationResult, Search, SearchProgress
from harness.search.sweep import SearchFailed, plan_sweep, run_sweep
from harness.store.store import Store


@pytest.mark.parametrize("failing", ["fold1", "all folds"])
def test_a_search_in_which_all_fails_ends_the_sweep_when_every_fold_is_searched(
    toy_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_ray: list[Any],
    failing: str,
) -> None:
    searched: list[str] = []

    def search(title: str, *_: Any) -> Search:
        searched.append(title)
        state, dice, reason = ("failed", None, "its loss is NaN") if title == failing else ("done", 0.5, None)
        return Search(title, [title], 2, [ConfigurationResult(0, {}, state, dice, reason=reason)], 1.0)

    config = toy_config("TinyConv")
    config.protocol.max_folds = 2
    config.sweep.parameters = {"training.learning_rate": {"uniform": [0.1, 0.2]}}
    monkeypatch.setattr(sweeping, "_search", search)
    plan = plan_sweep(config, build_plan(config))
    with pytest.raises(SearchFailed, match=r"None of 1 configurations.*its loss is NaN") as caught:
        run_sweep(plan, Store(tmp_path / "runs"), [], SearchProgress())
    assert [fold.name for fold in caught.value.folds] == ["fold0", "fold1"]
    assert searched == ["fold0", "fold1", "all folds"][: 2 if failing == "fold1" else 3]

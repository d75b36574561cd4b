"""Which configurations a search tries. The first one, number 0, is always the method's default."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import UserError
from harness.search.configurations import Values, key_of
from harness.search.space import Parameter

if TYPE_CHECKING:
    from ray.tune.search import Searcher

_TRIES = 100


def listed(space: Sequence[Parameter], default: Values, sampler: str, trials: int | None, seed: int) -> list[Values]:
    """The configurations of a grid or a random search, the default first, none twice.

    The same seed gives the same configurations in the same order, whatever `trials` is: a larger budget goes on.

    Raises:
        UserError: `trials` is null, and the search has no end of its own.
    """
    if sampler == "grid":
        found = {key_of(default): default}
        for values in itertools.product(*(parameter.values for parameter in space)):
            drawn = dict(zip((parameter.key for parameter in space), values, strict=True))
            found.setdefault(key_of(drawn), drawn)
        return list(found.values())[:trials]
    trials = needed(trials, sampler)
    random = np.random.default_rng([seed, 0])
    found = {key_of(default): default}
    # A space of lists may hold fewer configurations than are asked for.
    for _ in range(trials * _TRIES):
        if len(found) == trials:
            break
        drawn = {parameter.key: parameter.draw(random) for parameter in space}
        found.setdefault(key_of(drawn), drawn)
    return list(found.values())


def needed(trials: int | None, sampler: str) -> int:
    """`trials` where a search would not end without.

    Raises:
        UserError: it is null.
    """
    if trials is None:
        raise UserError(
            f"sweep.budget.trials=null: sweep.sampler={sampler} needs a number; a grid alone ends by itself."
        )
    return trials


def check_optuna() -> None:
    """
    Raises:
        UserError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(
            "sweep.sampler=optuna needs Optuna, which is not installed: pip install '.[search]', or use"
            " sweep.sampler=random."
        ) from error


def optuna_searcher(space: Sequence[Parameter], default: Values, trials: int, seed: int) -> Searcher:
    """Optuna's TPE (Bergstra et al., NeurIPS 2011) as a searcher of Ray Tune's.

    Ray's own OptunaSearch can't begin with a default that lies outside the space, proposes the same configuration twice,
    and tells Optuna nothing of configurations that were stopped early.
    """
    import optuna
    from ray.tune.search import Searcher

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dimensions = {parameter.key: _distribution(parameter) for parameter in space}
    inside = all(parameter.contains(default[parameter.key]) for parameter in space)

    class Proposals(Searcher):
        def __init__(self) -> None:
            super().__init__(metric="objective", mode="max")
            # The default counts as one of the random configurations that TPE starts from.
            self.study = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, trials // 2)),
            )
            self.asked: dict[str, Any] = {}
            self.seen: set[str] = set()

        def suggest(self, trial_id: str) -> dict[str, Any] | None:
            number = len(self.seen)
            if number == 0:
                if inside:
                    self.study.enqueue_trial(default)
                    self.asked[trial_id] = self.study.ask(dimensions)
                self.seen.add(key_of(default))
                return {"configuration": {"number": 0, "values": default}}
            for _ in range(_TRIES if number < trials else 0):
                proposed = self.study.ask(dimensions)
                if key_of(proposed.params) not in self.seen:
                    self.asked[trial_id] = proposed
                    self.seen.add(key_of(proposed.params))
                    return {"configuration": {"number": number, "values": dict(proposed.params)}}
                self.study.tell(proposed, state=optuna.trial.TrialState.FAIL)
            return Searcher.FINISHED  # type: ignore[return-value]

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            proposed, value = self.asked.get(trial_id), result.get("objective")
            if proposed is not None and "time" in result and value is not None and value == value:
                proposed.report(value, result["time"])

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            proposed = self.asked.pop(trial_id, None)
            if proposed is None:
                return
            states = optuna.trial.TrialState
            end = (result or {}).get("end")
            value = end["objective"] if end else None
            if value is not None and value == value:
                self.study.tell(proposed, value)
            elif end or error:
                self.study.tell(proposed, state=states.FAIL)
            else:
                # Stopped early: TPE ranks it by how far it came and how well it did there.
                self.study.tell(proposed, state=states.PRUNED)

        def save(self, checkpoint_path: str) -> None:
            """Nothing: after a crash the same seed and the kept epochs make the same proposals."""

        def restore(self, checkpoint_path: str) -> None: ...

    return Proposals()


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.is_list:
        return CategoricalDistribution(parameter.values)
    low, high = parameter.values
    if parameter.kind == "int":
        return IntDistribution(low, high)
    return FloatDistribution(low, high, log=parameter.is_log)

"""Measures each method's costs once per machine and keeps them in the store."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import described, raise_stop_behind
from harness.files import sha256_json
from harness.hardware import free_main_memory, usable_cores
from harness.methods.crossing import wrapped_model
from harness.planning.plan import Plan
from harness.store.store import Store
from harness.store.trial_state import now
from harness.trial_spec import TrialSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.efficiency.measure import Measurement

# Raised when the same method on the same machine would be given other figures.
COSTS_VERSION = 3

logger = logging.getLogger(__name__)


def measure_missing_costs(plan: Plan, store: Store) -> Iterator[str]:
    """Measures what the store lacks of the suite's methods, one at a time, and yields a line for people before each.

    Costs belong to a method's model, image size, the modalities it is built for (those of its first trial), the machine
    and how long it was timed: these make the key. What can't be measured is logged as a warning, which -q shows too; the
    method's results stay. Algorithms that are gone at test time share one measurement of their method: clocks would show a
    difference where there is none.

    All methods are timed in a first round, then all again. A method's row is kept after each round; a run that was stopped
    leaves rows of one round, which the next run measures again.
    """
    from harness.efficiency.rounds import ROUNDS

    device, compiled = _device(plan), _compiled(plan)
    known = {row["key"] for row in store.efficiency() if row.get("rounds") == ROUNDS}
    first_trials: dict[str, TrialSpec] = {}
    for trial in plan.trials:
        first_trials.setdefault(trial.method.name, trial)
    rounds = _Rounds(store, device, plan.config.efficiency_seconds, compiled)
    for name, trial in first_trials.items():
        if trial.method.trainer is not None:
            yield f"costs  {name}: not measured, a program of its own trains and predicts"
            continue
        size = plan.config.efficiency_image_size or trial.trained.image_size
        key = _key(trial, size, device, plan.config.efficiency_seconds, compiled)
        if key not in known:
            yield f"costs  {name}"
            _reported(name, rounds.first, _Job(trial, size, key))
    for number in range(2, ROUNDS + 1):
        for group in rounds.groups():
            name = group.jobs[0].name
            yield f"costs  {name}, round {number} of {ROUNDS}"
            _reported(name, rounds.again, group)


def _device(plan: Plan) -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() and plan.config.executor.device != "cpu" else "cpu")


def _compiled(plan: Plan) -> bool:
    """Whether compiled forms are timed: where the configuration asks for it and the machine can compile."""
    from harness.efficiency.forms import why_not_compiled

    if plan.config.efficiency_compiled and (lacking := why_not_compiled(_device(plan))):
        logger.warning("Costs of compiled forms were not measured: %s", lacking)
        return False
    return plan.config.efficiency_compiled


def _reported(name: str, step: Callable[[Any], None], argument: Any) -> None:
    """Takes the step; logs why it could not be taken."""
    try:
        step(argument)
    except Exception as error:  # the method's own code may raise anything
        raise_stop_behind(error)
        logger.warning("Costs of %s could not be measured: %s", name, described(error))


_KEPT = 1 / 16
"""Of the free main memory: so much at most is given to weights that wait for the next round. Other methods are built again."""


@dataclass
class _Job:
    """A method whose costs the store lacks.

    Attributes:
        own: the columns that belong to this method alone.
        warned: words about forms that were left out.
    """

    trial: TrialSpec
    size: int
    key: str
    own: dict[str, Any] = field(default_factory=dict)
    warned: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.trial.method.name

    def build(self) -> nn.Module:
        from harness.methods.building import build_method

        method = self.trial.method
        return build_method(method.name, method.model, self.trial.modalities, prompt=method.prompt)


@dataclass
class _Group:
    """Methods that predict alike, which are measured once.

    Attributes:
        kept: what predicts, until the next round; None: it is built again.
    """

    measurement: Measurement
    kept: nn.Module | None
    jobs: list[_Job] = field(default_factory=list)


class _Rounds:
    """Measures methods round by round, and keeps their rows in the store."""

    def __init__(self, store: Store, device: torch.device, seconds: float, compiled: bool) -> None:
        self.store, self.device, self.seconds, self.compiled = store, device, seconds, compiled
        self._groups: dict[str, _Group] = {}

    def groups(self) -> list[_Group]:
        """Those that the first round has measured."""
        return list(self._groups.values())

    def first(self, job: _Job) -> None:
        """Measures a method, unless one was that predicts alike."""
        from harness.efficiency.measure import Measurement, count_parameters
        from harness.methods.adapter import MethodAdapter

        trial, method = job.trial, job.build()
        deployed = MethodAdapter(method).deployed()
        job.own = {
            **count_parameters(method),
            "method": job.name,
            "method_version": trial.method.version,
            "model": trial.method.model,
            "modalities": trial.modalities,
        }
        model = trial.method.model if deployed is method else wrapped_model(trial.method.model)
        alike = sha256_json([model, trial.modalities, job.size])
        with _all_threads():
            if alike not in self._groups:
                measurement = Measurement(job.size, self.device, budget_seconds=self.seconds, compiled=self.compiled)
                measurement.add_round(deployed)
                self._groups[alike] = _Group(measurement, deployed if self._is_cheap(deployed) else None)
            self._groups[alike].jobs.append(job)
            self._write(job, self._groups[alike])
        del method, deployed
        self._clear(self._groups[alike])

    def again(self, group: _Group) -> None:
        """Measures what predicts once more."""
        from harness.methods.adapter import MethodAdapter

        deployed = group.kept if group.kept is not None else MethodAdapter(group.jobs[0].build()).deployed()
        with _all_threads():
            group.measurement.add_round(deployed)
            for job in group.jobs:
                self._write(job, group)
        del deployed
        self._clear(group)

    def _is_cheap(self, method: nn.Module) -> bool:
        kept = [method, *(group.kept for group in self._groups.values() if group.kept is not None)]
        return sum(map(_size, kept)) <= _KEPT * free_main_memory()

    def _write(self, job: _Job, group: _Group) -> None:
        row = {**group.measurement.row(), **job.own, "measured": now()}
        self.store.write_efficiency(job.key, row)
        for words in row["left_out"]:
            if words not in job.warned:
                job.warned.append(words)
                logger.warning("Costs of %s: left out: %s", job.name, words)

    def _clear(self, group: _Group) -> None:
        """Leaves nothing of a method where the next one is measured."""
        if group.kept is not None:
            group.kept.to("cpu")
        if group.kept is None or self.device.type == "cuda":
            gc.collect()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def _size(method: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*method.parameters(), *method.buffers()))


@contextmanager
def _all_threads() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _key(trial: TrialSpec, size: int, device: Any, seconds: float, compiled: bool) -> str:
    import torch

    from harness.hardware import describe_machine

    identity = {
        "costs_version": COSTS_VERSION,
        "method": {"name": trial.method.name, "version": trial.method.version, "model": trial.method.model},
        "image_size": size,
        "modalities": trial.modalities,
        "device_name": describe_machine(device.type)["device_name"],
        "threads": usable_cores(),
        "seconds": seconds,
        "torch": torch.__version__,
        # Named only where it is so: other costs keep the key that they had before these came.
        **({"compiled": True} if compiled else {}),
        **({"energy": True} if device.type == "cuda" else {}),
    }
    return sha256_json(identity)[:32]

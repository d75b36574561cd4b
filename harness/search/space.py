"""Search spaces: `key: {kind: values}` in a `sweep/<name>.yaml`, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.errors import UserError, did_you_mean

KINDS = ("log_uniform", "uniform", "int", "choice", "grid")
_LISTS = ("choice", "grid")
_EXAMPLES = {
    "log_uniform": "{log_uniform: [1.0e-4, 1.0e-2]}",
    "uniform": "{uniform: [0.0, 0.5]}",
    "int": "{int: [4, 16]}",
    "choice": "{choice: [adamw, sgd]}",
    "grid": "{grid: [1.0e-4, 1.0e-3]}",
}


@dataclass(frozen=True)
class Parameter:
    """One dimension of a search.

    Attributes:
        key: of the configuration, for example `training.learning_rate`.
        kind: log_uniform and uniform (floats from `low` to `high`), int (both ends included), choice or grid.
        values: of choice and grid; else [low, high].
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    @property
    def is_list(self) -> bool:
        return self.kind in _LISTS

    @property
    def is_log(self) -> bool:
        return self.kind == "log_uniform"

    def draw(self, random: np.random.Generator) -> Any:
        if self.is_list:
            return self.values[int(random.integers(len(self.values)))]
        low, high = self.values
        if self.kind == "int":
            return int(random.integers(low, high + 1))
        if self.is_log:
            return self.clipped(math.exp(random.uniform(math.log(low), math.log(high))))
        return float(random.uniform(low, high))

    def clipped(self, value: float) -> float:
        low, high = self.values
        return float(min(max(value, low), high))

    def contains(self, value: Any) -> bool:
        if self.is_list:
            return value in self.values
        return _is_number(value) and self.values[0] <= value <= self.values[1]

    def samples(self) -> list[Any]:
        """Values that stand for all when the space is checked: each of a list, or both ends and one between."""
        return list(self.values) if self.is_list else [*self.values, self.draw(np.random.default_rng(0))]

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(f'{value:g}' if _is_number(value) else str(value) for value in self.values)}"


def parse_space(parameters: Mapping[str, Any], sampler: str) -> list[Parameter]:
    """The parameters of `sweep.parameters`, in order. Keys may be dotted or nested.

    Raises:
        UserError: no parameter, an unknown kind, an empty or reversed range, a logarithm of 0, a list that is empty or has
            a value twice, or a kind that does not go with the sampler.
    """
    space = [_parameter(key, content) for key, content in _flat(parameters)]
    if not space:
        raise UserError(
            "The sweep has no parameters: expected lines such as training.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}"
            " under parameters: in its YAML."
        )
    keys = [parameter.key for parameter in space]
    if len(set(keys)) < len(keys):
        raise UserError(f"The sweep names {max(keys, key=keys.count)} twice.")
    for parameter in space:
        if (parameter.kind == "grid") != (sampler == "grid"):
            wanted = "{grid: [...]} for every parameter" if sampler == "grid" else "choice or a range, no grid"
            raise UserError(
                f"sweep.sampler={sampler} takes {wanted}; found {parameter.key}: {{{parameter.kind}: ...}}."
                f" {'Give the values to try.' if sampler == 'grid' else 'Write choice, or use sweep.sampler=grid.'}"
            )
    return space


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values; a mapping whose keys are no kinds is a branch."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and all(isinstance(below, Mapping) for below in value.values()):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _parameter(key: str, content: Any) -> Parameter:
    if not isinstance(content, Mapping) or len(content) != 1:
        raise UserError(
            f"sweep parameter {key}: expected one of {', '.join(_EXAMPLES.values())}; found {_shown(content)}."
        )
    ((kind, values),) = content.items()
    if kind not in KINDS:
        raise UserError(f"sweep parameter {key}: unknown kind '{kind}'.{did_you_mean(str(kind), KINDS)}")
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(f"sweep parameter {key}: expected {_EXAMPLES[kind]}, found {{{kind}: {_shown(values)}}}.")
    _check_list(key, kind, values) if kind in _LISTS else _check_range(key, kind, values)
    return Parameter(key, kind, tuple(values))


def _check_list(key: str, kind: str, values: Sequence[Any]) -> None:
    if not values:
        raise UserError(f"sweep parameter {key}: {kind} is empty, expected values such as {_EXAMPLES[kind]}.")
    if any(not isinstance(value, str | int | float | bool | None) for value in values):
        raise UserError(f"sweep parameter {key}: expected {kind} of single values, found {_shown(list(values))}.")
    if any(values.index(value) != place for place, value in enumerate(values)):
        raise UserError(f"sweep parameter {key}: {kind} has a value twice: {_shown(list(values))}.")


def _check_range(key: str, kind: str, values: Sequence[Any]) -> None:
    found = f"found {{{kind}: {_shown(list(values))}}}"
    if len(values) != 2 or not all(_is_number(value) and math.isfinite(value) for value in values):
        raise UserError(f"sweep parameter {key}: expected {_EXAMPLES[kind]}, two numbers, {found}.")
    low, high = values
    if low >= high:
        raise UserError(f"sweep parameter {key}: the range is empty, expected [low, high] with low < high, {found}.")
    if kind == "log_uniform" and low <= 0:
        raise UserError(f"sweep parameter {key}: a logarithm needs both ends above 0, {found}. Use uniform for 0.")
    if kind == "int" and not all(isinstance(value, int) for value in values):
        raise UserError(f"sweep parameter {key}: int takes whole numbers, {found}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

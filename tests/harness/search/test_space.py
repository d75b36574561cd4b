"""Search spaces: what is read, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.errors import UserError
from harness.search.sampling import listed
from harness.search.space import Parameter, parse_space


def test_keys_may_be_dotted_or_nested() -> None:
    space = parse_space(
        {
            "training.learning_rate": {"log_uniform": [1e-4, 1e-2]},
            "training": {"batch_size": {"choice": [4, 8]}},
            "methods": {"unet": {"model": {"width": {"int": [2, 4]}}}},
        },
        "random",
    )
    assert [(each.key, each.kind, each.values) for each in space] == [
        ("training.learning_rate", "log_uniform", (1e-4, 1e-2)),
        ("training.batch_size", "choice", (4, 8)),
        ("methods.unet.model.width", "int", (2, 4)),
    ]


@pytest.mark.parametrize(
    ("space", "sampler", "message"),
    [
        ({}, "random", "no parameters"),
        ({"training.learning_rate": 0.1}, "random", "expected one of .*log_uniform"),
        ({"training.learning_rate": {"log_unifrom": [1, 2]}}, "random", "Did you mean 'log_uniform'"),
        ({"training.learning_rate": {"log_uniform": [0, 1]}}, "random", "logarithm needs both ends above 0"),
        ({"training.learning_rate": {"log_uniform": [0.1, 0.1]}}, "random", "range is empty"),
        ({"training.learning_rate": {"uniform": [2, 1]}}, "random", "range is empty"),
        ({"training.learning_rate": {"uniform": [1, float("inf")]}}, "random", "two numbers"),
        ({"training.learning_rate": {"uniform": 3}}, "random", r"expected \{uniform"),
        ({"training.batch_size": {"int": [1.5, 4]}}, "random", "whole numbers"),
        ({"training.optimizer": {"choice": []}}, "random", "choice is empty"),
        ({"training.optimizer": {"choice": ["adam", "adam"]}}, "random", "value twice"),
        ({"training.optimizer": {"choice": "adam"}}, "random", r"expected \{choice"),
        ({"training.optimizer": {"grid": ["adam"]}}, "random", "Write choice"),
        ({"training.optimizer": {"choice": ["adam"]}}, "grid", "Give the values to try"),
    ],
)
def test_mistakes_are_refused(space: dict[str, Any], sampler: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_space(space, sampler)


def test_draws_stay_inside_and_are_even_on_their_scale() -> None:
    random = np.random.default_rng(0)
    rate = Parameter("training.learning_rate", "log_uniform", (1e-4, 1e-2))
    drawn = np.array([rate.draw(random) for _ in range(2000)])
    assert drawn.min() >= 1e-4 and drawn.max() <= 1e-2
    assert abs((drawn < 1e-3).mean() - 0.5) < 0.05
    whole = Parameter("training.batch_size", "int", (2, 4))
    assert {whole.draw(random) for _ in range(100)} == {2, 3, 4}


def test_listed_configurations_begin_with_the_default_and_grow_with_the_budget() -> None:
    space = [Parameter("a", "uniform", (0.0, 1.0)), Parameter("b", "choice", ("x", "y"))]
    default = {"a": 5.0, "b": "z"}
    few, many = (listed(space, default, "random", count, seed=3) for count in (4, 9))
    assert many[:4] == few and few[0] == default and len(many) == 9
    assert listed(space, default, "random", 4, seed=4) != few
    lists = [Parameter("b", "choice", ("x", "y"))]
    assert listed(lists, {"b": "x"}, "random", 9, seed=0) == [{"b": "x"}, {"b": "y"}]


def test_a_grid_is_crossed_once_and_needs_no_budget() -> None:
    space = [Parameter("a", "grid", (1, 2)), Parameter("b", "grid", ("x", "y"))]
    found = listed(space, {"a": 2, "b": "x"}, "grid", None, seed=0)
    assert found == [{"a": 2, "b": "x"}, {"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "y"}]
    with pytest.raises(UserError, match=r"sweep\.budget\.trials=null"):
        listed(space, {"a": 2, "b": "x"}, "random", None, seed=0)

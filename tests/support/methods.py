"""The shipped methods, and those among them that stand for all of their class."""

from __future__ import annotations

import re
from functools import cache

import pytest

from harness.config.cards import _card_and_model
from harness.config.loading import load_config
from harness.config.yaml_tree import file_of, option_names
from harness.errors import UserError


@cache
def first_of_each_class() -> list[str]:
    """The first method of each class, of those whose weights are here; of the trainers that live outside none.

    Methods of one class differ in sizes and weights: U-Nets of other encoders, De-LightSAM with a part left out.
    """
    found: list[str] = []
    names: dict[str, list[str]] = {}
    for name in sorted(option_names("method")):
        _, model = _card_and_model(file_of("method", name, None))
        if "_target_" in model:
            names.setdefault(model["_target_"], []).append(name)
    # To compose all of them takes seconds, in every process that collects tests.
    for same in names.values():
        found += next(([name] for name in same if _composes(name)), [])
    return sorted(found)


def _composes(name: str) -> bool:
    """Whether the weights that the method needs are here. A file without any of these signs names no weights and no other file."""
    lines = file_of("method", name, None).read_text("utf-8").splitlines()
    files = tuple(line for line in lines if re.search(r"_file:|\?\?\?|^ +- \w+/?\w*@", line))
    if files not in _WITH_FILES:
        _WITH_FILES[files] = not files or _loads(name)
    return _WITH_FILES[files]


# What a method names of weights and other files -> whether they are here: alike for all heads on the same encoder.
_WITH_FILES: dict[tuple[str, ...], bool] = {}


def _loads(name: str) -> bool:
    try:
        load_config([f"method={name}"])
    except UserError:
        return False
    return True


def others_slow(names: list[str], quick: list[str]) -> list[object]:
    """Parameters of a test over `names`: those that are not in `quick` run in `make test-all` alone."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]

"""The shipped methods, and those among them that stand for all of their class."""

from __future__ import annotations

from functools import cache

import pytest

from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.errors import UserError


@cache
def first_of_each_class() -> list[str]:
    """The first method of each class, of those whose weights are here; of the trainers that live outside none.

    Methods of one class differ in sizes and weights: U-Nets of other encoders, De-LightSAM with a part left out.
    """
    chosen: dict[str, str] = {}
    for name in sorted(option_names("method")):
        try:
            model = load_config([f"method={name}"]).methods[name].get("model") or {}
        except UserError:
            continue
        if "_target_" in model:
            chosen.setdefault(model["_target_"], name)
    return sorted(chosen.values())


def others_slow(names: list[str], quick: list[str]) -> list[object]:
    """Parameters of a test over `names`: those that are not in `quick` run in `make test-all` alone."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]

"""Plans of methods whose trainer is `toy_trainer.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.planning.plan import build_plan
from harness.trial_spec import TrialSpec

SCRIPT = str(Path(__file__).with_name("toy_trainer.py"))
CARD = {
    "title": "Outside", "paper": "none", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip


def trainer(fault: str = "", **changes: Any) -> dict[str, Any]:
    commands = {stage: ["{python}", SCRIPT, stage, *([fault] if fault else [])] for stage in ("train", "predict")}
    return {**commands, "timeout_hours": 1, **changes}


@pytest.fixture
def outside_config(toy_config: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """`outside_config("missing", timeout_hours=1)`: one trial of the toy trainer with a fault."""

    def make(fault: str = "", training: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
        config = toy_config(**(training or {}))
        config.methods = {"outside": {"card": CARD, "version": 1, "trainer": trainer(fault, **changes), "training": {}}}
        return config

    return make


@pytest.fixture
def outside_trial(outside_config: Callable[..., RunConfig]) -> Callable[..., TrialSpec]:
    return lambda fault="", **changes: build_plan(outside_config(fault, **changes)).trials[0]

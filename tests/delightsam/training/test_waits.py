"""No stage of De-LightSAM waits for the device in its steps, but for embeddings that are computed for the first time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.waits import CONFIG, MODALITIES, READ_ONCE, train_on_a_stand_in

from delightsam.training.auto_modality import AutoModalityMethod
from delightsam.training.mdkd import MDKDMethod
from delightsam.training.method import DeLightSAMMethod

pytestmark = pytest.mark.usefixtures("shallow")

# Each image comes again in the second epoch of a stage.
SEEN_AGAIN: dict[str, Any] = {"views": 1}
METHODS: dict[str, Any] = {
    "decode": (DeLightSAMMethod, [{"name": "decode", **SEEN_AGAIN}, "joint"], {}),
    "decode without augmentation": (DeLightSAMMethod, [{"name": "decode", "views": 0}], {}),
    "unknown modalities": (AutoModalityMethod, ["joint"], {}),
    "distillation": (
        MDKDMethod,
        ["teacher", {"name": "common", **SEEN_AGAIN}, {"name": "controllers", **SEEN_AGAIN}, {"name": "joint", "views": 1}],
        {"teacher": "tiny", "distillation_weight": 1.0},
    ),
    "distillation of new images": (
        MDKDMethod,
        ["teacher", {"name": "common", "views": None}, {"name": "controllers", "views": None}, {"name": "decode", **SEEN_AGAIN}, "joint"],
        {"teacher": "tiny", "distillation_weight": 1.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kept", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "new images" in name else ()) for name in METHODS]
)
def test_an_epoch_waits_once(name: str, kept: bool, tmp_path: Path) -> None:
    """From the second epoch of a stage on: the first makes constants, and keeps embeddings on the disk."""
    build, stages, settings = METHODS[name]
    stages = [{"share": 1, **({"name": stage} if isinstance(stage, str) else stage)} for stage in stages]
    method = build(MODALITIES, stages=stages, **settings)
    if kept:
        method.use_cache(tmp_path / "embeddings")
    epochs = train_on_a_stand_in(method, tmp_path, replace(CONFIG, epochs=2 * len(stages)))
    for epoch in epochs[1::2]:
        assert epoch.waits == READ_ONCE, epoch.places

"""What tests of the bench's spine share: configurations and suites of toy methods on the small dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.planning.plan import Plan
    from harness.trial import TrialContext

CARD = {
    "title": "Toy", "paper": "none", "licence": "Apache-2.0", "prompt": "none", "uses_modality": False,
    "pretrained": "none", "pretrained_on": [],
}  # fmt: skip
TOY_TRAINING = {"image_size": 32, "epochs": 2, "batch_size": 8, "augmentation": "flips", "learning_rate": 0.01}


@pytest.fixture
def toy_config(request: pytest.FixtureRequest, shared_dataset: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """`toy_config("TinyConv", "Broken", epochs=3)`: one fold of each of the small dataset's two modalities.

    All tests share these images; one that changes some names `small_dataset`, and is given its own.
    """
    from harness.config import DataConfig, ExecutorConfig, ProtocolConfig, RunConfig, StoreConfig, TrainingConfig

    own = "small_dataset" in request.fixturenames
    data = request.getfixturevalue("small_dataset") if own else shared_dataset

    def make(*classes: str, **training: Any) -> RunConfig:
        return RunConfig(
            name="toys",
            data=DataConfig(root=str(data), cache=str(tmp_path / "cache")),
            protocol=ProtocolConfig(max_folds=1),
            training=TrainingConfig(**{**TOY_TRAINING, **training}),
            executor=ExecutorConfig(name="serial", device="cpu"),
            store=StoreConfig(root=str(tmp_path / "runs")),
            methods={
                name.lower(): {
                    "card": CARD,
                    "version": 1,
                    "model": {"_target_": f"toy_methods.{name}"},
                    "training": {},
                }
                for name in classes or ("TinyConv",)
            },
        )

    return make


@pytest.fixture
def toy_plan(toy_config: Callable[..., RunConfig]) -> Callable[..., Plan]:
    """The suite of `toy_config`: one trial for each method."""
    from harness.planning.plan import build_plan

    return lambda *classes, **training: build_plan(toy_config(*classes, **training))


@pytest.fixture
def context(tmp_path: Path) -> TrialContext:
    """A store and a cache of the test's own."""
    from harness.trial import TrialContext

    return TrialContext(store_root=str(tmp_path / "runs"), cache_folder=str(tmp_path / "cache"), command=("a", "b"))

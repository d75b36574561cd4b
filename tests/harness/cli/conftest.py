"""What tests of the commands share: toy methods as YAML, and the words of a small run of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CARD = {
    "title": "Toy", "paper": "none", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A `--config-dir` with toy methods."""
    folder = tmp_path / "ours" / "method"
    folder.mkdir(parents=True)
    for name in ("TinyConv", "Broken", "Floor"):
        text = yaml.safe_dump({"card": CARD, "model": {"_target_": f"toy_methods.{name}"}, "training": {}})
        (folder / f"{name.lower()}.yaml").write_text(f"# @package methods.{name.lower()}\n{text}")
    return folder.parent


@pytest.fixture
def words(small_dataset: Path, tmp_path: Path, toys: Path) -> list[str]:
    """A small run of toys, but for its methods."""
    return [
        "--config-dir", str(toys), f"data.root={small_dataset}", f"store.root={tmp_path / 'runs'}", "executor=serial",
        "executor.device=cpu", "training.image_size=32", "training.epochs=1", "protocol.max_folds=1",
        "efficiency_seconds=0.1",
    ]  # fmt: skip

"""What tests of the commands share: toy methods as YAML, and the words of a small run of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from harness.cli import main

CARD = {
    "title": "Toy", "paper": "none", "licence": "MIT", "prompt": "none", "uses_modality": False, "pretrained": "none",
    "pretrained_on": [],
}  # fmt: skip


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """A `--config-dir` with toy methods."""
    return write_toys(tmp_path / "ours")


@pytest.fixture
def words(shared_dataset: Path, tmp_path: Path, toys: Path) -> list[str]:
    """A small run of toys, but for its methods."""
    return small_run(toys, shared_dataset, tmp_path / "runs")


@pytest.fixture(scope="session")
def finished(shared_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words of a finished run of a network, but for its store, and that store: to be copied, not changed."""
    folder = tmp_path_factory.mktemp("finished")
    words = [
        *small_run(write_toys(folder / "ours"), shared_dataset, folder / "runs"),
        "method=[tinyconv]",
        "seeds=[0,1]",
    ]
    with pytest.MonkeyPatch.context() as patch:
        without_costs_and_report(patch)
        assert main(["run", *words]) == 0
    return [word for word in words if not word.startswith("store.root=")], folder / "runs"


@pytest.fixture
def run_words(finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a finished run of a network in a store of the test's own, `tmp_path / "runs"`."""
    words, store = finished
    shutil.copytree(store, tmp_path / "runs")
    without_costs_and_report(monkeypatch)
    return [*words, f"store.root={tmp_path / 'runs'}"]


def write_toys(root: Path) -> Path:
    folder = root / "method"
    folder.mkdir(parents=True)
    for name in ("TinyConv", "Broken", "Floor"):
        text = yaml.safe_dump({"card": CARD, "model": {"_target_": f"toy_methods.{name}"}, "training": {}})
        (folder / f"{name.lower()}.yaml").write_text(f"# @package methods.{name.lower()}\n{text}")
    return root


def small_run(toys: Path, data: Path, store: Path) -> list[str]:
    return [
        "--config-dir", str(toys), f"data.root={data}", f"store.root={store}", "executor=serial",
        "executor.device=cpu", "training.image_size=32", "training.epochs=1", "protocol.max_folds=1",
        "efficiency_seconds=0.1",
    ]  # fmt: skip


def without_costs_and_report(patch: pytest.MonkeyPatch) -> None:
    """They have tests of their own."""
    patch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    patch.setattr("harness.cli.run.write_report", lambda *_, **__: None)

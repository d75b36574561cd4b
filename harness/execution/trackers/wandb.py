"""Weights & Biases: offline files in the store (`wandb sync` sends them), or online by `WANDB_MODE=online`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import wandb


class WeightsAndBiases:
    """One run a trial. What a killed driver began goes on under the same id, in a second file when offline."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder, self.suite = folder, suite
        self.runs: dict[str, wandb.Run] = {}

    def open(self, name: str, hyperparameters: Mapping[str, Any], run: str | None, epoch: int) -> str:
        mode = os.environ.get("WANDB_MODE") or "offline"
        folder = Path(os.environ.get("WANDB_DIR") or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        identity = run or uuid4().hex
        self.runs[identity] = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self.suite,
            dir=str(folder),
            id=identity,
            name=name,
            config=dict(hyperparameters),
            mode=mode,  # type: ignore[arg-type]
            # Offline the tool can't know what was logged before, and says so at length.
            resume="allow" if run and mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True, save_code=False
            ),
        )
        return identity

    def log(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        self.runs[run].log(dict(values), step=epoch)

    def close(self, run: str, state: str, results: Mapping[str, float]) -> None:
        ended = self.runs.pop(run)
        ended.summary.update({**results, "state": state})
        ended.finish(exit_code=0 if state == "done" else 1)

    def end(self) -> None:
        for run in self.runs.values():
            run.finish(exit_code=1)

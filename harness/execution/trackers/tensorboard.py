"""TensorBoard: `tensorboard --logdir <store>/trackers/tensorboard`, one run a trial."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Event files, flushed after every epoch: what is noted as logged must be on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[str, SummaryWriter] = {}
        self.hyperparameters: dict[str, Mapping[str, Any]] = {}

    def open(self, name: str, hyperparameters: Mapping[str, Any], run: str | None, epoch: int) -> str:
        run = run or re.sub(r"[^\w.@-]+", "_", name)
        # A kill may fall between an epoch's line and its note: readers drop what comes after the note.
        self.writers[run] = SummaryWriter(str(self.folder / run), purge_step=epoch + 1 if epoch else None)
        self.hyperparameters[run] = hyperparameters
        return run

    def log(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writers[run].add_scalar(name, value, epoch)
        self.writers[run].flush()

    def close(self, run: str, state: str, results: Mapping[str, float]) -> None:
        writer, parameters = self.writers.pop(run), self.hyperparameters.pop(run)
        if results:
            # In the run's own folder, where it is one line of the HParams table.
            writer.add_hparams(dict(parameters), dict(results), run_name=".")
        writer.close()

    def end(self) -> None:
        for writer in self.writers.values():
            writer.close()

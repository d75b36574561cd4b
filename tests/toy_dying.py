"""Methods that die or dawdle, named in specs as `toy_dying.<Class>`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from toy_methods import TinyConv


class DiesOnce(TinyConv):
    """Is killed in its second epoch, as by the kernel, unless `marker` says that it was before."""

    def __init__(self, modalities: Sequence[str], marker: str) -> None:
        super().__init__(modalities)
        self.marker = Path(marker)

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
        if step.epoch == 1 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_loss(batch, step)


class Rests(TinyConv):
    """Rests in each step, which takes time but no core: something can befall it on a fast machine, too."""

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
        time.sleep(0.05)
        return super().training_loss(batch, step)


class Dawdles(TinyConv):
    """Takes half a second for a step as long as the folder `marker` is there, so that something can befall it meanwhile."""

    def __init__(self, modalities: Sequence[str], marker: str) -> None:
        super().__init__(modalities)
        self.marker = Path(marker)

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, float]]:
        if self.marker.exists():
            time.sleep(0.5)
        return super().training_loss(batch, step)

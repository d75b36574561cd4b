"""`EpochResult`: what is known of a training when one of its epochs has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EpochResult:
    """One epoch.

    Attributes:
        epoch: how many have ended, over all stages.
        epochs: planned for all stages together; patience may end a stage earlier.
        train_loss: mean over the batches.
        dice: over the images that the selection rule looks at; NaN where the stage is not scored.
        scored_on: the role of these images: `validation`, or `test` by the rule `oracle`.
        seconds: of the epoch.
        is_last: no epoch follows.
    """

    epoch: int
    epochs: int
    stage: str
    train_loss: float
    dice: float
    scored_on: str
    learning_rate: float
    seconds: float
    is_last: bool = False

    def curve_row(self) -> dict[str, Any]:
        """The epoch's row of curves.csv."""
        return {
            "epoch": self.epoch,
            "stage": self.stage,
            "train_loss": self.train_loss,
            f"{self.scored_on}_dice": self.dice,
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, which Ray passes on."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EpochResult:
        """Reads what `to_json` wrote; what stands beside it is left out."""
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

"""`TrialSpec`: one method, trained on one split with one seed, and how its masks are measured.

The only reader and writer of `spec.json`: no other file knows its keys.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.schema import MetricsConfig, ProtocolConfig, TrainingConfig
from harness.data.folder.sample import MODALITIES
from harness.errors import UserError
from harness.files import sha256_file, sha256_json
from harness.protocols.split import Split

# Part of every trial's id, kept where it can be read without importing torch. Raised when the fit loop gives other
# numbers for the same settings.
TRAINING_VERSION = 1
# What `selection` says of masks that another tool made: how its weights were chosen is not known here.
EXTERNAL = "external"


@dataclass(frozen=True)
class MethodSpec:
    """A method as a trial builds it.

    Attributes:
        model: `_target_` and its arguments.
        files: key of `model` -> SHA-256 of the file that it names; of an external method: image key -> SHA-256 of its mask.
        card: what a reader of the results is told about the method.
    """

    name: str
    version: int
    model: dict[str, Any]
    files: dict[str, str]
    card: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What the method is prompted with: "none" or "oracle ..."."""
        return str(self.card.get("prompt", "none"))

    @property
    def title(self) -> str:
        return str(self.card.get("title") or self.name)


@dataclass(frozen=True)
class DataSpec:
    """The dataset folder, and the name that reports give it."""

    root: str
    name: str


@dataclass(frozen=True)
class Versions:
    """Of the code that decides the numbers of a trial: the fit loop, the decoded arrays, the metrics."""

    training: int
    arrays: int
    metrics: str


@dataclass(frozen=True)
class TrialSpec:
    """What a trial is. `training` is None where another tool made the masks."""

    method: MethodSpec
    data: DataSpec
    split: Split
    protocol: ProtocolConfig
    training: TrainingConfig | None
    evaluation: MetricsConfig
    seed: int
    versions: Versions

    @property
    def label(self) -> str:
        """For people: "unet fold0 seed 0"."""
        return f"{self.method.name} {self.split.name} seed {self.seed}"

    @property
    def is_external(self) -> bool:
        return self.training is None

    @property
    def selection(self) -> str:
        """The rule that chose the tested weights, or "external"."""
        return EXTERNAL if self.training is None else self.training.selection

    @property
    def trained(self) -> TrainingConfig:
        """The training settings.

        Raises:
            UserError: another tool made the masks.
        """
        if self.training is None:
            raise UserError(f"{self.method.name} is external: it was not trained here, and can't be.")
        return self.training

    @property
    def scored(self) -> tuple[str, ...]:
        """Keys of the images whose Dice compares the epochs: validation's, but for `selection=oracle`."""
        return self.split.test if self.selection == "oracle" else self.split.validation

    @property
    def modalities(self) -> list[str]:
        """The modalities the method is built for, in canonical order, others after them by name."""
        found = {key.split("/", 1)[0] for key in self.split.keys}
        return [name for name in MODALITIES if name in found] + sorted(found.difference(MODALITIES))

    def settings(self) -> dict[str, dict[str, Any]]:
        """For people and comparisons: name -> value of the protocol, the training, the metrics and the versions."""
        training = {"selection": EXTERNAL} if self.training is None else asdict(self.training)
        return {
            "protocol": asdict(self.protocol),
            "training": training,
            "metrics": self._metrics_json(),
            "versions": {} if self.training is None else self._versions_json(),
        }

    @cached_property
    def id(self) -> str:
        """SHA-256 of what determines the numbers: method, training, data, seed and the versions of loop and metrics.

        Of external masks: of their content, name, split and seed; the same masks under the same name are the same trial.
        """
        method, split = self.method, self.split
        if self.training is None:
            return sha256_json(
                {
                    "external": method.name,
                    "seed": self.seed,
                    "metrics": self._metrics_json(),
                    "split": {"name": split.name, "fingerprint": split.fingerprint, "test": list(split.test)},
                    "masks": method.files,
                }
            )
        return sha256_json(
            {
                "method": {
                    "name": method.name,
                    "version": method.version,
                    "files": method.files,
                    "model": _without_files(method.model, method.files),
                },
                "training": asdict(self.training),
                "versions": self._versions_json(),
                "split": split.fingerprint,
                "seed": self.seed,
                "metrics": self._metrics_json(),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, from which `from_json` makes an equal value."""
        return {
            "method": asdict(self.method),
            "training": None if self.training is None else asdict(self.training),
            "versions": self._versions_json(),
            "protocol": asdict(self.protocol),
            "split": self.split.to_json(),
            "data": asdict(self.data),
            "seed": self.seed,
            "metrics": self._metrics_json(),
        }

    def _versions_json(self) -> dict[str, int]:
        return {"training": self.versions.training, "arrays": self.versions.arrays}

    def _metrics_json(self) -> dict[str, Any]:
        return {"version": self.versions.metrics, **asdict(self.evaluation)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrialSpec:
        """Reads what `to_json` wrote.

        Raises:
            UserError: a key is missing or unknown.
        """
        try:
            training, metrics = content["training"], dict(content["metrics"])
            return cls(
                method=MethodSpec(**content["method"]),
                data=DataSpec(**content["data"]),
                split=Split.from_json(content["split"]),
                protocol=ProtocolConfig(**content["protocol"]),
                training=None if training is None else TrainingConfig(**training),
                versions=Versions(**content["versions"], metrics=str(metrics.pop("version"))),
                evaluation=MetricsConfig(**metrics),
                seed=int(content["seed"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"Expected spec.json as this version of the bench writes it, found another ({error!r})."
                " Run the suite again, or read the store with the version that wrote it."
            ) from error


def files_in(model: dict[str, Any]) -> dict[str, str]:
    """Key -> SHA-256 of every file that a method's `model:` names (weights): content counts, not where it lies."""
    files = {}
    for key, value in sorted(model.items()):
        if isinstance(value, dict):
            files.update({f"{key}.{inner}": digest for inner, digest in files_in(value).items()})
        elif isinstance(value, str) and key != "_target_" and Path(value).is_file():
            files[key] = sha256_file(Path(value))
    return files


def _without_files(model: dict[str, Any], files: Collection[str], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_files(value, files, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in model.items()
        if f"{prefix}{key}" not in files
    }

"""`TrialSpec`: one method, trained on one split with one seed, and how its masks are predicted and measured.

The only reader and writer of `spec.json`: no other file knows its keys.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.schema import InferenceConfig, MetricsConfig, ProtocolConfig, TrainingConfig, geometry_words
from harness.config.validation import Checked
from harness.data.corruptions.form import CorruptedForm, CorruptionSpec
from harness.data.folder.sample import MODALITIES
from harness.errors import UserError
from harness.files import sha256_file, sha256_json
from harness.methods.crossing import WRAPPED, wrapped_model
from harness.methods.trainer import Trainer
from harness.protocols.split import RoleContent, Split, SplitContent

# Part of the training id, kept where it can be read without importing torch. Raised when the fit loop gives other
# weights for the same settings.
TRAINING_VERSION = 2
# Part of the prediction id. Raised when the same weights give other masks.
INFERENCE_VERSION = 2
# What `selection` says of masks that another tool made: how its weights were chosen is not known here.
EXTERNAL = "external"
# What `settings` says in place of the rule where a trainer chooses its weights by a rule of its own.
OUTSIDE = "trainer"
# Settings of training and prediction that came later: where one says what held before it, a trial keeps its ids.
_LATER: dict[str, Any] = {"compile": "off", "geometry": "stretch", "tiled": []}


@dataclass(frozen=True)
class TrialIds:
    """The three identities of a trial, each a SHA-256 that holds the one before it.

    Attributes:
        training: of what determines the weights; names the trial's folder, and is what people call a trial's id.
        prediction: of what determines the masks.
        measurement: of what determines the numbers, but for the versions of the metrics, which stand beside them.
    """

    training: str
    prediction: str
    measurement: str


@dataclass(frozen=True)
class MethodSpec:
    """A method as a trial builds it.

    Attributes:
        model: `_target_` and its arguments.
        files: key of `model` -> SHA-256 of the file that it names; of an external method: image key -> SHA-256 of its mask.
        card: what a reader of the results needs to know about the method.
        trainer: of a method that a program of its own trains, in place of `model`, which is empty: see `outside`.
        version_alone: of the method by itself, where the algorithm around it changes nothing in training; else None.
    """

    name: str
    version: int
    model: dict[str, Any]
    files: dict[str, str]
    card: dict[str, Any]
    trainer: dict[str, Any] | None = None
    version_alone: Any = None

    @property
    def alone(self) -> MethodSpec | None:
        """The method by itself, whose weights are the same; None where there is no algorithm, or it changes the training."""
        if self.version_alone is None:
            return None
        files = {key.removeprefix(WRAPPED): digest for key, digest in self.files.items() if key.startswith(WRAPPED)}
        return MethodSpec(self.name, self.version_alone, wrapped_model(self.model), files, self.card)

    @property
    def outside(self) -> Trainer:
        """The commands of a method that a program of its own trains.

        Raises:
            ValueError: it is none.
        """
        if self.trainer is None:
            raise ValueError(f"{self.name} is trained by the bench")
        return Trainer.from_json(self.trainer)

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
class Versions(Checked):
    """Of the code that decides the masks of a trial: the fit loop, the decoded arrays, the prediction.

    Each metric has a version of its own, kept beside its column.
    """

    training: int
    arrays: int
    inference: int


@dataclass(frozen=True)
class TrialSpec:
    """What a trial is. `training` and `inference` are None where another tool made the masks, `corruptions` where the test
    images are predicted as they are."""

    method: MethodSpec
    data: DataSpec
    split: Split
    protocol: ProtocolConfig
    training: TrainingConfig | None
    inference: InferenceConfig | None
    evaluation: MetricsConfig
    seed: int
    versions: Versions
    corruptions: CorruptionSpec | None = None

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
    def predicted(self) -> InferenceConfig:
        """How the masks are predicted.

        Raises:
            UserError: another tool made the masks.
        """
        if self.inference is None:
            raise UserError(f"{self.method.name} is external: it was not predicted here, and can't be.")
        return self.inference

    @property
    def scored(self) -> tuple[str, ...]:
        """Keys of the images whose Dice compares the epochs: validation's, but for `selection=oracle`."""
        return self.split.test if self.selection == "oracle" else self.split.validation

    def corrupted(self) -> list[tuple[CorruptedForm, tuple[str, ...]]]:
        """The corrupted forms that are predicted, each with the keys of its test images; none without `corruptions`."""
        asked = self.corruptions
        if asked is None:
            return []
        return [(form, tuple(key for key in self.split.test if asked.has(form, key))) for form in asked.forms()]

    @property
    def modalities(self) -> list[str]:
        """The modalities the method is built for, in canonical order, others after them by name."""
        found = {key.split("/", 1)[0] for key in self.split.keys}
        return [name for name in MODALITIES if name in found] + sorted(found.difference(MODALITIES))

    def weights_metadata(self) -> dict[str, str]:
        """What the header of the weights file says: enough to build the method without a store.

        One key alone: the order of several in a safetensors file differs from one writing to the next.
        """
        about = {"model": self.method.model, "modalities": self.modalities, "image_size": self.trained.image_size}
        about |= _without_later({"geometry": self.trained.geometry, "tiled": self.trained.tiled})
        return {"method": json.dumps(about, sort_keys=True)}

    def settings(self) -> dict[str, dict[str, Any]]:
        """For people and comparisons: name -> value of the protocol, the training, the metrics and the versions."""
        training = {"selection": EXTERNAL} if self.training is None else asdict(self.training)
        if "geometry" in training:
            training["geometry"] = geometry_words(training["geometry"], training.pop("tiled"))
        if self.method.trainer is not None:
            training = {"selection": OUTSIDE, **self.method.outside.given(training)}
        return {
            "protocol": asdict(self.protocol),
            "training": training,
            "metrics": asdict(self.evaluation),
            "versions": {} if self.training is None else asdict(self.versions),
        }

    @property
    def id(self) -> str:
        """The training id: the name of the trial's folder."""
        return self.ids.training

    @cached_property
    def alone_id(self) -> str | None:
        """The training id of the method without its algorithm, where that has the same weights: see `MethodSpec.alone`."""
        alone = self.method.alone
        return None if alone is None else sha256_json(replace(self, method=alone)._training_identity())

    @cached_property
    def ids(self) -> TrialIds:
        """See `TrialIds`. A method's name and title are in none of them, but for external masks, which have no model."""
        training = sha256_json(self._external_identity() if self.is_external else self._training_identity())
        prediction = training if self.is_external else sha256_json(self._prediction_identity(training))
        evaluation = {"masks": [self._content(role).masks for role in _PREDICTED], **asdict(self.evaluation)}
        return TrialIds(training, prediction, sha256_json({"prediction": prediction, **evaluation}))

    def _training_identity(self) -> dict[str, Any]:
        method = self.method
        if method.trainer is not None:
            trainer, settings = method.outside, asdict(self.trained)
            return {
                "method": {"version": method.version, "trainer": trainer.training_identity},
                # In a program of its own, too, the number of threads decides on the order of sums.
                "training": {**trainer.given(settings), "cpu_threads": self.trained.cpu_threads},
                "seed": self.seed,
                "modalities": self.modalities,
                "train": asdict(self._content("train")),
                "validation": asdict(self._content("validation")),
            }
        return {
            "method": {
                "version": method.version,
                "files": method.files,
                "model": without_files(method.model, method.files),
            },
            "training": _without_later(asdict(self.trained)),
            "seed": self.seed,
            "modalities": self.modalities,
            "train": asdict(self._content("train")),
            "scored": asdict(self._content("test" if self.selection == "oracle" else "validation")),
            "versions": [self.versions.training, self.versions.arrays],
        }

    def _prediction_identity(self, training: str) -> dict[str, Any]:
        contents = [self._content(role) for role in _PREDICTED]
        if self.method.trainer is not None:
            command = list(self.method.outside.predict)
            return {"training": training, "predict": command, "images": [content.images for content in contents]}
        return {
            "training": training,
            "inference": _without_later(asdict(self.predicted)),
            "images": [content.images for content in contents],
            # A prompt that is made of the reference lets it into the mask.
            "prompts": None if self.method.prompt == "none" else [content.masks for content in contents],
            "version": self.versions.inference,
            # Named only where there are some: trials without them keep the id that they had before corruptions came.
            **({} if self.corruptions is None else {"corruptions": asdict(self.corruptions)}),
        }

    def _external_identity(self) -> dict[str, Any]:
        """Of masks of another tool: the same masks under the same name are the same trial."""
        split = {"name": self.split.name, "validation": list(self.split.validation), "test": list(self.split.test)}
        return {"external": self.method.name, "seed": self.seed, "split": split, "masks": self.method.files}

    def _content(self, role: str) -> RoleContent:
        if self.split.content is None:
            raise ValueError(f"the content of split {self.split.name} is not known yet: see Split.with_content")
        return self.split.content.of(role)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain JSON, a part for each of the identities, from which `from_json` makes an equal value."""
        split = self.split.to_json()
        return {
            "training": {
                "method": asdict(self.method),
                "training": None if self.training is None else asdict(self.training),
                "versions": {"training": self.versions.training, "arrays": self.versions.arrays},
                "protocol": asdict(self.protocol),
                "split": split,
                "data": asdict(self.data),
                "seed": self.seed,
            },
            "prediction": {
                "inference": None if self.inference is None else asdict(self.inference),
                "versions": {"inference": self.versions.inference},
                "split": split,
                # Of this prediction: weights may have been trained when another protocol asked for the same split.
                "protocol": asdict(self.protocol),
                "corruptions": None if self.corruptions is None else asdict(self.corruptions),
            },
            "measurement": {"metrics": asdict(self.evaluation), "content": split["content"]},
        }

    @classmethod
    def from_json(cls, content: dict[str, dict[str, Any]]) -> TrialSpec:
        """Reads what `to_json` wrote.

        Raises:
            UserError: a key is missing or unknown.
        """
        try:
            trained, predicted, measured = (content[key] for key in ("training", "prediction", "measurement"))
            split, training, inference = (
                Split.from_json(predicted["split"]),
                trained["training"],
                predicted["inference"],
            )
            hashes, corruptions = measured["content"], predicted.get("corruptions")
            return cls(
                method=MethodSpec(**trained["method"]),
                data=DataSpec(**trained["data"]),
                # The references may have been corrected since the images were predicted.
                split=replace(split, content=SplitContent.from_json(hashes) if hashes else None),
                protocol=ProtocolConfig(**predicted.get("protocol", trained["protocol"])),
                training=None if training is None else TrainingConfig(**with_new_names(training)),
                inference=None if inference is None else InferenceConfig(**inference),
                evaluation=MetricsConfig(**measured["metrics"]),
                seed=int(trained["seed"]),
                versions=Versions(**trained["versions"], **predicted["versions"]),
                corruptions=None if corruptions is None else CorruptionSpec(**corruptions),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"Expected spec.json as this version of the bench writes it, found another ({error!r})."
                " Run the suite again, or read the store with the version that wrote it."
            ) from error


# The roles whose images are predicted and measured.
_PREDICTED = ("validation", "test")


def files_in(model: dict[str, Any]) -> dict[str, str]:
    """Key -> SHA-256 of every file that a method's `model:` names (weights): content counts, not where it lies."""
    files = {}
    for key, value in sorted(model.items()):
        if isinstance(value, dict):
            files.update({f"{key}.{inner}": digest for inner, digest in files_in(value).items()})
        elif isinstance(value, str) and key != "_target_" and Path(value).is_file():
            files[key] = sha256_file(Path(value))
    return files


def with_new_names(training: dict[str, Any]) -> dict[str, Any]:
    """Training settings as stores and submissions of older versions have them, by today's names: `compile` was `cuda_graphs`."""
    if not isinstance(training.get("cuda_graphs"), bool):
        return training
    others = {key: value for key, value in training.items() if key != "cuda_graphs"}
    return {**others, "compile": "on" if training["cuda_graphs"] else "off"}


def _without_later(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if (key, value) not in _LATER.items()}


def without_files(model: dict[str, Any], files: Collection[str], prefix: str = "") -> dict[str, Any]:
    """The arguments without paths of `files` ("key" or "part.key"): the content of a file counts, not its place."""
    return {
        key: without_files(value, files, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in model.items()
        if f"{prefix}{key}" not in files
    }

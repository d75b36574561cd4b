"""The contract that every method fulfils.

A method is one class and one YAML file `method/<name>.yaml` (shipped in `suites`, or in a folder given by `--config-dir`):

    # @package methods.<name>
    card: {title: ..., paper: ..., licence: ..., prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
        # start: natural images (or: medical images, not stated) where `pretrained` is not none: rows are ranked within equal starts
    version: 1                # raised when the method's numbers change
    model: {_target_: package.module.Class, ...}
    training: {}              # what this method changes of the training preset
    supports_algorithms: false   # only where algorithms (harness/methods/crossing.py) have nothing to change

A program that trains by itself has `trainer:` in place of `model:` and no class: see harness/methods/trainer.py.

The class is a `torch.nn.Module` whose `__init__` takes `modalities: list[str]` beside the YAML's own arguments, with

    predict(images (B, 3, S, S) float32 RGB in [0, 1], modality (B,) int64) -> logits (B, 1, S, S)
    training_loss(batch, step) -> (loss, {name: value})

`modality` indexes the list given to `__init__`; `batch` is a harness.data.batches.loader.Batch. Normalisation is the method's own.
The harness never imports a method by name: it follows `_target_`. Stages stand in the report under *Equal terms*
where they differ from those of other methods. Optional are

    stages() -> list of Stage                   default: one that trains everything
    observe(batch)                              for stages without gradient
    use_cache(folder: Path)                     called once, before training: a folder that all trials share
    predict_oracle(images, modality, masks (B, 1, S, S) 0 or 1) -> logits
                                                is tested in place of predict; goes with a card whose prompt is "oracle ..."
    guess_modality(images) -> (B,) int64        the modality it takes each image for: a column of the results
    prepare(batch, step) -> Tensor (B, ...) or None
                                                called before training_loss, without gradient: finds its answer in batch.prepared.
                                                For what is looked up or computed by parts that do not learn
    recording_key(batch, step) -> hashable      training_loss does the same operations for all batches of a shape and of this
                                                key, and asks the device for no value: with training.compile=on a GPU
                                                replays it; None (the default): never
    after_step(step)                            called after every optimiser step
    after_epoch(score: float)                   called with each epoch's score (NaN where a stage is not scored), before the
                                                selection rule compares it
    predict_tested(images, modality) -> logits  in place of predict for masks that are kept, not for an epoch's score: for what
                                                only costs time while it trains. An algorithm around the method uses predict
    predict_adapting(images, modality) -> logits
                                                is tested in place of predict: may learn from the test images, which come
                                                domain by domain; goes with a card that says sees_test_images: true
    reset_adaptation()                          goes with predict_adapting: called before each tested domain and after the last
    accelerated(image_size, batch_size, dtype) -> Module or None
                                                what predicts the same faster, from the weights as they are now, for these
                                                sizes (others must work): has `predict`; None: there is nothing faster
    active_parameters() -> int                  that take part for an image of one modality; default: all
    deployed_parameters() -> iterable of Parameter
                                                what is needed at test time (not, for example, a teacher); default: all
    deployed_method() -> Module                 of an algorithm: what predicts, and is measured, in its place once it has done
                                                its work; default: itself
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from harness.data.batches.loader import Batch


@dataclass(frozen=True)
class Stage:
    """A part of training.

    Attributes:
        share: its part of the epochs, relative to the other stages'.
        trainable: shell patterns (fnmatch) on parameter names; all others are frozen, their BatchNorms stay in eval mode.
        gradient: False: one pass of `observe` over the training images, without augmentation, instead of epochs.
        learning_rate: factor on `training.learning_rate`; or shell patterns on parameter names, each with its factor: the
            first that fits counts, and parameters that none fits learn at the full rate.
        views: None: every image is augmented anew each time. V >= 1: there are V augmented versions of each image, and
            epoch e of the stage shows number e % V of all of them; a version is the same, bit for bit, whenever and in
            whichever trial of the same augmentation it comes. 0: the images as they are.
        scored: False: its epochs are not compared, the last one's weights go on. For a stage before there are masks to
            predict.
    """

    name: str
    share: float = 1.0
    trainable: tuple[str, ...] = ("*",)
    gradient: bool = True
    learning_rate: float | Mapping[str, float] = 1.0
    views: int | None = None
    scored: bool = True

    def to_json(self) -> dict[str, Any]:
        """How it learns, as a trial keeps it; not what learns."""
        rates = self.learning_rate
        return {
            "name": self.name,
            "share": self.share,
            "gradient": self.gradient,
            "learning_rate": dict(rates) if isinstance(rates, Mapping) else rates,
            "views": self.views,
        }


def is_chosen(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of a stage's patterns fits the name of a parameter."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Step:
    """Where training stands: optimiser step `index` of `total` in this stage, in `epoch` (counted over all stages).

    `recorded`: the step is recorded and replayed (training.compile), or must give the bits that a replay gives.
    """

    index: int
    total: int
    epoch: int
    stage: str
    recorded: bool = False


@runtime_checkable
class Method(Protocol):
    """What the harness calls. See the module's docstring for shapes and units."""

    def predict(self, images: Tensor, modality: Tensor) -> Tensor: ...

    def training_loss(self, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Any]]: ...

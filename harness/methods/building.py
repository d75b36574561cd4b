"""The contract every method fulfils, and the registry that finds them.

A method is one class and one YAML file `method/<name>.yaml` (shipped in `suites`, or in a folder given by `--config-dir`):

    # @package methods.<name>
    card: {title: ..., paper: ..., licence: ..., prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
    version: 1                # raised when the method's numbers change
    model: {_target_: package.module.Class, ...}
    training: {}              # what this method changes of the training preset
    crossed: false            # only where algorithms (harness/methods/crossing.py) have nothing to change

The class is a `torch.nn.Module` whose `__init__` takes `modalities: list[str]` beside the YAML's own arguments, with

    predict(images (B, 3, S, S) float32 RGB in [0, 1], modality (B,) int64) -> logits (B, 1, S, S)
    training_loss(batch, step) -> (loss, {name: value})

`modality` indexes the list given to `__init__`; `batch` is a harness.data.batches.loader.Batch. Normalisation is the method's own.
The harness never imports a method by name: it follows `_target_`. Optional are

    stages() -> list of Stage                   default: one that trains everything
    observe(batch)                              for stages without gradient
    use_cache(folder: Path)                     called once, before training: a folder that all trials share
    predict_oracle(images, modality, masks (B, 1, S, S) 0 or 1) -> logits
                                                is tested in place of predict; goes with a card whose prompt is "oracle ..."
    guess_modality(images) -> (B,) int64        the modality it takes each image for: a column of the results
    after_step(step)                            called after every optimiser step
    after_epoch(score: float)                   called with each epoch's score (NaN where a stage is not scored), before the
                                                selection rule compares it
    predict_adapting(images, modality) -> logits
                                                is tested in place of predict: may learn from the test images, which come
                                                domain by domain; goes with a card that says sees_test_images: true
    reset_adaptation()                          goes with predict_adapting: called before each tested domain and after the last
    active_parameters() -> int                  that take part for an image of one modality; default: all
    deployed_parameters() -> iterable of Parameter
                                                what is needed at test time (not, for example, a teacher); default: all
    deployed_method() -> Module                 of an algorithm: what predicts, and is measured, in its place once it has done
                                                its work; default: itself
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import TrialFailed, UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from harness.data.batches.loader import Batch

CARD_KEYS = ("title", "paper", "licence", "prompt", "uses_modality", "pretrained", "pretrained_on")
_CONFIG_KEYS = ("card", "version", "model", "training", "crossed")
ORACLE = "oracle"
PROMPTS = ("none", "oracle box", "oracle point", "oracle patches")
USES_MODALITY = (True, False, "inferred")


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


@dataclass(frozen=True)
class Step:
    """Where training stands: optimiser step `index` of `total` in this stage, in `epoch` (counted over all stages)."""

    index: int
    total: int
    epoch: int
    stage: str


@runtime_checkable
class Method(Protocol):
    """What the harness calls. See the module's docstring for shapes and units."""

    def predict(self, images: Tensor, modality: Tensor) -> Tensor: ...

    def training_loss(self, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Any]]: ...


def build_method(name: str, model_config: dict[str, Any], modalities: list[str], prompt: str = "none") -> Any:
    """Instantiates a method's `model:` and checks it against the contract.

    Args:
        prompt: what the method's card says of its prompt.

    Raises:
        UserError: the target can't be imported, refuses its arguments, or does not fulfil the contract.
    """
    import torch
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        method = instantiate(model_config, modalities=list(modalities), _convert_="all")
    except InstantiationException as error:
        cause: object = error.__cause__ if error.__cause__ is not None else error
        if "'modalities'" in str(cause):
            cause = f"{cause}. Expected: def __init__(self, modalities: list[str], ...)"
        raise UserError(f"Method '{name}' could not be built from {model_config.get('_target_')}: {cause}") from error
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise UserError(f"Method '{name}' could not be built: {error}") from error
    if not isinstance(method, torch.nn.Module):
        raise UserError(
            f"Method '{name}': {model_config.get('_target_')} gave {type(method).__name__}, expected a torch.nn.Module."
        )
    if not hasattr(method, "predict_oracle"):
        _check_signature(name, method, "predict", ("images", "modality"))
    _check_signature(name, method, "training_loss", ("batch", "step"))
    if any(not stage.gradient for stage in stages_of(method)):
        _check_signature(name, method, "observe", ("batch",))
    if hasattr(method, "predict_adapting"):
        _check_signature(name, method, "predict_adapting", ("images", "modality"))
        _check_signature(name, method, "reset_adaptation", ())
    _check_oracle(name, method, prompt)
    return method


def stages_of(method: Any) -> list[Stage]:
    """The method's stages, in order, as `Stage`; a method may use any class with the same attributes.

    Raises:
        UserError: no stages, two of one name, a share that is not positive, a learning rate or views out of range.
    """
    given = method.stages() if hasattr(method, "stages") else [Stage("train")]
    stages = [
        Stage(
            name=str(stage.name),
            share=float(getattr(stage, "share", 1.0)),
            trainable=tuple(getattr(stage, "trainable", ("*",))),
            gradient=bool(getattr(stage, "gradient", True)),
            learning_rate=getattr(stage, "learning_rate", 1.0),
            views=getattr(stage, "views", None),
            scored=bool(getattr(stage, "scored", True)),
        )
        for stage in given
    ]
    for stage in stages:
        _check_stage(stage)
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) != len(names) or any(stage.share <= 0 for stage in stages):
        raise UserError(f"stages() gave {stages}: expected at least one, each with a name of its own and share > 0.")
    return stages


def _check_stage(stage: Stage) -> None:
    rates = stage.learning_rate
    for factor in rates.values() if isinstance(rates, Mapping) else [rates]:
        if not isinstance(factor, int | float) or not 0 < factor < math.inf:
            raise UserError(
                f"Stage '{stage.name}' has learning_rate={rates}: expected factors above 0. What shall not learn at all is"
                " left out of `trainable`."
            )
    if stage.views is not None and (not isinstance(stage.views, int) or stage.views < 0):
        raise UserError(
            f"Stage '{stage.name}' has views={stage.views}: expected null (augmented anew each time), 0 (as they are) or a"
            " number of fixed versions."
        )


def checked_loss(method: Any, answer: Any) -> Tensor:
    """The loss in what `training_loss` gave.

    Raises:
        TrialFailed: it is not (loss, {name: value}) with one number that depends on trainable parameters.
    """
    import torch

    expected = f"{type(method).__name__}.training_loss must return (loss, {{name: value}})"
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TrialFailed(f"{expected}; found {type(answer).__name__}.")
    loss = answer[0]
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TrialFailed(f"{expected} with a loss of one number; found {shape}.")
    if not loss.requires_grad:
        raise TrialFailed(f"{expected} with a loss that depends on trainable parameters; this one depends on none.")
    return loss


def _check_signature(name: str, method: Any, function: str, parameters: tuple[str, ...]) -> None:
    expected = f"def {function}(self, {', '.join(parameters)})"
    found = getattr(method, function, None)
    if not callable(found):
        raise UserError(
            f"Method '{name}': {type(method).__name__} lacks {function}. Expected: {expected}. See harness/methods/building.py."
        )
    try:
        inspect.signature(found).bind(*parameters)
    except TypeError as error:
        raise UserError(
            f"Method '{name}': {type(method).__name__}.{function}{inspect.signature(found)} does not fit. Expected: {expected}."
        ) from error


def _check_oracle(name: str, method: Any, prompt: str) -> None:
    """Whoever sees the truth says so, and whoever says so has a way to see it."""
    if hasattr(method, "predict_oracle"):
        _check_signature(name, method, "predict_oracle", ("images", "modality", "masks"))
        if not prompt.startswith(ORACLE):
            expected = ", ".join(option for option in PROMPTS if option.startswith(ORACLE))
            raise UserError(
                f"Method '{name}': {type(method).__name__} has predict_oracle, which is shown the true masks, but its card"
                f" says prompt: {prompt}. Expected one of: {expected}."
            )
    elif prompt.startswith(ORACLE):
        raise UserError(
            f"Method '{name}': its card says prompt: {prompt}, but {type(method).__name__} lacks predict_oracle. Expected:"
            " def predict_oracle(self, images, modality, masks)."
        )


def check_method_config(name: str, config: Any) -> None:
    """Checks the parts of a `method/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown.
    """
    if not isinstance(config, dict):
        raise UserError(f"methods.{name} is {type(config).__name__}, expected the keys card, version, model, training.")
    for key in config:
        if key not in _CONFIG_KEYS:
            raise UserError(f"methods.{name}.{key} is unknown.{did_you_mean(key, _CONFIG_KEYS)}")
    if not isinstance(config.get("model"), dict) or "_target_" not in config["model"]:
        raise UserError(
            f"methods.{name}.model._target_ is missing: expected the import path of a class, as package.module.Class."
        )
    card = config.get("card") or {}
    missing = [key for key in CARD_KEYS if key not in card]
    if missing:
        raise UserError(f"methods.{name}.card lacks {', '.join(missing)}: a reader of the results must be told.")
    if card["prompt"] not in PROMPTS:
        raise UserError(f"methods.{name}.card.prompt is '{card['prompt']}', expected one of: {', '.join(PROMPTS)}.")
    if card["uses_modality"] not in USES_MODALITY:
        raise UserError(
            f"methods.{name}.card.uses_modality is '{card['uses_modality']}', expected true, false, or inferred (the method"
            " guesses it)."
        )

"""The contract every method fulfils, and the registry that finds them.

A method is one class and one YAML file `method/<name>.yaml` (shipped in `suites`, or in a folder given by `--config-dir`):

    # @package methods.<name>
    card: {title: ..., paper: ..., licence: ..., prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
    version: 1                # raised when the method's numbers change
    model: {_target_: package.module.Class, ...}
    training: {}              # what this method changes of the training preset

The class is a `torch.nn.Module` whose `__init__` takes `modalities: list[str]` beside the YAML's own arguments, with

    predict(images (B, 3, S, S) float32 RGB in [0, 1], modality (B,) int64) -> logits (B, 1, S, S)
    training_loss(batch, step) -> (loss, {name: value})

`modality` indexes the list given to `__init__`; `batch` is a harness.data.loading.Batch. Normalisation is the method's own.
Optional: `stages()`, a list of stages (default: one that trains everything), and `observe(batch)` for stages without
gradient. The harness never imports a method by name: it follows `_target_`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import TrialFailed, UserError, did_you_mean
from harness.tree import config_folder

if TYPE_CHECKING:
    from torch import Tensor

    from harness.data.loading import Batch

CARD_KEYS = ("title", "paper", "licence", "prompt", "uses_modality", "pretrained", "pretrained_on")
PROMPTS = ("none", "oracle box", "oracle point")


@dataclass(frozen=True)
class Stage:
    """A part of training.

    Attributes:
        share: its part of the epochs, relative to the other stages'.
        trainable: shell patterns (fnmatch) on parameter names; all others are frozen, their BatchNorms stay in eval mode.
        gradient: False: one pass of `observe` over the training images, without augmentation, instead of epochs.
    """

    name: str
    share: float = 1.0
    trainable: tuple[str, ...] = ("*",)
    gradient: bool = True


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


def build_method(name: str, model_config: dict[str, Any], modalities: list[str]) -> Any:
    """Instantiates a method's `model:` and checks it against the contract.

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
    for function, parameters in (("predict", ("images", "modality")), ("training_loss", ("batch", "step"))):
        _check_signature(name, method, function, parameters)
    if any(not stage.gradient for stage in stages_of(method)):
        _check_signature(name, method, "observe", ("batch",))
    return method


def stages_of(method: Any) -> list[Stage]:
    """The method's stages, in order, as `Stage`; a method may use any class with the same attributes.

    Raises:
        UserError: no stages, two of one name, or a share that is not positive.
    """
    given = method.stages() if hasattr(method, "stages") else [Stage("train")]
    stages = [
        Stage(
            name=str(stage.name),
            share=float(getattr(stage, "share", 1.0)),
            trainable=tuple(getattr(stage, "trainable", ("*",))),
            gradient=bool(getattr(stage, "gradient", True)),
        )
        for stage in given
    ]
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) != len(names) or any(stage.share <= 0 for stage in stages):
        raise UserError(f"stages() gave {stages}: expected at least one, each with a name of its own and share > 0.")
    return stages


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
            f"Method '{name}': {type(method).__name__} lacks {function}. Expected: {expected}. See harness/methods.py."
        )
    try:
        inspect.signature(found).bind(*parameters)
    except TypeError as error:
        raise UserError(
            f"Method '{name}': {type(method).__name__}.{function}{inspect.signature(found)} does not fit. Expected: {expected}."
        ) from error


def check_method_config(name: str, config: Any) -> None:
    """Checks the parts of a `method/<name>.yaml` after composition.

    Raises:
        UserError: a part is missing or unknown.
    """
    if not isinstance(config, dict):
        raise UserError(f"methods.{name} is {type(config).__name__}, expected the keys card, version, model, training.")
    for key in config:
        if key not in ("card", "version", "model", "training"):
            raise UserError(
                f"methods.{name}.{key} is unknown.{did_you_mean(key, ['card', 'version', 'model', 'training'])}"
            )
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


def method_cards(extra_folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Name -> card of every method YAML, read without importing any method.

    Raises:
        UserError: a YAML file can't be read.
    """
    import yaml

    cards: dict[str, dict[str, Any]] = {}
    for folder in [config_folder()] + ([extra_folder] if extra_folder else []):
        for path in sorted((folder / "method").glob("*.yaml")):
            try:
                content = yaml.safe_load(path.read_text("utf-8")) or {}
            except yaml.YAMLError as error:
                raise UserError(f"{path} is no valid YAML: {error}") from error
            cards[path.stem] = dict(content.get("card") or {})
    return cards

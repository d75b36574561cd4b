"""`MethodAdapter`: the one place that knows what a method can do beside `predict` and `training_loss`.

It looks once for the optional functions of the contract and gives a default for each that a method lacks.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.batches.loader import Batch
from harness.errors import TrialFailed, UserError
from harness.hardware import autocast, dtype_of
from harness.methods.contract import Stage, Step, is_chosen

_PREDICTS = ("images", "modality")
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "stages": (),
    "observe": ("batch",),
    "use_cache": ("folder",),
    "predict_oracle": (*_PREDICTS, "masks"),
    "guess_modality": ("images",),
    "prepare": ("batch", "step"),
    "recording_key": ("batch", "step"),
    "after_step": ("step",),
    "after_epoch": ("score",),
    "predict_tested": _PREDICTS,
    "predict_adapting": _PREDICTS,
    "reset_adaptation": (),
    "accelerated": ("image_size", "batch_size", "dtype"),
    "active_parameters": (),
    "deployed_parameters": (),
    "deployed_method": (),
}
"""The contract's optional functions and what each is called with."""
_OF_TRAINING = (
    "training_loss",
    "stages",
    "observe",
    "use_cache",
    "prepare",
    "recording_key",
    "after_step",
    "after_epoch",
)
"""What is called of a method while it is trained."""


class MethodAdapter:
    """A method as the bench calls it.

    Attributes:
        module: the method itself.
        sees_truth: it is tested by `predict_oracle`, which receives the true masks.
        adapts: it is tested by `predict_adapting`, which may learn from test images.
        guesses: it tells the modality of an image by itself.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.name = type(module).__name__
        self._found = {name: getattr(module, name) for name in _OPTIONAL if callable(getattr(module, name, None))}
        self.sees_truth = "predict_oracle" in self._found
        self.adapts = "predict_adapting" in self._found
        self.guesses = "guess_modality" in self._found
        self._fast: Any = None
        self._fast_for: tuple[int, int, str] | None = None

    # --- training ------------------------------------------------------------------------------------------------

    def own_parts_of_training(self) -> list[str]:
        """The functions called in training that its class defines, and doesn't merely pass on to a method that it wraps."""
        found = {name: getattr(type(self.module), name, None) for name in _OF_TRAINING}
        return [name for name, part in found.items() if part and not getattr(part, "methods_own", False)]

    def stages(self) -> list[Stage]:
        """The method's stages in order; a method may use any class with the same attributes, or mappings.

        Raises:
            UserError: no stages, two of one name, a share that is not positive, a learning rate or views out of range.
        """
        given = self._found["stages"]() if "stages" in self._found else [Stage("train")]
        if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
            raise UserError(f"{self.name}.stages() gave {type(given).__name__}: expected a list of stages.")
        stages = [_as_stage(stage) for stage in given]
        names = [stage.name for stage in stages]
        if not stages or len(set(names)) != len(names) or not all(_is_factor(stage.share) for stage in stages):
            raise UserError(
                f"{self.name}.stages() gave {stages}: expected at least one, each with a name of its own and share > 0."
            )
        return stages

    def use_cache(self, folder: Path) -> None:
        """Gives the method a folder that all trials share, for what it wants to compute once."""
        if "use_cache" in self._found:
            self._found["use_cache"](folder)

    def observe(self, batch: Batch) -> None:
        """One batch of a stage without gradient."""
        self._found["observe"](batch)

    def loss(self, batch: Batch, step: Step) -> Tensor:
        """The training loss of a batch: one number that depends on trainable parameters.

        Raises:
            TrialFailed: `training_loss` gave something else than (loss, {name: value}).
        """
        return checked_loss(self.module, self.module.training_loss(batch, step))

    def prepared(self, batch: Batch, step: Step) -> Batch:
        """The batch with what the method makes of it beforehand."""
        if "prepare" not in self._found or batch.prepared is not None:
            return batch
        with torch.no_grad():
            return replace(batch, prepared=self._found["prepare"](batch, step))

    def recording_key(self, batch: Batch, step: Step) -> Hashable | None:
        """A pass that was recorded on a GPU may be replayed with batches of the same key; None: with no other."""
        return self._found["recording_key"](batch, step) if "recording_key" in self._found else None

    def after_step(self, step: Step) -> None:
        if "after_step" in self._found:
            self._found["after_step"](step)

    def after_epoch(self, score: float) -> None:
        """`score` is the epoch's validation Dice, NaN in a stage that is not scored."""
        if "after_epoch" in self._found:
            self._found["after_epoch"](score)

    # --- prediction ----------------------------------------------------------------------------------------------

    def answer(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        """What the method gives for images (B, 3, S, S); one that is prompted with the truth receives the masks too."""
        if self.sees_truth:
            return self._found["predict_oracle"](images, modality, masks)
        return self.module.predict(images, modality)

    def accelerate(self, image_size: int, batch_size: int, amp: str) -> None:
        """Has the method predict in its fastest form from here on, where it knows one; its weights must not change then.

        The form is made once: to be asked again for the same costs nothing.
        """
        asked = (image_size, batch_size, amp)
        if "accelerated" in self._found and not self.sees_truth and not self.adapts and self._fast_for != asked:
            self._fast_for = asked
            self._fast = self._found["accelerated"](image_size, batch_size, dtype_of(amp))

    def compile(self) -> None:
        """Has the method predict by what torch.compile makes of it, when it is first called: that takes a minute."""
        if not self.sees_truth and not self.adapts:
            self._fast = _Compiled(self._found.get("predict_tested", self.module.predict))

    @property
    def is_accelerated(self) -> bool:
        return self._fast is not None

    def test_answer(self, images: Tensor, modality: Tensor, masks: Tensor) -> Tensor:
        """As `answer`, of tested images: in the fastest form; a method that adapts may learn from them."""
        if self.adapts:
            return self._found["predict_adapting"](images, modality)
        if self._fast is not None:
            return self._fast.predict(images, modality)
        if "predict_tested" in self._found and not self.sees_truth:
            return self._found["predict_tested"](images, modality)
        return self.answer(images, modality, masks)

    def logits(self, batch: Batch, amp: str) -> Tensor:
        """Logits (B, 1, S, S) float32 of a batch on the method's device; the method learns nothing from it.

        Raises:
            TrialFailed: the method gave something of another shape, or a mask of bool.
        """
        with torch.inference_mode(), autocast(batch.images.device, amp):
            answer = self.answer(batch.images, batch.modality, batch.masks)
        return self._checked(answer, batch, "predict_oracle" if self.sees_truth else "predict")

    def test_logits(self, batch: Batch, amp: str) -> Tensor:
        """As `logits`, of tested images: a method that adapts may learn from them. All values are finite.

        Raises:
            TrialFailed: a wrong shape or type, or NaN or infinite values. Resizing infinite ones gives NaN, which would
                count as background.
        """
        with torch.inference_mode(not self.adapts), autocast(batch.images.device, amp):
            found = self.test_answer(batch.images, batch.modality, batch.masks)
        logits = self._checked(found, batch, self._tested_function).detach()
        if not torch.isfinite(logits).all():
            raise TrialFailed(f"{self.name}.{self._tested_function} gave NaN or infinite logits.")
        return logits

    @property
    def _tested_function(self) -> str:
        """The name of the function that `test_answer` calls."""
        if self._fast is not None:
            return "accelerated().predict" if "accelerated" in self._found else "predict"
        given = ("predict_adapting", "predict_oracle", "predict_tested")
        return next((name for name in given if name in self._found), "predict")

    def _checked(self, logits: Any, batch: Batch, function: str) -> Tensor:
        expected = f"expected logits, a tensor of floating point of shape {tuple(batch.masks.shape)}"
        if not isinstance(logits, Tensor):
            raise TrialFailed(f"{self.name}.{function} gave {type(logits).__name__}, {expected}.")
        if logits.shape != batch.masks.shape:
            raise TrialFailed(
                f"{self.name}.{function} gave logits of shape {tuple(logits.shape)}, expected {tuple(batch.masks.shape)}."
            )
        if not logits.is_floating_point():
            raise TrialFailed(f"{self.name}.{function} gave {logits.dtype}, {expected}.")
        return logits.float()

    def by_domain(self, domains: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """The tested domains one after the other. A method that adapts meets each with its trained weights, and has
        them back at the end."""
        if not self.adapts:
            yield from domains
            return
        try:
            for domain in domains:
                self._found["reset_adaptation"]()
                yield domain
        finally:
            self._found["reset_adaptation"]()

    def guess_modality(self, images: Tensor) -> Tensor:
        """The modality number (B,) int64 that the method takes each image for; only where it `guesses`."""
        return self._found["guess_modality"](images)

    def guessed_names(self, batch: Batch, modalities: Sequence[str], amp: str) -> list[str | None]:
        """For each image the name of the modality that the method took it for; None where it guesses none.

        Raises:
            TrialFailed: a guess that is no number of a modality.
        """
        if not self.guesses:
            return [None] * len(batch)
        with torch.inference_mode(), autocast(batch.images.device, amp):
            guesses = self.guess_modality(batch.images)
        if not isinstance(guesses, Tensor):
            raise TrialFailed(
                f"{self.name}.guess_modality gave {type(guesses).__name__}: expected a tensor ({len(batch)},) int64."
            )
        numbers = guesses.tolist() if guesses.shape == (len(batch),) else []
        if not numbers or not all(isinstance(n, int) and 0 <= n < len(modalities) for n in numbers):
            raise TrialFailed(
                f"{self.name}.guess_modality gave {guesses.dtype} of shape {tuple(guesses.shape)}: expected"
                f" ({len(batch)},) int64, each 0 to {len(modalities) - 1}."
            )
        return [modalities[number] for number in numbers]

    # --- costs ---------------------------------------------------------------------------------------------------

    def deployed(self) -> nn.Module:
        """What predicts once the method is trained: of some algorithms the network alone."""
        return self._found["deployed_method"]() if "deployed_method" in self._found else self.module

    def deployed_parameters(self) -> set[nn.Parameter]:
        """What is needed at test time."""
        given: Iterable[nn.Parameter] = self._found.get("deployed_parameters", self.module.parameters)()
        return set(given)

    def active_parameters(self) -> int:
        """Parameters that an image of one modality passes through."""
        if "active_parameters" in self._found:
            return int(self._found["active_parameters"]())
        return sum(parameter.numel() for parameter in self.deployed_parameters())

    def trained_parameters(self) -> int:
        """Parameters that gradients change in one stage at least; those that the method itself froze learn in none."""
        patterns = [pattern for stage in self.stages() if stage.gradient for pattern in stage.trainable]
        free = [(name, value) for name, value in self.module.named_parameters() if value.requires_grad]
        return sum(value.numel() for name, value in free if is_chosen(name, patterns))


class _Compiled:
    """Predicts as a function does, its operations merged."""

    def __init__(self, predict: Any) -> None:
        # What was compiled for other methods counts against a limit, beyond which nothing is compiled.
        torch._dynamo.reset()
        self.predict = torch.compile(predict, dynamic=False)


def checked_loss(method: nn.Module, answer: Any) -> Tensor:
    """The loss in what `training_loss` gave.

    Raises:
        TrialFailed: it is not (loss, {name: value}) with one number that depends on trainable parameters.
    """
    expected = f"{type(method).__name__}.training_loss must return (loss, {{name: value}})"
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TrialFailed(f"{expected}; found {type(answer).__name__}.")
    loss = answer[0]
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise TrialFailed(f"{expected} with a loss of one number; found {shape}.")
    if not loss.is_floating_point():
        raise TrialFailed(f"{expected} with a loss of floating point; found {loss.dtype}.")
    if not loss.requires_grad:
        raise TrialFailed(f"{expected} with a loss that depends on trainable parameters; this one depends on none.")
    return loss.reshape(()) if loss.ndim else loss


def _as_stage(given: Any) -> Stage:
    """A stage from an object or a mapping with its fields; what is left out has the default."""
    fields = (
        given if isinstance(given, Mapping) else {key: getattr(given, key) for key in _FIELDS if hasattr(given, key)}
    )
    unknown = set(fields) - set(_FIELDS)
    if unknown or "name" not in fields:
        raise UserError(f"stages() gave {given!r}: expected `name` and, if wanted, {', '.join(_FIELDS[1:])}.")
    patterns = fields.get("trainable", ("*",))
    # A text is one pattern: as a list it would be its letters, and `*` among them matches everything.
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    if not isinstance(patterns, Iterable) or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(
            f"Stage '{fields['name']}' has trainable={patterns}: expected patterns on parameter names, for example ['encoder.*']."
        )
    stage = Stage(**{**fields, "name": str(fields["name"]), "trainable": tuple(patterns)})
    for key in ("gradient", "scored"):
        if not isinstance(getattr(stage, key), bool):
            raise UserError(f"Stage '{stage.name}' has {key}={getattr(stage, key)!r}: expected True or False.")
    rates = stage.learning_rate
    for factor in rates.values() if isinstance(rates, Mapping) else [rates]:
        if not _is_factor(factor):
            raise UserError(
                f"Stage '{stage.name}' has learning_rate={rates}: expected factors above 0. What shall not learn at all is"
                " left out of `trainable`."
            )
    if stage.views is not None and (
        not isinstance(stage.views, int) or isinstance(stage.views, bool) or stage.views < 0
    ):
        raise UserError(
            f"Stage '{stage.name}' has views={stage.views}: expected null (augmented anew each time), 0 (as they are) or a"
            " number of fixed versions."
        )
    return stage


def _is_factor(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


_FIELDS = ("name", "share", "trainable", "gradient", "learning_rate", "views", "scored")


def check_optional(name: str, method: nn.Module) -> None:
    """Raises UserError where an optional function of the contract is something else, or takes other arguments."""
    for function, parameters in _OPTIONAL.items():
        found = getattr(method, function, None)
        if found is None:
            continue
        if isinstance(found, nn.Module) or not callable(found):
            raise UserError(
                f"Method '{name}': {type(method).__name__}.{function} is of type {type(found).__name__}, and the bench calls a"
                f" function of this name: def {function}({', '.join(('self', *parameters))}). Give the attribute another"
                " name. See harness/methods/contract.py."
            )
        check_signature(name, method, function, parameters)


def check_signature(name: str, method: Any, function: str, parameters: tuple[str, ...]) -> None:
    """Raises UserError where the method lacks the function, or it takes other arguments."""
    expected = f"def {function}({', '.join(('self', *parameters))})"
    found = getattr(method, function, None)
    if not callable(found):
        raise UserError(
            f"Method '{name}': {type(method).__name__} lacks {function}. Expected: {expected}. See harness/methods/contract.py."
        )
    try:
        inspect.signature(found).bind(*parameters)
    except ValueError:
        return  # written in C: it has no signature to look at
    except TypeError as error:
        raise UserError(
            f"Method '{name}': {type(method).__name__}.{function}{inspect.signature(found)} does not fit. Expected: {expected}."
        ) from error

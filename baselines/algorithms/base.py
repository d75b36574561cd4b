"""What all algorithms share: they wrap a method and pass on whatever they don't change.

A wrapper fulfils the same contract as what it wraps, so a trial does not know the difference. It works with any method;
what only some methods offer (features, a last layer) is asked for by `required`, which says what to add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from baselines.stages import Stage

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PREFIX = "method."
# Parts of the contract that a method may have or not: the wrapper has those that its method has. `use_cache` is not among
# them: what a method remembers of an image would be wrong once the algorithm changes images.
_PASSED_ON = ("observe", "predict_oracle", "guess_modality")


def _methods_own(function: _Function) -> _Function:
    """Marks what leaves training to the wrapped method: an algorithm with no other functions of training changes none of it."""
    function.methods_own = True  # type: ignore[attr-defined]
    return function


class Algorithm(nn.Module):
    """Passes everything on to the wrapped method.

    Args:
        modalities: names of the modalities, as every method is given them.
        method: makes the method when called with `modalities=`.
    """

    method: nn.Module

    def __init__(self, modalities: Sequence[str], method: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.method = method(modalities=list(modalities))

    def predict(self, images: Tensor, modality: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1], (B,) int64 -> logits (B, 1, S, S)."""
        logits: Tensor = self.method.predict(images, modality)  # type: ignore[operator]
        return logits

    @_methods_own
    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        """The method's own loss of a batch, and its parts."""
        loss: tuple[Tensor, dict[str, Any]] = self.method.training_loss(batch, step)  # type: ignore[operator]
        return loss

    @_methods_own
    def after_step(self, step: Any) -> None:
        """Called after every optimiser step; the method's own, where it has one. An algorithm with its own calls this too."""
        if hasattr(self.method, "after_step"):
            self.method.after_step(step)  # type: ignore[operator]

    @_methods_own
    def after_epoch(self, score: float) -> None:
        """Called with each epoch's score; the method's own, where it has one. An algorithm with its own calls this too."""
        if hasattr(self.method, "after_epoch"):
            self.method.after_epoch(score)  # type: ignore[operator]

    @_methods_own
    def stages(self) -> list[Stage]:
        """The method's own stages; names of parameters are those of the wrapper."""
        own = self.method.stages() if hasattr(self.method, "stages") else [Stage("train")]  # type: ignore[operator]
        return [_renamed(stage) for stage in own]

    def active_parameters(self) -> int:
        """Parameters that take part for an image of one modality: the method's own word, else all that are deployed."""
        if hasattr(self.method, "active_parameters"):
            return int(self.method.active_parameters())  # type: ignore[operator]
        return sum(parameter.numel() for parameter in self.deployed_parameters())

    def deployed_parameters(self) -> Iterable[nn.Parameter]:
        """What is needed at test time: that of the method, since most algorithms are gone by then."""
        if hasattr(self.method, "deployed_parameters"):
            deployed: Iterable[nn.Parameter] = self.method.deployed_parameters()  # type: ignore[operator]
            return deployed
        return self.method.parameters()

    def deployed_method(self) -> nn.Module:
        """The wrapped method where prediction is left to it."""
        own = (
            type(self).predict is not Algorithm.predict
            or hasattr(self, "predict_adapting")
            or hasattr(self, "predict_tested")
        )
        return self if own else self.method

    def __getattr__(self, name: str) -> Any:
        if name in _PASSED_ON:
            return getattr(super().__getattr__("method"), name)
        return super().__getattr__(name)


def required(method: nn.Module, name: str, algorithm: str, what: str) -> Any:
    """The part `name` of a wrapped method that an algorithm can't do without.

    Raises:
        ValueError: the method has none; says what it would have to be.
    """
    if not hasattr(method, name):
        raise ValueError(
            f"{algorithm} needs {what}, and {type(method).__name__} does not say which: expected a function {name}(),"
            " see baselines/algorithms/base.py. Leave this pair out, or add it to the method."
        )
    return getattr(method, name)


def _renamed(stage: Any) -> Stage:
    def given(key: str, default: Any = None) -> Any:
        return stage.get(key, default) if isinstance(stage, Mapping) else getattr(stage, key, default)

    rates, patterns = given("learning_rate", 1.0), given("trainable", ("*",))
    if isinstance(rates, Mapping):
        rates = {_PREFIX + pattern: factor for pattern, factor in rates.items()}
    return Stage(
        name=given("name"),
        share=given("share", 1.0),
        trainable=tuple(_PREFIX + pattern for pattern in ((patterns,) if isinstance(patterns, str) else patterns)),
        gradient=given("gradient", True),
        learning_rate=rates,
        views=given("views"),
        scored=given("scored", True),
    )

"""Builds a method from its YAML and checks it against the contract (harness/methods/contract.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import UserError, described, did_you_mean, place, raise_stop_behind
from harness.methods.card import ORACLE, PROMPTS
from harness.methods.crossing import WRAPPED

if TYPE_CHECKING:
    from torch import nn

    from harness.methods.adapter import MethodAdapter
    from harness.methods.contract import Stage


def build_method(name: str, model_config: dict[str, Any], modalities: list[str], prompt: str = "none") -> nn.Module:
    """Instantiates a method's `model:` and checks it against the contract.

    Args:
        prompt: what the method's card says of its prompt.

    Raises:
        UserError: the target can't be imported, refuses its arguments, or does not fulfil the contract.
    """
    import torch
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    from harness.methods.adapter import MethodAdapter, check_optional, check_signature

    target = model_config.get("_target_")
    try:
        method = instantiate(model_config, modalities=list(modalities), _convert_="all")
    except InstantiationException as error:
        raise_stop_behind(error)
        raise UserError(f"Method '{name}' could not be built from {target}: {_cause(str(target), error)}") from error
    except (Exception, SystemExit) as error:
        raise_stop_behind(error)
        raise UserError(f"Method '{name}' could not be built from {target}: {_words(error)}") from error
    if not isinstance(method, torch.nn.Module):
        raise UserError(f"Method '{name}': {target} gave {type(method).__name__}, expected a torch.nn.Module.")
    adapter = MethodAdapter(method)
    if not adapter.sees_truth:
        check_signature(name, method, "predict", ("images", "modality"))
    check_signature(name, method, "training_loss", ("batch", "step"))
    check_optional(name, method)
    if any(not stage.gradient for stage in _stages(name, adapter)):
        check_signature(name, method, "observe", ("batch",))
    if adapter.adapts:
        check_signature(name, method, "reset_adaptation", ())
    _check_oracle(name, adapter, prompt)
    _check_state(name, method)
    return method


def _stages(name: str, adapter: MethodAdapter) -> list[Stage]:
    try:
        return adapter.stages()
    except (Exception, SystemExit) as error:
        raise_stop_behind(error)
        words = str(error) if isinstance(error, UserError) else f"{adapter.name}.stages() raised {described(error)}"
        raise UserError(f"Method '{name}': {words}") from error


def _check_state(name: str, method: nn.Module) -> None:
    """Raises UserError where weights can't be kept in a file: known before they are trained, not after."""
    import torch

    for key, value in method.state_dict().items():
        if not isinstance(value, torch.Tensor):
            fault = f"is of type {type(value).__name__}. Keep it as a buffer, or make it in __init__"
        elif torch.nn.parameter.is_lazy(value):
            fault = "has no shape yet. Give the layer its sizes, or call it once in __init__"
        elif value.device.type == "meta":
            fault = "lies on the device 'meta' and has no values. Build it on the CPU; the bench moves it"
        elif value.layout != torch.strided:
            fault = f"is stored as {value.layout}. Keep it dense"
        elif any(stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)):
            fault = "is expanded: several of its elements are one in memory. Use .clone()"
        else:
            continue
        raise UserError(
            f"Method '{name}': '{key}' in the state of {type(method).__name__} {fault}. Weights are kept as plain tensors."
        )


def _cause(target: str, error: Exception) -> str:
    """What is behind Hydra's error, whose own words are about its internals."""
    cause = error.__cause__ if error.__cause__ is not None else error
    if isinstance(cause, ImportError) and isinstance(cause.__cause__, Exception):
        return _import_fault(target, cause.__cause__)
    words = _words(cause)
    return f"{words}. Expected: def __init__(self, modalities: list[str], ...)" if "'modalities'" in words else words


def _words(error: BaseException) -> str:
    """The text of an error; with its type and line where the text alone may say nothing, as `KeyError('x')`."""
    plain = isinstance(error, UserError | ValueError | TypeError | FileNotFoundError) and str(error)
    if plain or not place(error):
        return str(error) or type(error).__name__
    return described(error)


def _import_fault(target: str, error: Exception) -> str:
    """Why a class could not be imported, and what to do."""
    import sys
    from pathlib import Path

    module, _, attribute = target.rpartition(".")
    if isinstance(error, ModuleNotFoundError) and error.name == target and module in sys.modules:
        found = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        return f"{module} has no '{attribute}'.{did_you_mean(attribute, found)}"
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return (
            f"there is no module '{error.name}' in {Path.cwd()} or among the installed packages."
            f" Run from the folder that holds {error.name.replace('.', '/')}.py, or install its package."
        )
    return f"importing {module} raised {type(error).__name__}: {error}"


def check_adaptation(name: str, method: nn.Module, card: dict[str, Any]) -> None:
    """The card's `sees_test_images` must match whether the method has `predict_adapting`.

    Raises:
        UserError: it does not.
    """
    from harness.methods.adapter import MethodAdapter

    declared, adapts = bool(card.get("sees_test_images", False)), MethodAdapter(method).adapts
    if declared != adapts:
        raise UserError(
            f"Method '{name}': {type(method).__name__} {'has' if adapts else 'lacks'} predict_adapting, but its card says"
            f" sees_test_images: {str(declared).lower()}. Expected both or neither, because the report shows it."
        )


def check_changes_no_training(name: str, method: nn.Module) -> None:
    """An algorithm that says `changes_training: false` must leave training, and all weights, to the method that it wraps.

    Raises:
        UserError: it has a function of training or a weight of its own, or keeps the method under another name than `method`.
    """
    from harness.methods.adapter import MethodAdapter

    own = next((f"the function {part}" for part in MethodAdapter(method).own_parts_of_training()), None)
    own = own or next((f"the weights '{key}'" for key in method.state_dict() if not key.startswith(WRAPPED)), None)
    if own:
        raise UserError(
            f"Method '{name}': its algorithm says changes_training: false, and {type(method).__name__} has {own} of its own."
            " Expected those of the wrapped method alone, which it keeps as self.method; baselines.algorithms.base.Algorithm"
            " passes them on. Without changes_training it is trained like any other."
        )


def _check_oracle(name: str, adapter: MethodAdapter, prompt: str) -> None:
    """The card's prompt must match whether the method has `predict_oracle`."""
    from harness.methods.adapter import check_signature

    if adapter.sees_truth:
        check_signature(name, adapter.module, "predict_oracle", ("images", "modality", "masks"))
        if not prompt.startswith(ORACLE):
            expected = ", ".join(option for option in PROMPTS if option.startswith(ORACLE))
            raise UserError(
                f"Method '{name}': {adapter.name} has predict_oracle, which is shown the true masks, but its card"
                f" says prompt: {prompt}. Expected one of: {expected}."
            )
    elif prompt.startswith(ORACLE):
        raise UserError(
            f"Method '{name}': its card says prompt: {prompt}, but {adapter.name} lacks predict_oracle. Expected:"
            " def predict_oracle(self, images, modality, masks)."
        )

"""What algorithms share that run a method with weights it does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def with_weights(method: nn.Module, weights: Mapping[str, Tensor], call: Callable[[nn.Module], Any]) -> Any:
    """`call(method)`, in which the parameters of these names are `weights` and all buffers are copies.

    So the method's own weights and running statistics stay as they are, bit for bit.
    """
    tensors = {name: buffer.clone() for name, buffer in method.named_buffers()} | dict(weights)
    return functional_call(_Call(method), {f"method.{name}": value for name, value in tensors.items()}, (call,))


class _Call(nn.Module):
    """Makes any function of the method the forward pass of a module, which is what torch can call with other weights."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.train(method.training)
        self.method = method

    def forward(self, call: Callable[[nn.Module], Any]) -> Any:
        return call(self.method)

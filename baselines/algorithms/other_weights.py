"""What algorithms share that run a method with weights it does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def with_weights(method: nn.Module, weights: Mapping[str, Tensor], call: Callable[[nn.Module], Any]) -> Any:
    """`call(method)`, in which the parameters of these names are `weights` and all buffers of numbers are copies.

    So the method's own weights and running statistics stay as they are, bit for bit. Buffers of bools are switches, which a
    method may read, and a GPU is asked for only where they changed: they stay in place.
    """
    buffers = {name: buffer for name, buffer in method.named_buffers() if buffer.dtype != torch.bool}
    tensors = {name: buffer.clone() for name, buffer in buffers.items()} | dict(weights)
    return functional_call(_Call(method), {f"method.{name}": value for name, value in tensors.items()}, (call,))


class _Call(nn.Module):
    """Makes any function of the method the forward pass of a module, which is what torch can call with other weights."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.train(method.training)
        self.method = method

    def forward(self, call: Callable[[nn.Module], Any]) -> Any:
        return call(self.method)

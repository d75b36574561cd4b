"""Training with less memory: activations inside a block are computed again in the backward pass instead of kept."""

# torch types the call of a module as Any.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *args: Any) -> Tensor:
    """`module(*args)` of which only the inputs are kept for the backward pass; that runs the module a second time.

    Same values, same gradients; running statistics of BatchNorm see each batch once. For modules without randomness.
    """
    if not torch.is_grad_enabled():
        return module(*args)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _copied_statistics(module)

    return checkpoint(module, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _copied_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorms update copies of their running statistics, so that the second pass leaves no trace."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    originals = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, originals, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, originals, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)

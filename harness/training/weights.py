"""The weights that a fit ends with, as a safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from harness.files import atomic_write_bytes


def save_weights(method: torch.nn.Module, path: Path, about: dict[str, str] | None = None) -> None:
    """Writes the method's state; tensors that share memory are written each for itself.

    Args:
        about: kept in the file's header: what a reader of the file alone needs to build the method.
    """
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in method.state_dict().items()}
    atomic_write_bytes(path, save(weights, metadata=about))

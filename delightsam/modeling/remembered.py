"""What depends on weights alone: computed again only after one of them changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from delightsam.modeling import kernels

T = TypeVar("T")


class Remembered(Generic[T]):
    """Values made of tensors, one for each key, kept until one of their tensors changes.

    Nothing is kept where somebody looks at the operations (counting, export, `torch.compile`, a recording CUDA graph): each
    pass then shows all of its own, and tensors may hold no values there. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[object, list[Tensor], T]] = {}

    def __call__(self, key: Hashable, tensors: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """`compute()`, or what it gave before for this key and the same values of `tensors`.

        Args:
            key: what the value depends on beside the tensors.
            compute: gives a value without gradient.
        """
        if kernels.is_watched() or _is_capturing() or any(tensor.is_inference() for tensor in tensors):
            return compute()
        # Every change in place raises a tensor's version; every other one gives it other memory, for the old is held here.
        state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if key not in self._kept or self._kept[key][0] != state:
            with torch.inference_mode(False), torch.no_grad():  # a tensor that training may use, too
                self._kept[key] = (state, [tensor.detach() for tensor in tensors], compute())
        return self._kept[key][2]

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


def _is_capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()

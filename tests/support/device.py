"""A device to count on, where there is none: what a program on a CPU would wait for, and copy, if its tensors lay on a GPU."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__")
"""Functions of a tensor that give its values to Python. `tolist`, `cpu` and `numpy` are no operations of a CPU's tensor."""
SIZED_BY_VALUES = (
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::equal", "aten::masked_select",
    "aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave",
)  # fmt: skip
"""Operations that read values: of a result whose shape depends on them, the program must know the shape."""
MAKERS = ("tensor", "as_tensor", "new_tensor")
"""They copy numbers of Python: to a device with `device=` from memory that is not pinned, which makes the program wait."""

_PAGEABLE = " of memory that is not pinned"


class StandInDevice:
    """Counts waits for the device and copies to it, inside a `with` block.

    A tensor is the host's if it was made in the block without `device=`, by NumPy or of the host's tensors alone; it becomes
    the device's by `to` or `cuda`. All others are the device's: weights, buffers, what was there before. Reading the host's
    tensors is no wait.

    Attributes:
        waits: by what made the program wait.
        places: where each of them was, as "file:line", in order.
        copies: shapes of what was copied from the host to the device, in order.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.places: list[str] = []
        self.copies: list[tuple[int, ...]] = []
        # Views share their storage; a storage that is held is not given to another tensor.
        self._host: dict[int, torch.UntypedStorage] = {}
        self._making_for_host = False
        self._inside = False

    def __enter__(self) -> StandInDevice:
        self._modes = (_Functions(self), _Operations(self), _numpy_is_the_hosts(self))
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    def is_host(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._host

    def function(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function of torch that Python calls."""
        name = getattr(function, "__name__", "")
        own = args[0] if args and isinstance(args[0], Tensor) else None
        if name in READS and own is not None:
            return self._read(name, function, own, args, kwargs)
        if name in ("to", "cuda", "pin_memory") and own is not None:
            return self._moved(name, function, own, args, kwargs)
        if name in ("__getitem__", "__setitem__") and own is not None and not self.is_host(own):
            for index in args[1] if isinstance(args[1], tuple) else args[1:2]:
                if isinstance(index, list | np.ndarray):
                    self._copied(name, (len(index),))
        if name in MAKERS:
            return self._made(name, function, args, kwargs)
        given = any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs)))
        self._making_for_host = kwargs.get("device") is None and not given
        try:
            return function(*args, **kwargs)
        finally:
            self._making_for_host = False

    def operation(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, whoever asked for it."""
        result = function(*args, **kwargs)
        if self._inside:
            return result
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        host = [self.is_host(tensor) for tensor in given]
        name = str(function.name()).partition(".")[0]
        if all(host) if given else self._making_for_host:
            for tensor in tree_leaves(result):
                self.of_host(tensor)
        elif name in SIZED_BY_VALUES and not str(function.name()).endswith(
            ".self_int"
        ):  # repeated as often as Python says
            self._waits(name)
        elif name == "aten::copy_":
            self._assigned(*host[:2], given[1], args)
        elif name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
            for index in given[1:] if name == "aten::index" else tree_leaves(args[1]):
                self._indexed(name, index)
        return result

    def of_host(self, tensor: Any) -> Any:
        if isinstance(tensor, Tensor):
            self._host[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    def _read(self, name: str, function: Any, own: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.is_host(own):
            self._waits(f"Tensor.{name}")
        with self._uncounted():
            result = function(*args, **kwargs)
            return self.of_host(result.clone()) if name == "cpu" else result

    def _moved(self, name: str, function: Any, own: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Of the device's tensors `to("cpu")` is a wait; of the host's `to` a device is a copy, and a wait without `non_blocking`."""
        host, where = self.is_host(own), [kwargs.get("device"), *args[1:2]]
        like = [one for one in args[1:2] if isinstance(one, Tensor) and not self.is_host(one)]
        to_device = name == "cuda" or like or any(isinstance(one, torch.device | str) for one in where)
        if not host and any(isinstance(one, str) and one == "cpu" for one in where):
            return self._read("cpu", Tensor.cpu, own, (own,), {})
        if not host or not to_device:
            with self._uncounted():
                result = function(*args, **kwargs)
            return self.of_host(result) if host else result
        if not kwargs.get("non_blocking"):
            self._waits(f"Tensor.{name}{_PAGEABLE}")
        self.copies.append(tuple(own.shape))
        with self._uncounted():
            result = function(*args, **kwargs)
            return result.clone() if _storage(result) == _storage(own) else result

    def _made(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self._uncounted():
            result = function(*args, **kwargs)
        given = args[0] if name == "as_tensor" and isinstance(args[0], Tensor) else None
        if given is not None:
            return result
        if kwargs.get("device") is None and name != "new_tensor":
            return self.of_host(result)
        self._copied(f"torch.{name}", tuple(result.shape))
        return result

    def _assigned(self, to_host: bool, of_host: bool, source: Tensor, args: tuple[Any, ...]) -> None:
        if to_host and not of_host:
            self._waits("Tensor.copy_ to the host")
        if of_host and not to_host:
            self.copies.append(tuple(source.shape))
            if not args[2:] or not args[2]:
                self._waits(f"Tensor.copy_{_PAGEABLE}")

    def _indexed(self, name: str, index: Any) -> None:
        if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
            self._waits(f"{name} with a mask")
        elif isinstance(index, Tensor) and self.is_host(index):
            self._copied(name, tuple(index.shape))

    def _copied(self, name: str, shape: tuple[int, ...]) -> None:
        """To the device, of memory that is not pinned."""
        self._waits(f"{name}{_PAGEABLE}")
        self.copies.append(shape)

    def _waits(self, why: str) -> None:
        self.waits[why] += 1
        callers = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        outside = [frame for frame in callers if frame.filename != __file__]
        self.places.append(f"{outside[-1].filename}:{outside[-1].lineno}")

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before


class _Functions(TorchFunctionMode):
    def __init__(self, device: StandInDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._device.function(function, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __init__(self, device: StandInDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._device.operation(function, args, kwargs or {})


@contextmanager
def _numpy_is_the_hosts(device: StandInDevice) -> Iterator[None]:
    """torch.from_numpy is called without any mode."""
    from_numpy = torch.from_numpy
    torch.from_numpy = lambda array: device.of_host(from_numpy(array))
    try:
        yield
    finally:
        torch.from_numpy = from_numpy


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)

"""`Pixels`: the arrays of a cache, where the device that computes can reach them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data.batches.array_cache import ArrayCache
from harness.hardware import free_memory

RESIDENT_SHARE = 0.25
"""Of a GPU's free memory: so much at most is given to the images of a trial. Where they need more, batches are copied."""


def fits(size: int, free: int, share: float = RESIDENT_SHARE) -> bool:
    """Whether `size` bytes of images may lie on a GPU of which `free` bytes are free.

    >>> fits(4 * 2**30, 16 * 2**30), fits(4 * 2**30 + 1, 16 * 2**30)
    (True, False)
    """
    return size <= share * free


class Source(Protocol):
    """Where batches come from.

    Attributes:
        suffix: behind the name of an image, of what was done to its pixels.
    """

    suffix: str

    def places(self, keys: Sequence[str]) -> list[int]:
        """Where `take` finds the arrays `keys`: see `ArrayCache.windows`."""

    def take(self, places: Sequence[int], on_device: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, S, S, 3) and masks (B, S, S), uint8, on the device.

        Args:
            on_device: the same `places`, (B,) int64 on the device.
        """


class Pixels:
    """Images and masks as uint8, by the rows of an array cache.

    On a GPU they lie in its memory, where they fit into a share of what is free; otherwise, and on a CPU, they are read
    from the memory-mapped arrays. They reach a GPU through pinned memory, beside the step before: see `take_all`.

    Args:
        keys: of the samples whose arrays will be asked for; none other can be.
    """

    suffix = ""

    def __init__(
        self, cache: ArrayCache, keys: Iterable[str], device: torch.device | str = "cpu", share: float = RESIDENT_SHARE
    ) -> None:
        self.cache, self.device = cache, torch.device(device)
        rows = sorted(set(cache.rows([window for key in keys for window in cache.windows(key)])))
        self._resident: tuple[Tensor, Tensor] | None = None
        size = len(rows) * (cache.images[0].nbytes + cache.masks[0].nbytes)
        if self.device.type == "cuda" and fits(size, free_memory(self.device), share):
            self._resident = _copied(cache.images, rows, self.device), _copied(cache.masks, rows, self.device)
        resident = self._resident is not None
        self._place = {row: place if resident else row for place, row in enumerate(rows)}

    @property
    def is_resident(self) -> bool:
        return self._resident is not None

    def places(self, keys: Sequence[str]) -> list[int]:
        """Where `take` finds the images.

        Raises:
            UserError: a key is not in the cache.
        """
        return [self._place[row] for row in self.cache.rows(keys)]

    def take(self, places: Sequence[int], on_device: Tensor) -> tuple[Tensor, Tensor]:
        """See `Source`."""
        if self._resident is not None:
            images, masks = self._resident
            return images.index_select(0, on_device), masks.index_select(0, on_device)
        images, masks = self._read(places)
        return sent(images, self.device), sent(masks, self.device)

    def take_all(self, parts: Sequence[tuple[Sequence[int], Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """`take` of each part. What is copied to a GPU is read by a thread, and copied on a stream of its own, one part ahead."""
        if self.is_resident or self.device.type != "cuda":
            yield from (self.take(*part) for part in parts)
            return
        computing, copying = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        for images, masks in self.read_ahead([places for places, _ in parts]):
            with torch.cuda.stream(copying):
                batch = sent(images, self.device), sent(masks, self.device)
            computing.wait_stream(copying)
            for tensor in batch:
                tensor.record_stream(computing)  # its memory is not given away before the step is done with it
            yield batch

    def read_ahead(self, parts: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Each part in the main memory; a thread reads the next one meanwhile. It calls nothing of CUDA, which may be recording."""
        with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
            coming = [reader.submit(self._read, places) for places in parts[:1]]
            for after in range(1, len(parts) + 1):
                part = coming.pop().result()
                coming += [reader.submit(self._read, places) for places in parts[after : after + 1]]
                yield part

    def _read(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = list(places)
        # Indexing with a list copies: the map stays read-only.
        return torch.from_numpy(self.cache.images[rows]), torch.from_numpy(self.cache.masks[rows])


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; on a CPU itself. The program does not wait until a GPU has it."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


_AT_ONCE = 256


def _copied(arrays: NDArray[np.uint8], rows: list[int], device: torch.device) -> Tensor:
    result = torch.empty((len(rows), *arrays.shape[1:]), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        result[start : start + len(part)].copy_(torch.from_numpy(arrays[part]))
    return result

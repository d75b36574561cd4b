"""Sharing a GPU: a trial waits until its part of the memory is free, and never takes more than its part.

Ray's fractions of a GPU are bookkeeping only, and a process that ended may hold its memory a little longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_SECONDS = 120.0
# A CUDA context and other programs take some memory of each GPU that torch can't give away.
USABLE = 0.85


class GpuBusy(RuntimeError):
    """A GPU's memory did not get free in time: the place is at fault, not the trial, so another try may do."""


def memory_share(gpus: float) -> float | None:
    """The part of a GPU's memory that a trial's tensors may take; None: no limit, it has the whole GPU.

    >>> memory_share(0.5)
    0.425
    """
    return gpus * USABLE if 0 < gpus < 1 else None


def enough_free(free: int, total: int, gpus: float) -> bool:
    """Whether `free` of `total` bytes hold a trial with this part of the GPU."""
    return free >= gpus * USABLE * total


def wait_for_memory(
    memory: Callable[[], tuple[int, int]],
    gpus: float,
    *,
    seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until the trial's part of the GPU is free.

    Args:
        memory: gives (free, total) bytes, as `torch.cuda.mem_get_info`.

    Raises:
        GpuBusy: it is not after `seconds`.
    """
    began = clock()
    while True:
        free, total = memory()
        if enough_free(free, total, gpus):
            return
        if clock() - began >= seconds:
            raise GpuBusy(
                f"after {seconds:.0f} s only {free / 2**30:.1f} of {total / 2**30:.1f} GiB of the GPU's memory are free, and"
                f" the trial's part is {gpus:g}: another program holds it. End it, or use a smaller executor.gpus_per_trial"
            )
        sleep(min(1.0, seconds))


def take_share(gpus: float) -> None:
    """Waits for the memory of the GPU that Ray gave this process, and limits the process to its part."""
    import torch

    torch.cuda.empty_cache()  # what an earlier trial left in this process
    wait_for_memory(torch.cuda.mem_get_info, gpus)
    torch.cuda.set_per_process_memory_fraction(memory_share(gpus) or 1.0)

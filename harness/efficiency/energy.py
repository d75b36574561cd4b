"""Energy of a prediction, by the counter of an NVIDIA GPU's driver."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import torch

SECONDS = 1.0
"""So long a GPU predicts between two readings of its counter, which moves some fifty times a second."""

Counter = Callable[[], int | None]


def energy_counter(device: torch.device) -> Counter | None:
    """What reads the millijoules that a GPU has taken since its driver was loaded; None where nobody tells: a CPU, a GPU of
    another maker or older than 2017, a part of a GPU."""
    if device.type != "cuda":
        return None
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        identifier = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    except (OSError, AttributeError):
        return None
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(identifier.encode(), ctypes.byref(handle)):
        return None

    def read() -> int | None:
        value = ctypes.c_ulonglong()
        failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
        return None if failed else value.value

    return read if read() is not None else None


def energy_per_image(
    run: Callable[[], object],
    images: int,
    counter: Counter | None,
    wait: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Millijoules that the whole GPU takes for one image while it does nothing but predict; None where nobody tells.

    Args:
        run: predicts a batch.
        images: in that batch.
        counter: of `energy_counter`.
        wait: until the GPU has done what it was given.
    """
    if counter is None:
        return None
    run()
    wait()
    before, started, batches = counter(), clock(), 0
    while batches == 0 or clock() - started < SECONDS:
        run()
        wait()
        batches += 1
    after = counter()
    return None if before is None or after is None else (after - before) / (batches * images)

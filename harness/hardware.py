"""The machine: cores, devices, memory, and the number formats that are native to them."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Instructions for bfloat16 of x86 processors, and of ARM's.
_NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}
# Where the system does not tell what is free: 4 GiB.
_UNKNOWN_MEMORY = 2**32
# Parameters of glibc's mallopt(3): how much free memory stays at the end of the heap, and from
# which size on how many blocks lie outside it.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4


@lru_cache
def processor_name() -> str:
    """The CPU's model name, for example `Intel(R) Xeon(R) ...`."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may use: an allocation on a shared node has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU, or in the main memory."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free_main_memory()


def free_main_memory() -> int:
    """Bytes that are free in the main memory, and in this container where one is set a limit."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        folder = Path("/sys/fs/cgroup")
        limit, used = ((folder / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            free.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return max(0, min(free)) if free else _UNKNOWN_MEMORY


@contextmanager
def memory_kept(device: str) -> Iterator[None]:
    """Inside, memory that is freed stays with the process; at the end it goes back to the system.

    Training on a CPU takes and frees the same large blocks in every step. glibc gives each of them back to the system, which
    clears it page by page when it is taken again. Does nothing for a GPU, or with another C library. `device` is cpu or cuda.
    """
    libc = ctypes.CDLL(None) if device == "cpu" and platform.libc_ver()[0] == "glibc" else None
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        # As glibc sets them by itself in a process that has freed a large block; nobody can ask it what they were.
        libc.mallopt(_MMAP_MAX, 65536)
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        libc.malloc_trim(0)


def describe_machine(device: str) -> dict[str, Any]:
    """The machine a trial runs on; `device` is cpu or cuda."""
    import torch

    machine: dict[str, Any] = {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "device": device,
        "threads": torch.get_num_threads(),
        "device_name": processor_name(),
    }
    if device.startswith("cuda"):
        machine |= {"device_name": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return machine


def native_amp(device: str, cpu_facts: Path = Path("/proc/cpuinfo")) -> str:
    """`bfloat16` where the device has instructions for it, else `off`: the meaning of `training.amp: auto`.

    A CPU without these instructions emulates bfloat16, about ten times slower than float32. The choice is written into
    the trial's spec, and so into its id: on a machine of another kind the same words may name other trials.

    Args:
        device: `auto`, `cuda` or `cpu`, as in `executor.device`.
        cpu_facts: what Linux says of the processor; where there is no such file: `off`.
    """
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    return "bfloat16" if _NATIVE & cpu_features(cpu_facts) else "off"


def cpu_features(cpu_facts: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The instruction sets that Linux names, such as `avx512f`; none where it is another system."""
    try:
        lines = cpu_facts.read_text("utf-8").splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split(":", 1)[1].split()}


def autocast(device: torch.device, amp: str) -> torch.autocast:
    """The mixed-precision context of a trial; `amp` is off, bfloat16 or float16."""
    import torch

    return torch.autocast(device.type, dtype=dtype_of(amp if amp != "off" else "bfloat16"), enabled=amp != "off")


def dtype_of(amp: str) -> torch.dtype:
    """The type that a trial computes in: float32 where `amp` is off."""
    import torch

    return {"off": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[amp]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the memory of a GPU or of the machine is exhausted."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "can't allocate memory" in text

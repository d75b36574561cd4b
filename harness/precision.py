"""`training.amp: auto`: mixed precision where the machine computes it natively.

A CPU without instructions for bfloat16 emulates it, about ten times slower than float32. What is chosen stands in the
trial's spec, and so in its id: on a machine of another kind the same words may name other trials.
"""

from __future__ import annotations

from pathlib import Path

# Of x86 processors, and of ARM's.
_NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}


def native_amp(device: str, cpu_facts: Path = Path("/proc/cpuinfo")) -> str:
    """`bfloat16` where the device has instructions for it, else `off`.

    Args:
        device: `auto`, `cuda` or `cpu`, as in `executor.device`.
        cpu_facts: what Linux says of the processor; where there is no such file: `off`.
    """
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    return "bfloat16" if _NATIVE & _cpu_features(cpu_facts) else "off"


def _cpu_features(cpu_facts: Path) -> set[str]:
    try:
        lines = cpu_facts.read_text("utf-8").splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split(":", 1)[1].split()}

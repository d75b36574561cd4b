"""What a method costs: parameters, multiply-accumulates, latency, throughput and memory of `predict`.

Nothing is trained and weights don't matter, so a freshly built method will do. Measure one method at a time on an
otherwise idle machine. Counts (parameters, MACs) are the same everywhere; times belong to the machine named in the row.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.efficiency.energy import energy_counter, energy_per_image
from harness.efficiency.forms import PLAIN
from harness.efficiency.rounds import ROUNDS, Settings, Times, forward, random_images
from harness.efficiency.timing import wait
from harness.hardware import describe_machine
from harness.methods.adapter import MethodAdapter

_MIB = 2**20


class Measurement:
    """The costs of one method: counted once, timed in `ROUNDS` rounds, between which other methods may be measured.

    Args:
        image_size: side of the images in pixels.
        device: the method is moved there.
        modality: the modality number that all images are given.
        budget_seconds: about so long at most for the times of all rounds; a slow method gets fewer warm-ups and iterations.
        max_batch: the largest batch tried for throughput.
        compiled: time what `torch.compile` makes of it as well; compiling is not part of the budget.
    """

    def __init__(
        self,
        image_size: int,
        device: torch.device | str = "cpu",
        *,
        modality: int = 0,
        budget_seconds: float = 10.0,
        max_batch: int = 64,
        compiled: bool = False,
    ) -> None:
        self.settings = Settings(image_size, torch.device(device), modality, budget_seconds, max_batch, compiled)
        self._times = Times(self.settings)
        self._counted: dict[str, Any] = {}
        self._memory = 0

    def add_round(self, method: nn.Module) -> None:
        """Measures `method.predict` on square images, in evaluation mode. The first round counts as well."""
        settings = self.settings
        method.to(settings.device)
        was_training = method.training
        method.eval()
        try:
            first = not self._counted
            if first:
                self._count(method)
            self._times.add_round(method, self._memory)
            if first:
                self._counted["energy_mj_per_image"] = _energy(method, settings, self._times.best_batch)
        finally:
            method.train(was_training)

    def _count(self, method: nn.Module) -> None:
        settings = self.settings
        image = random_images(1, settings.image_size, settings.device)
        self._memory = peak_memory(method, image, settings.modality)
        self._counted = {
            **count_parameters(method),
            "gmacs": count_macs(method, image, settings.modality) / 1e9,
            "peak_memory_mib": self._memory / _MIB,
        }

    def row(self) -> dict[str, Any]:
        """Plain numbers and words of the rounds so far: see `measure`."""
        return {
            "image_size": self.settings.image_size,
            **self._counted,
            **self._times.figures(),
            "device": describe_machine(self.settings.device.type)["device_name"],
            "threads": torch.get_num_threads(),
            "dtype": PLAIN.dtype,
            "torch": str(torch.__version__),
        }


def measure(method: nn.Module, image_size: int, device: torch.device | str = "cpu", **settings: Any) -> dict[str, Any]:
    """All rounds of one method, one after the other.

    Args:
        settings: of `Measurement`.

    Returns:
        A row of plain numbers and words:
        `parameters_total` (needed at test time: the method's `deployed_parameters()`, else all), `parameters_active` (that
        take part for one modality: its `active_parameters()`, else the total), `parameters_trainable`; `gmacs` (10^9 multiply-accumulates of convolutions, matrix products and attention
        for one image); `latency_ms_p50`, `latency_ms_p95` (one image) and `latency_iterations` behind them; `rounds`, and
        `latency_drift`, by what part the slowest round's median is above the fastest one's (None after one round);
        `throughput_images_per_second` at its best batch, `throughput_batch`, and `throughput_by_batch` of each batch tried;
        `peak_memory_mib` (weights, one image and
        the largest sum of tensors alive in its forward pass); `image_size`, `device` (the name of the processor or GPU),
        `threads`, `dtype`, `torch`; `energy_mj_per_image`, millijoules of the whole GPU at that batch (None where its driver does
        not tell). All these of the form that every method has, plain float32. Beside them `forms`, a list
        with `form`, `dtype`, `latency_ms_p50`, `latency_ms_p95` and `throughput_images_per_second` (at the plain form's best batch;
        None where there was no time for it) of each form that the device and the method know; `left_out`,
        words about each form that was asked for and can't predict;
        `latency_ms_by_size`, of plain float32 for other image sides; and `size_exponent` e: the time grows as side ** e
        (2: as the pixels; None where fewer than two sizes could be timed).
    """
    measurement = Measurement(image_size, device, **settings)
    for _ in range(ROUNDS):
        measurement.add_round(method)
    return measurement.row()


def count_parameters(method: nn.Module) -> dict[str, int]:
    """Numbers of parameters: deployed ones, those active for an image of one modality, those that some stage trains. No buffers."""
    adapter = MethodAdapter(method)
    return {
        "parameters_total": sum(parameter.numel() for parameter in adapter.deployed_parameters()),
        "parameters_active": adapter.active_parameters(),
        "parameters_trainable": adapter.trained_parameters(),
    }


def count_macs(method: nn.Module, images: Tensor, modality: int = 0) -> int:
    """Multiply-accumulates of one `predict` on `images` (B, 3, H, W): convolutions, matrix products, attention.

    That is half of what torch counts as floating-point operations. Attention is counted only when it runs as matrix
    products, hence the math backend and no fused encoder layer.
    """
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # The counter hooks into modules and trips over expanded views of parameters that want gradients.
    learning = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            forward(MethodAdapter(method), images, modality)()
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for parameter in learning:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops()) // 2


def peak_memory(method: nn.Module, images: Tensor, modality: int = 0) -> int:
    """Bytes of weights, images and the largest sum of tensors alive during one `predict` on `images` (B, 3, H, W).

    On a GPU as torch's allocator counts them. On a CPU the process's resident memory says little (freed memory is used
    again, untouched pages don't count), so the profiler's record of torch's allocations is added up instead; what a
    library takes from the system by itself is not in it.
    """
    run = forward(MethodAdapter(method), images, modality)
    weights = sum(
        t.numel() * t.element_size() for t in [*MethodAdapter(method).deployed_parameters(), *method.buffers()]
    )
    run()  # leaves first-time costs, such as cached tables and chosen kernels, out of the count
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
        before = torch.cuda.memory_allocated(images.device)
        torch.cuda.reset_peak_memory_stats(images.device)
        run()
        growth = torch.cuda.max_memory_allocated(images.device) - before
    else:
        growth = _peak_growth_on_cpu(run)
    return weights + images.numel() * images.element_size() + growth


def _peak_growth_on_cpu(forward: Callable[[], Any]) -> int:
    # The profiler's C++ part reports its own start and stop on stderr, otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        forward()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    alive = np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])])
    return int(max(0, alive.max(initial=0)))


def _energy(method: nn.Module, settings: Settings, batch: int) -> float | None:
    counter = energy_counter(settings.device)
    if counter is None:
        return None
    images = random_images(batch, settings.image_size, settings.device)
    run = forward(MethodAdapter(method), images, settings.modality)
    return energy_per_image(run, batch, counter, lambda: wait(settings.device))

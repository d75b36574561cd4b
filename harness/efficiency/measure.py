"""What a method costs: parameters, multiply-accumulates, latency, throughput and memory of `predict`.

Nothing is trained and weights don't matter, so a freshly built method will do. Measure one method at a time on an
otherwise idle machine. Counts (parameters, MACs) are the same everywhere; times belong to the machine named in the row.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.efficiency.energy import energy_counter, energy_per_image
from harness.efficiency.forms import AMP, PLAIN, Form, number_formats, precision
from harness.errors import raise_stop_behind
from harness.hardware import describe_machine, free_memory, is_out_of_memory
from harness.methods.adapter import MethodAdapter

WARM_UPS = 10
ITERATIONS = 40
_FEWEST_ITERATIONS = 5
_STABLE = 1.05
"""Warm is a form whose last three times differ by this factor at most."""
_SHARES = {"latency": 0.45, "throughput": 0.35, "sizes": 0.2}
"""Of the time that a method gets."""
_MIB = 2**20


def measure(
    method: nn.Module,
    image_size: int,
    device: torch.device | str = "cpu",
    *,
    modality: int = 0,
    budget_seconds: float = 10.0,
    max_batch: int = 64,
    compiled: bool = False,
) -> dict[str, Any]:
    """Measures `method.predict` on square images, moved to `device`, in evaluation mode.

    Args:
        image_size: side of the images in pixels.
        modality: the modality number that all images are given.
        budget_seconds: about so long at most for the times; a slow method gets fewer warm-ups and iterations.
        max_batch: the largest batch tried for throughput.
        compiled: time what `torch.compile` makes of it as well; compiling is not part of the budget.

    Returns:
        A row of plain numbers and words:
        `parameters_total` (needed at test time: the method's `deployed_parameters()`, else all), `parameters_active` (that
        take part for one modality: its `active_parameters()`, else the total), `parameters_trainable`; `gmacs` (10^9 multiply-accumulates of convolutions, matrix products and attention
        for one image); `latency_ms_p50`, `latency_ms_p95` (one image) and `latency_iterations` behind them;
        `throughput_images_per_second` at its best batch, `throughput_batch`; `peak_memory_mib` (weights, one image and
        the largest sum of tensors alive in its forward pass); `image_size`, `device` (the name of the processor or GPU),
        `threads`, `dtype`, `torch`; `energy_mj_per_image`, millijoules of the whole GPU at that batch (None where its driver does
        not tell). All these of the form that every method has, plain float32. Beside them `forms`, a list
        with `form`, `dtype`, `latency_ms_p50` and `latency_ms_p95` of each form that the device and the method know; `left_out`,
        words about each form that was asked for and can't predict;
        `latency_ms_by_size`, of plain float32 for other image sides; and `size_exponent` e: the time grows as side ** e
        (2: as the pixels; None where fewer than two sizes could be timed).
    """
    device = torch.device(device)
    method.to(device)
    was_training = method.training
    method.eval()
    try:
        image = _random_images(1, image_size, device)
        memory = peak_memory(method, image, modality)
        row = {
            **count_parameters(method),
            "gmacs": count_macs(method, image, modality) / 1e9,
            **_latency(method, image, modality, budget_seconds * _SHARES["latency"], compiled),
            **_throughput(
                method, image_size, modality, device, budget_seconds * _SHARES["throughput"], max_batch, memory
            ),
            **_growth(method, image_size, modality, device, budget_seconds * _SHARES["sizes"], memory),
            "peak_memory_mib": memory / _MIB,
        }
        row["energy_mj_per_image"] = _energy(method, image_size, modality, device, row["throughput_batch"])
    finally:
        method.train(was_training)
    return {
        "image_size": image_size,
        **row,
        "device": describe_machine(device.type)["device_name"],
        "threads": torch.get_num_threads(),
        "dtype": PLAIN.dtype,
        "torch": str(torch.__version__),
    }


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
            _forward(MethodAdapter(method), images, modality)()
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
    forward = _forward(MethodAdapter(method), images, modality)
    weights = sum(
        t.numel() * t.element_size() for t in [*MethodAdapter(method).deployed_parameters(), *method.buffers()]
    )
    forward()  # leaves first-time costs, such as cached tables and chosen kernels, out of the count
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
        before = torch.cuda.memory_allocated(images.device)
        torch.cuda.reset_peak_memory_stats(images.device)
        forward()
        growth = torch.cuda.max_memory_allocated(images.device) - before
    else:
        growth = _peak_growth_on_cpu(forward)
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


def _latency(method: nn.Module, image: Tensor, modality: int, budget_seconds: float, compiled: bool) -> dict[str, Any]:
    """The times of one image in all forms, which take turns: what disturbs the machine disturbs all of them."""
    forwards, left_out = dict(_forms(method, image, modality)), []
    for form, run in _compiled_forms(method, image, modality) if compiled else ():
        try:
            run()
        except Exception as error:  # the compiler meets the method's own code
            raise_stop_behind(error)
            left_out.append(
                f"{form.kind}, {form.dtype}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            )
        else:
            forwards[form] = run
    milliseconds = _interleaved(forwards, image.device, budget_seconds)
    found = {form: np.percentile(times, [50, 95]) for form, times in milliseconds.items()}
    return {
        "latency_ms_p50": float(found[PLAIN][0]),
        "latency_ms_p95": float(found[PLAIN][1]),
        "latency_iterations": len(milliseconds[PLAIN]),
        "forms": [
            {
                "form": form.kind,
                "dtype": form.dtype,
                "latency_ms_p50": float(p50),
                "latency_ms_p95": float(p95),
            }
            for form, (p50, p95) in found.items()
        ],
        "left_out": left_out,
    }


def _compiled_forms(method: nn.Module, image: Tensor, modality: int) -> Iterator[tuple[Form, Callable[[], Any]]]:
    adapter = MethodAdapter(method)
    adapter.compile()  # once: each number format is a case of it
    if adapter.is_accelerated:
        for dtype in number_formats(image.device):
            yield Form("compiled", dtype), _forward(adapter, image, modality, dtype)


def _energy(method: nn.Module, image_size: int, modality: int, device: torch.device, batch: int) -> float | None:
    counter = energy_counter(device)
    if counter is None:
        return None
    forward = _forward(MethodAdapter(method), _random_images(batch, image_size, device), modality)
    return energy_per_image(forward, batch, counter, lambda: _wait(device))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forms(method: nn.Module, image: Tensor, modality: int) -> Iterator[tuple[Form, Callable[[], Any]]]:
    for dtype in number_formats(image.device):
        yield Form("plain", dtype), _forward(MethodAdapter(method), image, modality, dtype)
        fast = MethodAdapter(method)
        fast.accelerate(image.shape[-1], len(image), AMP[dtype])
        if fast.is_accelerated:
            yield Form("accelerated", dtype), _forward(fast, image, modality, dtype)


def _interleaved(
    forwards: Mapping[Any, Callable[[], Any]],
    device: torch.device,
    budget_seconds: float,
    fewest: int = _FEWEST_ITERATIONS,
) -> dict[Any, list[float]]:
    """Milliseconds of each, by turns: as many as fit, but never too few. A fifth of the time at most goes to warming up."""
    started = time.perf_counter()

    def spent() -> float:
        return time.perf_counter() - started

    for number, run in enumerate(forwards.values(), start=1):
        warm: list[float] = []
        while len(warm) < WARM_UPS and not (len(warm) >= 3 and max(warm[-3:]) <= _STABLE * min(warm[-3:])):
            warm.append(_seconds(run, device))
            if spent() > budget_seconds / 5 * number / len(forwards):
                break
    milliseconds: dict[Any, list[float]] = {name: [] for name in forwards}
    done = 0
    while done < fewest or (done < ITERATIONS and spent() < budget_seconds):
        for name, run in forwards.items():
            milliseconds[name].append(1000 * _seconds(run, device))
        done += 1
    return milliseconds


def _growth(
    method: nn.Module, image_size: int, modality: int, device: torch.device, budget_seconds: float, memory_of_one: int
) -> dict[str, Any]:
    """The time of one image at half and at twice the side, too, and with what power of the side it grows."""
    sides = [side for side in (image_size // 2 // 32 * 32, image_size, 2 * image_size) if side]
    forwards = {
        side: _forward(MethodAdapter(method), _random_images(1, side, device), modality)
        for side in dict.fromkeys(sides)
        # With attention to all pixels, twice the side needs sixteen times the memory.
        if side <= image_size or _fits(16 * memory_of_one, device)
    }
    timed = {}
    for side, run in forwards.items():
        try:
            run()
            timed[side] = run
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
    milliseconds = _interleaved(timed, device, budget_seconds, fewest=2)
    medians = {side: float(np.median(times)) for side, times in milliseconds.items()}
    exponent = None
    if len(medians) > 1:
        exponent = float(np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)[0])
    return {"latency_ms_by_size": {str(side): ms for side, ms in medians.items()}, "size_exponent": exponent}


def _throughput(
    method: nn.Module,
    image_size: int,
    modality: int,
    device: torch.device,
    budget_seconds: float,
    max_batch: int,
    memory_of_one: int,
) -> dict[str, Any]:
    """Doubles the batch until memory or time run out, or two doublings in a row bring nothing."""
    best, best_batch, batch, disappointments = 0.0, 1, 1, 0
    started = time.perf_counter()
    while batch <= max_batch and disappointments < 2 and _fits(batch * memory_of_one, device):
        try:
            forward = _forward(MethodAdapter(method), _random_images(batch, image_size, device), modality)
            warm = _seconds(forward, device)
            seconds = min(_seconds(forward, device) for _ in range(3 if warm < budget_seconds / 10 else 1))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            break
        rate = batch / seconds
        disappointments = 0 if rate > 1.02 * best else disappointments + 1
        if rate > best:
            best, best_batch = rate, batch
        left = budget_seconds - (time.perf_counter() - started)
        batch *= 2
        # A doubled batch takes twice as long, at least twice (warm-up, measurement).
        if 4 * seconds > left:
            break
    return {"throughput_images_per_second": best, "throughput_batch": best_batch}


def _forward(adapter: MethodAdapter, images: Tensor, modality: int, dtype: str = "float32") -> Callable[[], Any]:
    """One prediction, ready to be called. A method prompted with the truth is given a square in the image's middle."""
    masks = torch.zeros_like(images[:, :1])
    quarter = images.shape[-1] // 4
    masks[..., quarter : -quarter or None, quarter : -quarter or None] = 1
    numbers = torch.full((len(images),), modality, dtype=torch.int64, device=images.device)

    def run() -> Any:
        with torch.inference_mode(), precision(dtype, images.device):
            return adapter.test_answer(images, numbers, masks)

    return run


def _random_images(count: int, size: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, generator=generator).to(device)


def _seconds(forward: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    forward()
    _wait(device)
    return time.perf_counter() - started


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes are a safe part of the main memory: Linux ends a process that asks for too much."""
    return device.type != "cpu" or size < free_memory(device) / 2

"""The times of a method, taken in rounds between which other methods are measured.

A machine that gets slower meanwhile shows as a difference between the rounds, and slows no method alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.efficiency.forms import AMP, PLAIN, Form, number_formats, precision
from harness.efficiency.timing import by_turns, seconds_of
from harness.errors import raise_stop_behind
from harness.hardware import free_memory, is_out_of_memory
from harness.methods.adapter import MethodAdapter

ROUNDS = 2
ITERATIONS = 40
"""Times of one image that all rounds take together, at most."""
_FEWEST = (3, 2)
"""Times of one image in a round, however long they take: more of them in the first."""
_SHARES = {"latency": 0.45, "throughput": 0.35, "sizes": 0.2}
"""Of the time that a round gets."""


@dataclass(frozen=True)
class Settings:
    """How a method is timed.

    Attributes:
        image_size: side of the images in pixels.
        modality: the modality number that all images are given.
        seconds: about so long at most, all rounds together.
        max_batch: the largest batch tried for throughput.
        compiled: time what `torch.compile` makes of it as well; compiling is not part of the seconds.
    """

    image_size: int
    device: torch.device
    modality: int = 0
    seconds: float = 10.0
    max_batch: int = 64
    compiled: bool = False


@dataclass
class Times:
    """What the rounds found, in seconds of a call.

    Attributes:
        of_one: form -> times of one image.
        medians: of plain float32, one for each round.
        of_batch: batch -> times of plain float32.
        best_batch: at which the first round had the highest throughput.
        of_best: form -> times of that batch.
        of_side: image side -> times of one image, plain float32.
        left_out: words about each form that was asked for and can't predict.
    """

    settings: Settings
    of_one: dict[Form, list[float]] = field(default_factory=lambda: defaultdict(list))
    medians: list[float] = field(default_factory=list)
    of_batch: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    best_batch: int = 1
    of_best: dict[Form, list[float]] = field(default_factory=lambda: defaultdict(list))
    of_side: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    left_out: list[str] = field(default_factory=list)

    def add_round(self, method: nn.Module, memory_of_one: int) -> None:
        """Times a method once more; it is on the device and in evaluation mode.

        Args:
            memory_of_one: bytes that one image takes.
        """
        number, shares = len(self.medians), {name: self.settings.seconds * share for name, share in _SHARES.items()}
        _time_one(self, method, shares["latency"] / ROUNDS, _FEWEST[min(number, len(_FEWEST) - 1)])
        if number == 0:
            _double_batch(self, method, shares["throughput"] / 2, memory_of_one)
        _time_best_batch(self, method, shares["throughput"] / 2 / ROUNDS)
        _time_sides(self, method, shares["sizes"] / ROUNDS, memory_of_one)

    def figures(self) -> dict[str, Any]:
        """The columns of a row that are times: see `harness.efficiency.measure.measure`."""
        rates = {batch: batch / min(times) for batch, times in sorted(self.of_batch.items())}
        rates[self.best_batch] = self.best_batch / min(self.of_batch[self.best_batch] + self.of_best[PLAIN])
        return {
            **_milliseconds(self.of_one[PLAIN]),
            "latency_iterations": len(self.of_one[PLAIN]),
            "latency_drift": max(self.medians) / min(self.medians) - 1 if len(self.medians) > 1 else None,
            "rounds": len(self.medians),
            "forms": [
                {
                    "form": form.kind,
                    "dtype": form.dtype,
                    **_milliseconds(times),
                    "throughput_images_per_second": rates[self.best_batch] if form == PLAIN else self._rate(form),
                }
                for form, times in self.of_one.items()
            ],
            "left_out": self.left_out,
            "throughput_images_per_second": rates[self.best_batch],
            "throughput_batch": self.best_batch,
            "throughput_by_batch": {str(batch): rate for batch, rate in rates.items()},
            **self._growth(),
        }

    def _rate(self, form: Form) -> float | None:
        """Images a second at the best batch; None where there was no time for it."""
        times = self.of_best[form]
        return self.best_batch / min(times) if times else None

    def _growth(self) -> dict[str, Any]:
        medians = {side: 1000 * float(np.median(times)) for side, times in sorted(self.of_side.items())}
        exponent = None
        if len(medians) > 1:
            exponent = float(np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)[0])
        return {"latency_ms_by_size": {str(side): ms for side, ms in medians.items()}, "size_exponent": exponent}


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"latency_ms_p50": 1000 * float(p50), "latency_ms_p95": 1000 * float(p95)}


# --- one image -------------------------------------------------------------------------------------------------------


def _time_one(times: Times, method: nn.Module, budget_seconds: float, fewest: int) -> None:
    """One image in all forms, which take turns."""
    settings = times.settings
    runs = dict(_forms(settings, method))
    if settings.compiled:
        runs |= _compiled_forms(times, method)
    found = by_turns(runs, settings.device, budget_seconds, fewest=fewest, most=ITERATIONS // ROUNDS)
    for form, seconds in found.items():
        times.of_one[form] += seconds
    times.medians.append(float(np.median(found[PLAIN])))


def _forms(settings: Settings, method: nn.Module) -> Iterator[tuple[Form, Callable[[], Any]]]:
    for dtype in number_formats(settings.device):
        for kind in ("plain", "accelerated"):
            form = Form(kind, dtype)
            if (run := _form(settings, method, form, 1)) is not None:
                yield form, run


def _form(settings: Settings, method: nn.Module, form: Form, batch: int) -> Callable[[], Any] | None:
    """A prediction of so many images; None where the method has no such form."""
    adapter = MethodAdapter(method)
    if form.kind == "accelerated":
        adapter.accelerate(settings.image_size, batch, AMP[form.dtype])
        if not adapter.is_accelerated:
            return None
    images = random_images(batch, settings.image_size, settings.device)
    return forward(adapter, images, settings.modality, form.dtype)


def _compiled_forms(times: Times, method: nn.Module) -> dict[Form, Callable[[], Any]]:
    """Those of one image; a form that can't be compiled is noted once, and not tried in the next round."""
    settings, found = times.settings, {}
    adapter = MethodAdapter(method)
    adapter.compile()  # once: each number format is a case of it
    if not adapter.is_accelerated:
        return {}
    image = random_images(1, settings.image_size, settings.device)
    for dtype in number_formats(settings.device):
        form = Form("compiled", dtype)
        if times.medians and form not in times.of_one:
            continue
        run = forward(adapter, image, settings.modality, dtype)
        try:
            run()
        except Exception as error:  # the compiler meets the method's own code
            raise_stop_behind(error)
            words = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            times.left_out.append(f"{form.kind}, {form.dtype}: {words}")
        else:
            found[form] = run
    return found


# --- many images -----------------------------------------------------------------------------------------------------


def _double_batch(times: Times, method: nn.Module, budget_seconds: float, memory_of_one: int) -> None:
    """Doubles the batch until memory or time run out, or two doublings in a row bring nothing."""
    settings = times.settings
    best, batch, disappointments = 0.0, 1, 0
    started = time.perf_counter()
    while batch <= settings.max_batch and disappointments < 2 and _fits(batch * memory_of_one, settings.device):
        try:
            images = random_images(batch, settings.image_size, settings.device)
            run = forward(MethodAdapter(method), images, settings.modality)
            warm = seconds_of(run, settings.device)
            seconds = [seconds_of(run, settings.device) for _ in range(3 if warm < budget_seconds / 5 else 1)]
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            break
        times.of_batch[batch] += seconds
        rate = batch / min(seconds)
        disappointments = 0 if rate > 1.02 * best else disappointments + 1
        if rate > best:
            best, times.best_batch = rate, batch
        batch *= 2
        # A doubled batch takes twice as long, at least twice (warm-up, measurement).
        if 4 * min(seconds) > budget_seconds - (time.perf_counter() - started):
            break


def _time_best_batch(times: Times, method: nn.Module, budget_seconds: float) -> None:
    """The forms at the best batch, by turns: those that there is time for, the fast ones first.

    Of one image the times are known already.
    """
    settings, batch = times.settings, times.best_batch
    if batch == 1:
        for form, seconds in times.of_one.items():
            times.of_best[form] = list(seconds)
        return
    runs: dict[Form, Callable[[], Any]] = {}
    expected = 0.0
    for form in sorted(times.of_one, key=lambda form: float(np.median(times.of_one[form]))):
        # Twice: to warm up, and measured. A batch takes no longer than its images one by one.
        expected += 2 * batch * float(np.median(times.of_one[form]))
        if expected > budget_seconds:
            break
        # To compile it for another batch would take a minute again.
        run = _form(settings, method, form, batch) if form.kind != "compiled" else None
        if run is not None and _runs(run):
            runs[form] = run
    found = by_turns(runs, settings.device, budget_seconds / 2, fewest=1, most=3, warm=False)
    for form, seconds in found.items():
        times.of_best[form] += seconds


def _runs(run: Callable[[], Any]) -> bool:
    """Calls it, unless memory is too small."""
    try:
        run()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


# --- other sizes -----------------------------------------------------------------------------------------------------


def _time_sides(times: Times, method: nn.Module, budget_seconds: float, memory_of_one: int) -> None:
    """One image at half and at twice the side, too."""
    settings, side = times.settings, times.settings.image_size
    runs = {}
    for each in dict.fromkeys((side // 2 // 32 * 32, side, 2 * side)):
        # With attention to all pixels, twice the side needs sixteen times the memory.
        if each and (each <= side or _fits(16 * memory_of_one, settings.device)):
            run = forward(MethodAdapter(method), random_images(1, each, settings.device), settings.modality)
            if _runs(run):
                runs[each] = run
    found = by_turns(runs, settings.device, budget_seconds, fewest=1, most=ITERATIONS // ROUNDS, warm=False)
    for each, seconds in found.items():
        times.of_side[each] += seconds


def forward(adapter: MethodAdapter, images: Tensor, modality: int, dtype: str = PLAIN.dtype) -> Callable[[], Any]:
    """One prediction, ready to be called. A method prompted with the truth is given a square in the image's middle."""
    masks = torch.zeros_like(images[:, :1])
    quarter = images.shape[-1] // 4
    masks[..., quarter : -quarter or None, quarter : -quarter or None] = 1
    numbers = torch.full((len(images),), modality, dtype=torch.int64, device=images.device)

    def run() -> Any:
        with torch.inference_mode(), precision(dtype, images.device):
            return adapter.test_answer(images, numbers, masks)

    return run


def random_images(count: int, size: int, device: torch.device) -> Tensor:
    """(count, 3, size, size) float32, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, size, size, generator=generator).to(device)


def _fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes are a safe part of the main memory: Linux ends a process that asks for too much."""
    return device.type != "cpu" or size < free_memory(device) / 2

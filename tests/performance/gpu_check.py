"""What a GPU machine is asked in one short booking: is it right, and how fast. `make gpu-check`, at most 8 minutes.

    python -m tests.performance.gpu_check --out gpu-check.json

Needs no network and no data. Prints a table of times and of ratios against the plain model and the bare loop, runs the tests
marked `gpu`, and writes all of it as JSON. Without a GPU it does the same on small images, so that it is never found broken
where one is there. It ends after `--seconds`: what no longer fits is left out, and named in the table and in the JSON. Exits
with 1 where a test fails, or where there was no time for the tests.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.networks.smp import SmpNetwork
from delightsam import DeLightSAM, accelerate
from delightsam.modeling import tiny_vit
from delightsam.training.method import DeLightSAMMethod
from harness.config import TrainingConfig
from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.augmentation import Augmentation
from harness.data.batches.loader import EpochLoader
from harness.data.batches.pixels import Pixels
from harness.data.folder.sample import Sample
from harness.hardware import describe_machine
from harness.training.callbacks import StatusReporter
from harness.training.epoch_result import EpochResult
from harness.training.fit import TrainingData, fit
from tests.performance.deadline import Deadline, run_within
from tests.performance.plain_delightsam import PlainDeLightSAM
from tests.support.depth import SHALLOW

MODALITIES = ["dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy"]
ROOT = Path(__file__).parents[2]
TESTS = 0.3
"""Of the time, which the tests get at least."""
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
MODALITY = 2


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--seconds", type=float, default=480.0, help="it ends by then; what no longer fits is left out")
    parser.add_argument("--compiled", action="store_true", help="time torch.compile, too: some minutes more")
    parser.add_argument("--without-tests", action="store_true")
    return parser


def main() -> int:
    arguments = make_parser().parse_args()
    if not ON_GPU:
        torch.set_num_threads(1)
        print("No GPU here: the same steps on small images, by shallow encoders.")
        tiny_vit.DEPTHS = SHALLOW
    deadline = Deadline(arguments.seconds, 0.0 if arguments.without_tests else TESTS * arguments.seconds)
    found: dict[str, Any] = {"machine": describe_machine(DEVICE.type), "torch": str(torch.__version__)}
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("inference", lambda: inference(deadline, arguments.compiled)),
        ("training", lambda: training(deadline)),
        ("sharing", lambda: deadline.step("sharing", "sharing", sharing)),
    ]
    if not arguments.without_tests:
        parts.append(("tests", lambda: deadline.step("tests", "tests", lambda: run_tests(deadline), last=True)))
    for name, part in parts:
        found[name] = part()
        found |= {"seconds": round(deadline.spent(), 1), "left_out": deadline.left_out}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        print(f"{name}: {found['seconds']} s so far", flush=True)
    if deadline.left_out:
        print(f"Left out, for {arguments.seconds:.0f} s were too few: {'; '.join(deadline.left_out)}")
    print(f"Written: {arguments.out}")
    return int(found.get("tests", 0) != 0)


# --- inference -------------------------------------------------------------------------------------------------------


def inference(deadline: Deadline, compiled: bool) -> list[dict[str, Any]]:
    """Milliseconds per image of every form of the model, interleaved."""
    side = 1024 if ON_GPU else 64
    torch.manual_seed(0)
    model = DeLightSAM(image_size=side).to(DEVICE).eval()
    with torch.no_grad():
        for parameter in model.controllers.parameters():
            parameter.normal_(0, 0.05)
    rows = []
    on_gpu = ((torch.float32, 1), (torch.bfloat16, 1), (torch.float32, 8), (torch.bfloat16, 32))
    for dtype, batch in on_gpu if ON_GPU else ((torch.float32, 1), (torch.bfloat16, 2)):
        name = f"inference, {_words(dtype)}, batch {batch}"
        rows += deadline.step("inference", name, lambda d=dtype, b=batch: forms(model, side, d, b)) or []
        if compiled:
            step = lambda d=dtype, b=batch: forms(model, side, d, b, compiled=True)  # noqa: E731
            rows += deadline.step("compiled", f"{name}, compiled", step) or []
    return rows


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def forms(model: DeLightSAM, side: int, dtype: torch.dtype, batch: int, compiled: bool = False) -> list[dict[str, Any]]:
    """A row for each form in a number format, at a batch; `compiled`: of what torch.compile makes of it alone."""
    found: dict[str, Callable[[Tensor, int], Tensor]] = {
        "plain (authors' steps)": PlainDeLightSAM(model),
        "model": model,
    }
    if compiled:
        found["compiled"] = accelerate(model, image_size=side, batch_size=batch, dtype=dtype, compiled=True)
    else:
        fast = accelerate(model, image_size=side, batch_size=batch, dtype=dtype)
        found["accelerated, eager"] = lambda x, k: fast._run(x.to(fast.dtype), k, False)
        found["accelerated"] = fast
    images = torch.randn(batch, 3, side, side, device=DEVICE)
    times: dict[str, list[float]] = {name: [] for name in found}
    results: dict[str, Tensor] = {}
    warm = 3 if ON_GPU else 1
    for turn in range(warm + (12 if ON_GPU else 1)):
        for name, form in found.items():
            plain = name in ("plain (authors' steps)", "model")
            with torch.inference_mode(), torch.autocast(DEVICE.type, dtype, enabled=plain and dtype != torch.float32):
                seconds, results[name] = clock(lambda form=form: form(images, MODALITY))
            if turn >= warm:
                times[name].append(1000 * seconds / batch)
    reference, rows = results["model"].float(), []
    for name, values in times.items():
        if compiled and name != "compiled":
            continue
        row = {
            "dtype": _words(dtype),
            "batch": batch,
            "form": name,
            "ms_per_image": median(values),
            "times_plain": median(times["plain (authors' steps)"]) / median(values),
            "times_model": median(times["model"]) / median(values),
            "largest_difference": float((results[name].float() - reference).abs().max() / reference.abs().max()),
        }
        rows.append(row)
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in row.items()), flush=True)
    return rows


def clock(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    synchronise()
    started = time.perf_counter()
    result = run()
    synchronise()
    return time.perf_counter() - started, result


def synchronise() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


# --- training --------------------------------------------------------------------------------------------------------


def config(epochs: int, graphs: bool = False) -> TrainingConfig:
    if ON_GPU:
        return TrainingConfig(
            image_size=256,
            epochs=epochs,
            batch_size=16,
            amp="bfloat16",
            cpu_threads=4,
            compile="on" if graphs else "off",
        )
    return TrainingConfig(image_size=32, epochs=epochs, batch_size=4, amp="bfloat16")


def make_data(count: int) -> TrainingData:
    """Arrays of bright discs on noise, for six modalities of three domains; four fifths are for training."""
    random, side = np.random.default_rng(0), config(1).image_size
    samples = [
        Sample(MODALITIES[n % 6], f"d{n // 6 % 3}", f"i{n:04}", Path(), Path(), side, side, 0.5, f"{n}", f"{n}")
        for n in range(count)
    ]
    samples.sort(key=lambda sample: sample.key)
    y, x = np.mgrid[:side, :side]
    centres = random.uniform(side / 4, 3 * side / 4, (count, 2))
    masks = np.stack([(y - a) ** 2 + (x - b) ** 2 < (side / 5) ** 2 for a, b in centres]).astype(np.uint8)
    images = (masks[..., None] * 120 + random.integers(0, 100, (count, side, side, 3))).astype(np.uint8)
    cache = ArrayCache(images, masks, {sample.key: row for row, sample in enumerate(samples)}, Path())
    keys = [sample.key for sample in samples]
    return TrainingData(cache, {s.key: s for s in samples}, MODALITIES, keys[: count * 4 // 5], keys[count * 4 // 5 :])


def unet() -> nn.Module:
    return SmpNetwork(MODALITIES, "unet", "resnet18")


def delightsam(**settings: Any) -> nn.Module:
    return DeLightSAMMethod(MODALITIES, **settings)


METHODS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "unet": (unet, 12),
    "delightsam from scratch": (delightsam, 4),
    "decode on kept embeddings": (
        lambda: delightsam(stem="pixel", preprocessing="minmax", stages=[{"name": "decode", "views": 2}]), 10,
    ),
}  # fmt: skip


def training(deadline: Deadline) -> list[dict[str, Any]]:
    """Images a second of a bare loop, and through the harness, of the epochs after the first ones."""
    data = make_data(640 if ON_GPU else 6)
    rows: list[dict[str, Any]] = []
    bare = deadline.step("training", "training, bare loop", lambda: bare_loop(data, 8 if ON_GPU else 2))
    if bare is not None:
        rows.append({"method": "unet, bare loop", "median": bare})
        print(f"unet, bare loop: {bare:.0f} images a second", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for (name, (build, epochs)), graphs in product(METHODS.items(), (False, True) if ON_GPU else (False,)):
            title, place = name + ", CUDA graphs" * graphs, Path(folder, f"{name} {graphs}")
            step = lambda b=build, e=epochs, p=place, g=graphs: train(b, data, e if ON_GPU else 3, p, g)  # noqa: E731
            rates = deadline.step("training", f"training, {title}", step)
            if rates is not None:
                rows.append(training_row(title, rates, bare if name == "unet" else None))
    return rows


def training_row(title: str, rates: list[float], bare: float | None) -> dict[str, Any]:
    """`bare`: the rate of a loop with nothing around the same network; None where there is none."""
    row = {"method": title, "images_per_second": rates, "first_epoch": rates[0], "median": median(rates[2:])}
    words = f"{title}: {row['median']:.0f} images a second, the first epoch {rates[0]:.0f}"
    if bare is not None:
        row["times_bare_loop"] = row["median"] / bare
        words += f", {row['times_bare_loop']:.2f} times the bare loop"
    print(words, flush=True)
    return row


def train(
    build: Callable[[], nn.Module], data: TrainingData, epochs: int, folder: Path, graphs: bool = False
) -> list[float]:
    """Images a second of each epoch; validation is a part of it."""
    rates: list[float] = []
    torch.manual_seed(0)
    method = build().to(DEVICE)
    if hasattr(method, "use_cache"):
        method.use_cache(folder / "embeddings")

    def note(epoch: EpochResult) -> None:
        rates.append(len(data.train) / epoch.seconds)

    fit(method, data, config(epochs, graphs), seed=0, device=DEVICE, folder=folder, callbacks=[StatusReporter(note)])
    return rates


def bare_loop(data: TrainingData, epochs: int) -> float:
    """The same network, images and augmentation with nothing around them."""
    settings, rates = config(epochs), []
    loader = EpochLoader(
        Pixels(data.cache, data.train, DEVICE), data.train, MODALITIES, data.samples, settings.batch_size
    )
    model, augment = unet().to(DEVICE).train(), Augmentation()
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, fused=True)
    for epoch in range(epochs):
        synchronise()
        began = time.perf_counter()
        for batch in loader.epoch(epoch):
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16):
                loss, _ = model.training_loss(augment(batch), None)  # type: ignore[operator]
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        synchronise()
        rates.append(len(data.train) / (time.perf_counter() - began))
    return median(rates[1:])


# --- several trials on one card ----------------------------------------------------------------------------------------


def sharing() -> dict[str, float]:
    """Seconds of four trainings at once, each in a process of its own, against four one after another; without a GPU of two."""
    number = 4 if ON_GPU else 2
    alone = one_trial()
    together = max(_seconds(number))
    found = {"trials": number, "alone": alone, "together": together, "times_sooner": number * alone / together}
    print("  ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
    return found


def _seconds(number: int) -> list[float]:
    """Of so many trainings at once."""
    context = multiprocessing.get_context("spawn")  # CUDA does not outlive a fork
    times: Any = context.SimpleQueue()
    processes = [context.Process(target=_put_one_trial, args=(times,)) for _ in range(number)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(
                    f"A training that shares the card ended with {process.exitcode}; its reason is above."
                )
    finally:
        for process in processes:  # at the deadline, or where one of them failed
            if process.is_alive():
                process.kill()
                process.join()
    return [times.get() for _ in processes]


def one_trial() -> float:
    """Trains -> the seconds that the epochs took after the first."""
    data, epochs = make_data(640 if ON_GPU else 6), 30 if ON_GPU else 2
    with tempfile.TemporaryDirectory() as folder:
        rates = train(unet, data, epochs, Path(folder))
    return sum(len(data.train) / rate for rate in rates[1:])


def _put_one_trial(times: Any) -> None:
    if not ON_GPU:
        torch.set_num_threads(1)
    times.put(one_trial())


def run_tests(deadline: Deadline) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *map(str, gpu_test_files())]
    return run_within(command, deadline.left(last=True), ROOT)


def gpu_test_files() -> list[Path]:
    """The files alone that hold such tests: others import what such a machine may lack."""
    mark = "pytest.mark." + "gpu"  # in two, so that no file that only looks for it is one
    return [path for path in sorted(ROOT.glob("tests/**/test_*.py")) if mark in path.read_text("utf-8")]


if __name__ == "__main__":
    sys.exit(main())

"""De-LightSAM at 1024 x 1024 against a plain implementation of the authors' data flow: same process, same weights.

Contestants take turns, each is judged by the processor time of its fastest turn on one thread, so that a busy machine
slows all alike. `-s` prints the figures, where the time goes, and how far that is from the machine's matrix products.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from delightsam import DeLightSAM, accelerate
from delightsam.modeling import kernels
from harness.efficiency.measure import count_macs, peak_memory
from tests.performance.plain_delightsam import PlainDeLightSAM

pytestmark = pytest.mark.performance

SIZE = 1024
MODALITY = 2
CPU_FLAGS = set(Path("/proc/cpuinfo").read_text("ascii").split()) if Path("/proc/cpuinfo").is_file() else set()
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    """Speed does not depend on the weights: fresh ones, with controllers that have an effect."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DeLightSAM().eval()
    with torch.no_grad():
        for parameter in model.controllers.parameters():
            parameter.normal_(0, 0.05)
    return {
        "plain": PlainDeLightSAM(model),
        "accelerated float32": accelerate(model, image_size=SIZE),
        "accelerated bfloat16": accelerate(model, image_size=SIZE, dtype=BFLOAT16),
        "float32": copy.deepcopy(model).fuse(),
        "bfloat16": model.fuse(BFLOAT16),
    }


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


@pytest.mark.parametrize(("batch", "rounds"), [(1, 5), (4, 2)])
def test_faster_than_the_plain_implementation(models: dict[str, nn.Module], batch: int, rounds: int) -> None:
    images = torch.randn((batch, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    fastest, logits = dict.fromkeys(models, float("inf")), {}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, model in models.items():

                def run(name: str = name, model: nn.Module = model) -> None:
                    logits[name] = model(images, MODALITY)

                fastest[name] = min(fastest[name], seconds(run))
    times = {name: fastest["plain"] / value for name, value in fastest.items()}
    print(f"\nbatch {batch}: " + ", ".join(f"{n} {1000 * s:.0f} ms ({times[n]:.2f}x)" for n, s in fastest.items()))
    for form in ("float32", "accelerated float32"):
        assert (logits[form] - logits["plain"]).abs().max() <= 1e-4
    # The goal is 3x and 7x. Processors without AMX run the plain model nearer to what they can: on an AMD EPYC of Zen 4 ours
    # reach 1.8x and 3.1x. What is left to gain shows in the table of `test_where_the_time_goes`.
    amx = "amx_bf16" in CPU_FLAGS
    for form in ("", "accelerated "):
        assert times[f"{form}float32"] >= (2.0 if amx else 1.5), fastest
        if "avx512_bf16" in CPU_FLAGS:  # without such instructions bfloat16 is only emulated
            assert times[f"{form}bfloat16"] >= (4.0 if amx else 2.5), fastest


def test_no_more_memory_than_the_plain_implementation(models: dict[str, nn.Module]) -> None:
    image = torch.rand((1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    peak = {name: peak_memory(models[name], image, MODALITY) / 2**20 for name in ("plain", "float32")}
    print(f"\npeak memory: plain {peak['plain']:.0f} MiB, ours {peak['float32']:.0f} MiB")
    assert peak["float32"] <= peak["plain"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where_the_time_goes(models: dict[str, nn.Module], dtype: str) -> None:
    """Prints a table. Asserts only that all of the products run at a fair part of what the machine can do."""
    model = models[dtype]
    assert isinstance(model, DeLightSAM)
    image = torch.rand((1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(image, MODALITY)
        with clocked(model, time.process_time) as spent:
            total = seconds(lambda: model(image, MODALITY))
    with FlopCounterMode(display=False) as counter, clocked(model, counter.get_total_flops) as operations:
        macs = count_macs(model, image, MODALITY)
    limit = matrix_products_per_second(getattr(torch, dtype))
    share = 2 * macs / total / limit
    print(f"\n{dtype}: {1000 * total:.0f} ms, {macs / 1e9:.1f} GMACs at {2 * macs / total / 1e9:.0f} GFLOP/s, which is "
          f"{100 * share:.0f} % of a large matrix product's {limit / 1e9:.0f}")  # fmt: skip
    print("  part                        time  of all    GMACs  of the product's speed")
    for name, value in spent.items():
        own = operations[name] / value / limit
        print(
            f"  {name:<24}{1000 * value:5.0f} ms {100 * value / total:5.0f} % {operations[name] / 2e9:8.1f} {100 * own:9.0f} %"
        )
    inner = [name for name in operations if not name.startswith("of that")]
    assert sum(operations[name] for name in inner) == pytest.approx(2 * macs, rel=0.02), "a part is missing"
    assert share >= 0.2


def parts(model: DeLightSAM) -> dict[str, list[nn.Module]]:
    backbone = model.encoder.backbone
    stages = list(backbone.stages)
    attention = [block.attention for stage in stages[1:] for block in stage.blocks]  # type: ignore[union-attr]
    return {
        "stem": [backbone.stem],
        **{f"stage {i}": [stage] for i, stage in enumerate(stages)},
        "of that window attention": attention,
        "neck": [model.encoder.neck],
        "prompts": [model.prompts] if model.prompts is not None else [],
        "decoder": [model.decoder],
        "of that upscaling": [model.decoder.upscale],  # type: ignore[list-item]
    }


@contextmanager
def clocked(model: DeLightSAM, read: Callable[[], float]) -> Iterator[dict[str, float]]:
    """By how much what `read` gives grows in each of the model's parts, inside the block."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as hooks:
        for name, modules in parts(model).items():
            for module in modules:
                started: list[float] = []

                def before(*_: object, started: list[float] = started) -> None:
                    started.append(read())

                def after(*_: object, name: str = name, started: list[float] = started) -> None:
                    spent[name] += read() - started.pop()

                hooks.callback(module.register_forward_pre_hook(before).remove)
                hooks.callback(module.register_forward_hook(after).remove)
        yield spent


def matrix_products_per_second(dtype: torch.dtype) -> float:
    """Floating-point operations per second of the best linear layer found: as wide as the model's, many tokens."""
    best = 0.0
    with torch.inference_mode():
        for tokens, width, out in ((4096, 320, 1280), (4096, 1280, 320), (2048, 1024, 1024)):
            x, weight, bias = (torch.randn(s, dtype=dtype) for s in ((tokens, width), (out, width), (out,)))
            for layer in (kernels.linear, F.linear):

                def run(layer: Callable[..., Tensor] = layer, args: tuple[Tensor, ...] = (x, weight, bias)) -> None:
                    layer(*args)

                best = max(best, 2 * tokens * width * out / min(seconds(run) for _ in range(5)))
    return best

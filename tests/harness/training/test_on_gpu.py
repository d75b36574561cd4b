"""What only a GPU shows: same bits twice, going on after a stop, memory that is too small, no wait in a step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from baselines.networks.smp import SmpNetwork
from harness.training.callbacks import usual_callbacks
from harness.training.fit import fit
from harness.training.seeding import make_deterministic
from harness.training.steps import train_epoch
from tests.performance.gpu_check import config, delightsam, make_data, unet

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; `make gpu-check` runs these"),
]
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As a trial sets it."""
    make_deterministic(GPU)
    yield
    torch.use_deterministic_algorithms(False)


def trained(
    build: Callable[[], nn.Module], folder: Path, stop_after: int = 0, graphs: bool = False
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    method, epochs = build().to(GPU), []

    def stop() -> bool:
        epochs.append(1)
        return len(epochs) == stop_after

    callbacks = usual_callbacks(folder, should_stop=stop)
    fit(method, make_data(60), config(3, graphs), seed=0, device=GPU, folder=folder, callbacks=callbacks)
    return {name: tensor.cpu() for name, tensor in method.state_dict().items()}


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("build", [unet, delightsam])
def test_the_same_bits_twice_and_after_a_stop(build: Callable[[], nn.Module], graphs: bool, tmp_path: Path) -> None:
    from harness.errors import TrialInterrupted

    first, second = (trained(build, tmp_path / name, graphs=graphs) for name in "ab")
    with pytest.raises(TrialInterrupted):
        trained(build, tmp_path / "c", stop_after=2, graphs=graphs)
    third = trained(build, tmp_path / "c", graphs=graphs)
    for other in (second, third):
        assert [name for name in first if not torch.equal(first[name], other[name])] == []


def decoding() -> nn.Module:
    return delightsam(stem="pixel", stages=[{"name": "decode", "views": 2}])


@pytest.mark.parametrize("build", [unet, delightsam, decoding])
def test_a_recorded_step_gives_the_same_bits(
    build: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays: list[int] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replays.append(1)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    recorded = trained(build, tmp_path / "a", graphs=True)
    assert len(replays) >= 5  # of nine steps
    monkeypatch.setattr("harness.training.recording._BEFORE", 10**9)
    plain = trained(build, tmp_path / "b", graphs=True)
    assert [name for name in plain if not torch.equal(plain[name], recorded[name])] == []


def test_a_step_that_asks_the_device_goes_on_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss = SmpNetwork.training_loss

    def asking(self: Any, batch: Any, step: Any) -> Any:
        found = loss(self, batch, step)
        assert float(found[0]) > 0
        return found

    plain = trained(unet, tmp_path / "a")
    monkeypatch.setattr(SmpNetwork, "training_loss", asking)
    found = trained(unet, tmp_path / "b", graphs=True)
    assert "can't be recorded" in caplog.text
    assert [name for name in plain if not torch.equal(plain[name], found[name])] == []


@pytest.mark.parametrize("build", [unet, delightsam])
def test_no_step_waits(build: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch raises where a program would wait; the losses of an epoch are read after its last step."""
    epochs = []

    def strict(trainer: object, state: object) -> float:
        epochs.append(1)
        if len(epochs) == 1:  # makes its constants
            return train_epoch(trainer, state)  # type: ignore[arg-type]
        torch.cuda.set_sync_debug_mode("error")
        try:
            with monkeypatch.context() as patch:
                patch.setattr("harness.training.steps._mean_loss", lambda *arguments: _relaxed(*arguments))
                return train_epoch(trainer, state)  # type: ignore[arg-type]
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr("harness.training.fit.train_epoch", strict)
    trained(build, tmp_path)
    assert len(epochs) == 3


def _relaxed(losses: list[torch.Tensor], *others: object) -> float:
    torch.cuda.set_sync_debug_mode("default")
    return float(torch.stack(losses).mean())


def test_images_lie_on_the_card_or_are_copied_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the same bits."""
    resident = trained(unet, tmp_path / "resident")
    monkeypatch.setattr("harness.data.batches.pixels.free_memory", lambda device: 0)
    copied = trained(unet, tmp_path / "copied")
    assert all(torch.equal(tensor, copied[name]) for name, tensor in resident.items())


def test_a_batch_that_is_too_large_is_halved(tmp_path: Path) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    method, total = delightsam().to(GPU), torch.cuda.mem_get_info()[1]
    # Enough for the optimiser and a few images of 256 px, not for sixteen.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 1.5e9) / total)
    try:
        state = fit(method, make_data(60), config(1), seed=0, device=GPU, folder=tmp_path, callbacks=())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= state.micro_batch < config(1).batch_size

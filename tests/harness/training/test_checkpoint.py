"""A fit that was interrupted goes on and ends with the same bits."""

from __future__ import annotations

import copy
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_methods
from torch import nn
from toy_training import CONFIG, CPU, curves, make, make_data, run, same_bits

from harness.errors import UserError
from harness.files import atomic_write_bytes
from harness.training.callbacks import usual_callbacks
from harness.training.checkpoint import CheckpointFile, FitState
from harness.training.epoch_result import EpochResult
from harness.training.fit import fit


class Interrupted(Exception):
    pass


def stop_at(number: int) -> Callable[[EpochResult], None]:
    def on_epoch(epoch: EpochResult) -> None:
        if epoch.epoch == number:
            raise Interrupted

    return on_epoch


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"selection": "training_domain_validation", "patience": 3, "augmentation": "standard"},
        {"optimizer": "sgd", "schedule": "cosine", "accumulation": 1},
        {"optimizer": "adam", "schedule": "exponential", "amp": "float16"},
    ],
)
@pytest.mark.parametrize("kind", [toy_methods.TwoStages, toy_methods.MeanColour])
def test_an_interrupted_fit_ends_with_the_same_bits(
    kind: type[nn.Module], changes: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(CONFIG, **{"epochs": 5, "batch_size": 3, "accumulation": 2, **changes})
    whole = make(kind)
    expected = run(whole, config)
    for epoch in range(1, 6):  # five times killed, each time an epoch later; the epoch it is killed in is lost
        seed = 0 if epoch <= 2 else epoch  # from the third on all weights come from the checkpoint
        with pytest.raises(Interrupted):
            run(make(kind, seed=seed), config, folder=tmp_path, on_epoch=stop_at(epoch))
    resumed = make(kind, seed=99)
    events: list[int] = []
    state = run(resumed, config, folder=tmp_path, on_epoch=lambda epoch: events.append(epoch.epoch))
    assert events == [5]  # the first four are not trained again
    assert same_bits(whole, resumed)
    assert curves(state) == curves(expected)
    assert (state.best_epoch, state.images_seen, state.epoch) == (
        expected.best_epoch,
        expected.images_seen,
        expected.epoch,
    )


def test_an_interrupted_observe_after_training_trains_nothing_again(tmp_path: Path) -> None:
    class StopsOnce(toy_methods.MeanColour):
        stop = True

        def observe(self, batch: Any) -> None:
            super().observe(batch)
            if self.stop:
                raise Interrupted

    whole = make(toy_methods.MeanColour, when="after")
    run(whole)
    with pytest.raises(Interrupted):
        run(make(StopsOnce, when="after"), folder=tmp_path)
    events: list[int] = []
    resumed = make(toy_methods.MeanColour, seed=5, when="after")
    run(resumed, folder=tmp_path, on_epoch=lambda epoch: events.append(epoch.epoch))
    assert events == []
    assert same_bits(whole, resumed)


def test_a_micro_batch_that_had_to_shrink_stays_small_after_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(make(toy_methods.NeedsMemory, largest=2), folder=tmp_path, on_epoch=stop_at(2))
    assert run(make(toy_methods.TinyConv, norm=False), folder=tmp_path).micro_batch == 2


def test_a_damaged_checkpoint_is_reported_and_training_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "training.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    whole, method = make(toy_methods.TinyConv), make(toy_methods.TinyConv)
    run(whole)
    events: list[int] = []
    run(method, folder=tmp_path, on_epoch=lambda epoch: events.append(epoch.epoch))
    assert events == [1, 2, 3, 4]
    assert same_bits(whole, method)
    assert "training starts anew" in caplog.text


def test_a_checkpoint_that_could_not_be_read_this_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        run(make(toy_methods.TinyConv), folder=tmp_path, on_epoch=stop_at(3))

    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        run(make(toy_methods.TinyConv), folder=tmp_path)
    assert (tmp_path / "training.pt").exists()


def test_checkpoints_are_rarer_than_short_epochs_and_the_last_epoch_needs_none(tmp_path: Path) -> None:
    fit(
        make(toy_methods.TinyConv), make_data(), CONFIG, seed=0, device=CPU, folder=tmp_path,
        callbacks=usual_callbacks(tmp_path, checkpoint_seconds=1e6),
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    run(make(toy_methods.TinyConv), replace(CONFIG, epochs=1), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_when_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def onto_full_device(dir: Path, prefix: str, suffix: str) -> tuple[int, str]:
        temporary = Path(dir) / f"{prefix}x{suffix}"
        temporary.symlink_to("/dev/full")
        return os.open(os.devnull, os.O_RDONLY), str(temporary)

    monkeypatch.setattr(tempfile, "mkstemp", onto_full_device)
    with pytest.raises(UserError, match=r"training\.pt: the disk is full"):
        run(make(toy_methods.TinyConv), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_the_best_so_far_are_written_once(tmp_path: Path) -> None:
    """And read back whole, though they shared the file's bytes with those that training goes on from."""
    method, other = nn.Linear(200, 200), nn.Linear(200, 200)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    sizes = []
    for best in (copy.deepcopy(method.state_dict()), copy.deepcopy(other.state_dict())):
        file = CheckpointFile.in_folder(tmp_path)
        file.save(FitState(best_weights=best), method, optimizer, schedule, torch.amp.GradScaler(enabled=False))
        sizes.append(file.path.stat().st_size)
        loaded, _ = file.load(nn.Linear(200, 200)) or (None, None)
        assert loaded is not None and loaded.best_weights is not None
        assert all(torch.equal(loaded.best_weights[name], value) for name, value in best.items())
    assert sizes[0] < 0.6 * sizes[1]


def saved(file: CheckpointFile, method: nn.Module) -> None:
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    file.save(FitState(), method, optimizer, schedule, torch.amp.GradScaler(enabled=False))


def test_training_goes_on_while_a_snapshot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()

    def slow_disk(path: Path, content: bytes) -> None:
        assert may_write.wait(60)
        atomic_write_bytes(path, content)

    monkeypatch.setattr("harness.training.checkpoint.atomic_write_bytes", slow_disk)
    method, file = nn.Linear(2, 2), CheckpointFile.in_folder(tmp_path, every_seconds=20)
    before = method.weight.detach().clone()
    saved(file, method)
    assert not file.path.exists()
    with torch.no_grad():
        method.weight += 1  # as the next step does
    may_write.set()
    file.finish()
    loaded = nn.Linear(2, 2)
    assert file.load(loaded) is not None
    assert torch.equal(loaded.weight, before)


def test_a_snapshot_that_could_not_be_written_is_reported_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr("harness.training.checkpoint.atomic_write_bytes", full)
    method, file = nn.Linear(2, 2), CheckpointFile.in_folder(tmp_path, every_seconds=20)
    saved(file, method)
    with pytest.raises(UserError, match="full"):
        saved(file, method)
    saved(file, method)
    with pytest.raises(UserError, match="full"):
        file.finish()

"""What the cache gives is what was computed, whatever happens to its files."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.device import StandInDevice
from torch import Tensor, nn

from delightsam.training.embedding_cache import EmbeddingCache, WeightsDigest, embedding_setting

KEYS = ["weights first", "weights second", "others first"]
CPU = torch.device("cpu")
VALUES = [
    torch.full((4, 2, 2), 0.1),
    torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0)),
    torch.zeros(4, 2, 2),
]


def never(positions: list[int]) -> Tensor:
    raise AssertionError(f"computed {positions} again")


def compute(positions: list[int]) -> Tensor:
    return torch.stack([VALUES[position] for position in positions])


def names(keys: list[str]) -> list[str]:
    return sorted(hashlib.sha256(key.encode()).hexdigest() for key in keys)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_hit_equals_a_miss_bit_for_bit(tmp_path: Path) -> None:
    computed = EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU)
    kept = EmbeddingCache(tmp_path).get_or_compute(KEYS, never, CPU)
    assert torch.equal(computed, kept)
    assert computed.dtype == kept.dtype == torch.float32
    assert torch.equal(computed, torch.stack(VALUES).half().float())
    assert [path.name for path in files(tmp_path)] == names(KEYS)


def test_only_what_is_missing_is_computed_and_each_once(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.get_or_compute(KEYS[:1], compute, CPU)
    asked: list[int] = []

    def only(positions: list[int]) -> Tensor:
        asked.extend(positions)
        return VALUES[1][None].expand(len(positions), -1, -1, -1)

    answer = cache.get_or_compute([KEYS[0], KEYS[2], KEYS[2]], only, CPU)
    assert asked == [1]
    assert torch.equal(answer[1], answer[2]) and torch.equal(answer[0], VALUES[0].half().float())


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=st.floats(-60000, 60000, width=32),
    )
)
def test_any_finite_value_comes_back_as_float16_holds_it(
    tmp_path_factory: pytest.TempPathFactory, value: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    expected = torch.from_numpy(value).half().float()[None]
    for found in (lambda positions: torch.from_numpy(value)[None], never):
        answer = EmbeddingCache(folder).get_or_compute(["00"], found, CPU)
        assert answer.shape == expected.shape and torch.equal(answer, expected)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncate, flip, empty, folder_in_its_place])
def test_a_damaged_file_is_reported_and_computed_again(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU)
    damage(files(tmp_path)[1])
    assert torch.equal(EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU), expected)
    assert "computed again" in caplog.text and names(KEYS)[1] in caplog.text
    if damage is not folder_in_its_place:
        assert torch.equal(EmbeddingCache(tmp_path).get_or_compute(KEYS, never, CPU), expected)


def test_many_writers_leave_whole_files_and_nothing_else(tmp_path: Path) -> None:
    keys = [f"image {number}" for number in range(6)]
    values = [torch.full((64, 8, 8), float(number)) for number in range(6)]
    answers: list[Tensor] = []

    def work() -> None:
        answers.append(
            EmbeddingCache(tmp_path).get_or_compute(
                keys, lambda positions: torch.stack([values[i] for i in positions]), CPU
            )
        )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all(torch.equal(answer, torch.stack(values)) for answer in answers)
    assert [path.name for path in files(tmp_path)] == names(keys)


def test_what_one_computes_the_other_waits_for(tmp_path: Path) -> None:
    """Two trainings that meet the same images at the same time; each also has one of its own."""
    both, computed, answers = threading.Barrier(2), list[str](), dict[str, Tensor]()

    def work(keys: list[str]) -> None:
        def slow(positions: list[int]) -> Tensor:
            computed.extend(keys[position] for position in positions)
            time.sleep(0.05)
            return torch.tensor([[float(len(keys[position]))] for position in positions])

        both.wait()
        answers[keys[0]] = EmbeddingCache(tmp_path).get_or_compute(keys, slow, CPU)

    shared = [f"image {number}" for number in range(8)]
    trainings = [threading.Thread(target=work, args=([own, *shared],)) for own in ("first's", "second's own")]
    for training in trainings:
        training.start()
    for training in trainings:
        training.join()
    assert sorted(computed) == sorted([*shared, "first's", "second's own"])
    assert answers["first's"].flatten().tolist() == [7, *[7] * 8]
    assert answers["second's own"].flatten().tolist() == [12, *[7] * 8]


def test_a_process_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("delightsam.training.embedding_cache._PATIENCE", 0.1)
    path = EmbeddingCache(tmp_path)._path(KEYS[1]).with_suffix(".lock")
    path.parent.mkdir(parents=True)
    with FileLock(path):
        answer = EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU)
    assert torch.equal(answer, torch.stack(VALUES).half().float())


def test_one_that_fails_leaves_its_part_to_the_others(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="again"):
        EmbeddingCache(tmp_path).get_or_compute(KEYS, never, CPU)
    assert files(tmp_path) == []
    assert torch.equal(EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU), torch.stack(VALUES).half().float())


def test_a_full_disk_is_reported_once_and_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache = EmbeddingCache(tmp_path)
    for _ in range(2):
        answer = cache.get_or_compute(KEYS, compute, CPU)
        assert torch.equal(answer, torch.stack(VALUES).half().float())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "No space left on device" in warnings[0].getMessage()
    assert files(tmp_path) == []


@pytest.mark.parametrize("value", [1e5, float("inf"), float("nan")])
def test_what_float16_can_t_hold_is_an_error(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 65504"):
        EmbeddingCache(tmp_path).get_or_compute(KEYS[:1], lambda positions: torch.full((1, 2), value), CPU)
    assert files(tmp_path) == []


def test_values_asked_for_again_come_from_memory(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    expected = cache.get_or_compute(KEYS, compute, CPU)
    for file in files(tmp_path):
        file.unlink()
    assert torch.equal(cache.get_or_compute(KEYS[::-1], never, CPU), expected.flip(0))


def test_mixed_precision_changes_nothing(tmp_path: Path) -> None:
    expected = EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU), expected)


def test_memory_is_bounded(tmp_path: Path) -> None:
    room = VALUES[0].numel() * 2 * 2  # two of them, as float16
    cache = EmbeddingCache(tmp_path, memory=room)
    cache.get_or_compute(KEYS, compute, CPU)
    for file in files(tmp_path):
        file.unlink()
    asked: list[int] = []

    def counted(positions: list[int]) -> Tensor:
        asked.extend(positions)
        return compute(positions)

    cache.get_or_compute(KEYS, counted, CPU)
    assert asked == [2]


def test_the_setting_names_all_that_a_value_depends_on() -> None:
    images = torch.rand((2, 3, 32, 32))
    settings = [embedding_setting("weights", images, "sam"), embedding_setting("others", images, "sam")]
    settings.append(embedding_setting("weights", images, "minmax"))
    settings.append(embedding_setting("weights", images.view(2, 3, 16, 64), "sam"))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            settings.append(embedding_setting("weights", images, "sam"))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    settings.append(embedding_setting("weights", images, "sam"))
    torch.set_num_threads(threads)
    assert len(set(settings)) == len(settings)
    assert embedding_setting("weights", images[:1], "sam") == settings[0]


def test_what_lies_on_the_disk_reaches_the_device_without_a_wait(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path).get_or_compute(KEYS, compute, CPU)
    cache = EmbeddingCache(tmp_path)
    with StandInDevice() as device:
        cache.get_or_compute(KEYS, never, CPU)
        cache.get_or_compute(KEYS, never, CPU)
    assert not device.waits and device.copies == [(4, 2, 2)] * 3


def test_the_digest_follows_the_weights() -> None:
    module, digest = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), WeightsDigest()
    first = digest(module)
    assert digest(module) == first == WeightsDigest()(module)
    with torch.no_grad():
        module[0].weight[0, 0] += 1
    second = digest(module)
    module[1].running_mean.add_(1)
    third = digest(module)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["0.bias"] += 1
    module.load_state_dict(state)
    fourth = digest(module)
    module[0].weight = nn.Parameter(module[0].weight.detach() * 2)
    assert len({first, second, third, fourth, digest(module)}) == 5
    assert digest(module) == WeightsDigest()(module)


def test_the_order_in_memory_is_the_same_for_a_hit_and_a_miss(tmp_path: Path) -> None:
    values = torch.randn(2, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    computed = EmbeddingCache(tmp_path).get_or_compute(KEYS[:2], lambda positions: values[positions], CPU)
    assert computed.stride() == EmbeddingCache(tmp_path).get_or_compute(KEYS[:2], never, CPU).stride()

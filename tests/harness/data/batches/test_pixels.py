"""Pixels come from the arrays as they are, wherever they lie; what Python knows of a batch is never out of date."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from invented_samples import MODALITIES, invented, make_loader

from harness.data.batches import pixels
from harness.data.batches.loader import Batch, Known, evaluation_batches
from harness.data.batches.pixels import Pixels
from harness.errors import UserError


def test_rows_of_the_arrays() -> None:
    cache, samples = invented({"xray": 7})
    keys = sorted(samples)[::-1][1:4]
    found = Pixels(cache, samples)
    places = found.places(keys)
    images, masks = found.take(places, torch.tensor(places))
    assert images.dtype == masks.dtype == torch.uint8 and not found.is_resident
    assert images[:, 0, 0, 0].tolist() == [cache.index[key] for key in keys]
    assert masks[:, 0, 0].tolist() == [cache.index[key] % 2 for key in keys]


@pytest.mark.parametrize(("free", "resident"), [(0, True), (-1, False)])
def test_images_lie_on_a_gpu_where_they_take_a_quarter_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int, resident: bool
) -> None:
    """The GPU is a stand-in in main memory: what is bookkept is the same."""
    cache, samples = invented({"xray": 7})
    used = sorted(samples)[1:6:2]
    size = len(used) * (cache.images[0].nbytes + cache.masks[0].nbytes)
    copy = pixels._copied
    monkeypatch.setattr(pixels, "_copied", lambda arrays, rows, device: copy(arrays, rows, torch.device("cpu")))
    monkeypatch.setattr(pixels, "sent", lambda tensor, device: tensor)
    monkeypatch.setattr(pixels, "free_memory", lambda device: 4 * size + free)
    on_gpu, on_cpu = Pixels(cache, used, "cuda"), Pixels(cache, used)
    assert on_gpu.is_resident == resident and not on_cpu.is_resident
    asked = [used[2], used[0], used[2]]
    places = on_gpu.places(asked)
    # Only the images that will be asked for lie there.
    assert places == ([2, 0, 2] if resident else cache.rows(asked))
    rows = on_cpu.places(asked)
    for found, expected in zip(
        on_gpu.take(places, torch.tensor(places)), on_cpu.take(rows, torch.tensor(rows)), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_gpu_is_filled_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, _ = invented({"xray": 7})
    monkeypatch.setattr(pixels, "_AT_ONCE", 3)
    rows = [6, 0, 5, 1, 4, 3, 2]
    assert pixels._copied(cache.images, rows, torch.device("cpu"))[:, 0, 0, 0].tolist() == rows


def test_an_image_that_was_not_announced_is_refused() -> None:
    cache, samples = invented({"xray": 3})
    with pytest.raises(UserError, match="found 'xray/nowhere/x'"):
        Pixels(cache, samples).places(["xray/nowhere/x"])


def test_batches_of_an_epoch_lie_by_modality() -> None:
    loader, samples = make_loader({"xray": 9, "dermoscopy": 8, "ultrasound": 7}, 6)
    for batch in loader.epoch(3):
        assert batch.modality.tolist() == sorted(batch.modality.tolist()) == batch.modality_list
        assert [MODALITIES[n] for n in batch.modality_list] == [samples[key].modality for key in batch.keys]


class TestKnown:
    def batch(self) -> Batch:
        cache, samples = invented({"xray": 4, "dermoscopy": 3})
        return next(evaluation_batches(Pixels(cache, samples), sorted(samples), MODALITIES, samples, 8))

    def test_lists_say_what_the_tensors_hold(self) -> None:
        batch = self.batch()
        assert batch.modality_list == batch.modality.tolist() == [0] * 3 + [2] * 4
        assert batch.image_names is not None and len(batch.image_names) == 7
        for part in (*batch.chunks(3), batch.to("cpu")):
            assert part.modality_list == part.modality.tolist()
            assert part.image_names is not None and len(part.image_names) == len(part)

    def test_changed_images_have_no_name(self) -> None:
        """Else an algorithm's images would be given the embedding of the originals."""
        batch = self.batch()
        changed = dataclasses.replace(batch, images=batch.images * 0.5)
        assert changed.image_names is None and changed.modality_list == batch.modality_list
        assert all(part.image_names is None for part in changed.chunks(2))

    def test_other_modalities_are_read_again(self) -> None:
        batch = self.batch()
        assert dataclasses.replace(batch, modality=batch.modality.flip(0)).modality_list == [2] * 4 + [0] * 3

    def test_without_a_note_the_tensor_is_read(self) -> None:
        batch = dataclasses.replace(self.batch(), known_modality=None, known_images=None)
        assert batch.modality_list == batch.modality.tolist() and batch.image_names is None
        assert Known(batch.images, []).of(batch.masks) is None


def test_the_next_part_is_read_while_one_is_in_use() -> None:
    """One ahead, not more: memory stays bounded. The last is followed by none."""
    cache, samples = invented({"xray": 7})
    found, read = Pixels(cache, samples), list[list[int]]()
    begun, plain = threading.Semaphore(0), found._read

    def noted(places: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        read.append(list(places))
        begun.release()
        return plain(places)

    found._read = noted  # type: ignore[method-assign]
    parts = [[3, 1], [0], [6, 6, 2], [5]]
    for number, (images, masks) in enumerate(found.read_ahead(parts), start=1):
        while len(read) < min(number + 1, len(parts)):
            assert begun.acquire(timeout=60)
        assert read == parts[: number + 1]
        assert images[:, 0, 0, 0].tolist() == parts[number - 1]
        assert masks[:, 0, 0].tolist() == [row % 2 for row in parts[number - 1]]
    assert read == parts and not list(found.read_ahead([]))


def test_a_use_that_ends_early_leaves_no_thread() -> None:
    cache, samples = invented({"xray": 7})
    before = threading.active_count()
    for _ in Pixels(cache, samples).read_ahead([[0], [1], [2]]):
        break
    assert threading.active_count() == before


def test_an_image_that_cannot_be_read_is_an_error_where_it_is_used() -> None:
    cache, samples = invented({"xray": 7})
    parts = Pixels(cache, samples).read_ahead([[0], [99]])
    next(parts)
    with pytest.raises(IndexError):
        next(parts)


def test_batches_reach_a_gpu_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams are stand-ins: each step waits for the copies of its own batch, whose memory is kept for it."""
    events: list[object] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            events.append(f"{self.name} waits")

    @contextmanager
    def on_stream(stream: Stream) -> Iterator[None]:
        events.append("copies")
        yield

    computing = Stream("computing")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: events.append(stream.name), raising=True)
    monkeypatch.setattr(pixels, "sent", lambda tensor, device: tensor)
    monkeypatch.setattr(pixels, "free_memory", lambda device: 0)
    cache, samples = invented({"xray": 7})
    rows = [[3, 1], [0]]
    parts = [(places, torch.tensor(places)) for places in rows]
    for taken, expected in zip(Pixels(cache, samples, "cuda").take_all(parts), rows, strict=True):
        assert events == ["copies", "computing waits", "computing", "computing"]
        assert taken[0][:, 0, 0, 0].tolist() == expected
        events.clear()

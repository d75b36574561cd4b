"""Batches, cut from arrays of pixels. No worker processes: copying a batch costs far less than training on it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.domain_balance import PER_DOMAIN, balanced_batches, balanced_count
from harness.data.batches.geometry import STRETCH, TILES
from harness.data.batches.order import check_shares, cut, dealt, fill, shuffled
from harness.data.batches.pixels import Pixels, Source, sent
from harness.data.folder.sample import Sample
from harness.errors import UserError, did_you_mean

SAMPLINGS = ("proportional", "equal")
BATCHINGS = ("mixed", "single_modality", "modality_balanced", "domain_balanced")
ONE_LIST = ("mixed", "modality_balanced")
"""Batchings that cut one list of all images into batches."""


@dataclasses.dataclass(frozen=True)
class Known:
    """What Python knows of the rows of a tensor, which on a GPU it would have to wait for."""

    tensor: Tensor
    values: list[Any]

    def of(self, tensor: Tensor) -> list[Any] | None:
        """The values, if the tensor is still the one that they were noted of."""
        return self.values if tensor is self.tensor else None


@dataclasses.dataclass
class Batch:
    """Images with their masks, all on one device.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1], RGB. A method applies its own normalisation.
        masks: (B, 1, S, S) float32, 0 or 1.
        modality: (B,) int64, index into the list of modalities that the method was built with.
        domain: (B,) int64, position in the sorted list of "modality/domain" of the keys that the batches are made of
            (of the training set when training).
        keys: the B samples' keys; with tiles one comes again for each of its windows.
        known_modality, known_domain: `modality` and `domain` as lists.
        known_images: a name for the pixels of each image, where the same pixels come again.
        prepared: (B, ...), what the method made of the images beforehand (`prepare` in harness.methods.contract).
    """

    images: Tensor
    masks: Tensor
    modality: Tensor
    domain: Tensor
    keys: list[str]
    known_modality: Known | None = None
    known_images: Known | None = None
    prepared: Tensor | None = None
    known_domain: Known | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def modality_list(self) -> list[int]:
        """`modality` for Python. Of a batch of the loader nothing waits for the device."""
        found = None if self.known_modality is None else self.known_modality.of(self.modality)
        return self.modality.tolist() if found is None else found

    @property
    def domain_list(self) -> list[int]:
        """`domain` for Python, as `modality_list`."""
        found = None if self.known_domain is None else self.known_domain.of(self.domain)
        return self.domain.tolist() if found is None else found

    @property
    def image_names(self) -> list[str] | None:
        """For each image a name that no other pixels have; None where they are new each time, or were changed since."""
        return None if self.known_images is None else self.known_images.of(self.images)

    def to(self, device: torch.device | str) -> Batch:
        images, modality, domain = self.images.to(device), self.modality.to(device), self.domain.to(device)
        known_images = None if self.image_names is None else Known(images, self.image_names)
        known, known_domain = Known(modality, self.modality_list), Known(domain, self.domain_list)
        masks = self.masks.to(device)
        return Batch(images, masks, modality, domain, self.keys, known, known_images, known_domain=known_domain)

    def chunks(self, size: int) -> list[Batch]:
        """Micro-batches of at most `size` images, as equal as can be, in order; views, no copies."""
        if len(self) <= size:
            return [self]
        parts = _equal_parts(len(self), size)
        starts = np.cumsum([0, *parts[:-1]])
        rows = [range(int(start), int(start) + count) for start, count in zip(starts, parts, strict=True)]
        return [self.part(own, slice(own.start, own.stop)) for own in rows]

    def part(self, positions: Sequence[int], on_device: Tensor | slice) -> Batch:
        """The images at these positions, in this order.

        Args:
            on_device: the same `positions`, (N,) int64 on the batch's device, or as a slice: then views, no copies.
        """
        images, modality, domain = self.images[on_device], self.modality[on_device], self.domain[on_device]
        names, prepared = self.image_names, None if self.prepared is None else self.prepared[on_device]

        def known(tensor: Tensor, values: list[Any]) -> Known:
            return Known(tensor, [values[position] for position in positions])

        return Batch(
            images=images,
            masks=self.masks[on_device],
            modality=modality,
            domain=domain,
            keys=[self.keys[position] for position in positions],
            known_modality=known(modality, self.modality_list),
            known_images=None if names is None else known(images, names),
            prepared=prepared,
            known_domain=known(domain, self.domain_list),
        )


class EpochLoader:
    """The training batches of an epoch: a function of (seed, epoch), so a resumed run meets the same batches.

    An epoch has as many images as there are keys. With `proportional` sampling it is each of them once. With `equal`
    every modality has the same number of places (give or take one), filled with passes over its images in random
    order: none is repeated before all of its modality were taken.

    Batches are as equal in size as can be rather than full with a remainder, so that no image weighs more because it
    fell into a small last batch. None has a single image, which BatchNorm can't work with (unless `batch_size` is 1):
    where one would be left alone, another image of its list is borrowed and seen twice.

    With tiles an image stands for one of its windows, drawn from all of them with equal chances by (seed, epoch, key), and
    anew where it comes twice in an epoch. So an epoch has as many arrays, batches and steps as with any other geometry, and
    shows fewer pixels of each image, but those at native resolution. Windows without foreground are drawn as others are.
    """

    def __init__(
        self,
        pixels: Pixels,
        keys: Sequence[str],
        modalities: Sequence[str],
        samples_by_key: Mapping[str, Sample],
        batch_size: int,
        sampling: str = "proportional",
        batching: str = "mixed",
        seed: int = 0,
    ) -> None:
        """
        Args:
            keys: the training samples.
            modalities: the list that the method was built with.
            batch_size: the largest number of images in a batch.
            sampling: `proportional` or `equal`.
            batching: `mixed`; `single_modality`: each batch from one modality, their order random; `modality_balanced`: each batch
                has as many images of each modality, give or take one; or `domain_balanced`:
                a batch is made of chunks of one modality with as many images of each of its domains (harness/data/batches/domain_balance.py).
            seed: at least 0.

        Raises:
            UserError: no keys, a key twice or unknown, a modality that is not in the list, an unknown option, a batch too
                small for two domains, `modality_balanced` without `equal` sampling.
        """
        _check_option("sampling", sampling, SAMPLINGS)
        _check_option("batching", batching, BATCHINGS)
        if not keys or len(set(keys)) != len(keys):
            raise UserError(
                f"Expected training samples, each once; found {len(keys)} keys, {len(set(keys))} different."
            )
        if batch_size < 1 or seed < 0:
            raise UserError(f"Expected batch_size >= 1 and seed >= 0, found batch_size={batch_size}, seed={seed}.")
        if batching == "domain_balanced" and batch_size < 2 * PER_DOMAIN:
            raise UserError(
                f"training.batching=domain_balanced compares domains within a batch: expected training.batch_size of"
                f" {2 * PER_DOMAIN} or more, found {batch_size}."
            )
        check_shares(batching, sampling)
        self.batch_size, self.sampling, self.batching, self.seed = batch_size, sampling, batching, seed
        self.keys = sorted(keys)
        self.pixels = pixels
        self._assembly = _Assembly(pixels, self.keys, modalities, samples_by_key)
        self._by_modality = _group(self.keys, lambda key: samples_by_key[key].modality)
        self._domains = {
            name: _group(keys, lambda key: samples_by_key[key].domain) for name, keys in self._by_modality.items()
        }

    def __len__(self) -> int:
        """Batches in an epoch, the same in every epoch."""
        places = self._places()
        if self.batching == "domain_balanced":
            return balanced_count(self._domains, places, self.batch_size)
        groups = [sum(places.values())] if self.batching in ONE_LIST else list(places.values())
        return sum(len(_equal_parts(count, self.batch_size)) for count in groups)

    def epoch(self, epoch: int, source: Source | None = None, version: int | None = None) -> Iterator[Batch]:
        """The batches of epoch number `epoch` (from 0).

        Args:
            source: of other pixels of the same images.
            version: each image's window is that of its version of this number; None: drawn for the epoch.
        """
        # By modality: a method with parts for each takes its images out of the batch as they lie.
        batches = [self._assembly.sorted_by_modality(keys) for keys in self.epoch_keys(epoch)]
        turns: Counter[str] = Counter()
        drawn: list[list[str]] = [[] for _ in batches]
        for keys, windows in zip(batches, drawn, strict=True):
            for key in keys:
                windows.append(self._window(key, (self.seed, epoch, turns[key]) if version is None else (version,)))
                turns[key] += 1
        yield from self._assembly(drawn, source)

    def windows_of_version(self, version: int) -> list[str]:
        """The array of each image, in the order of `keys`, that its version of this number is made of: a function of key
        and number alone."""
        return [self._window(key, (version,)) for key in self.keys]

    def in_order(self, version: int) -> Iterator[Batch]:
        """Each image's array of `windows_of_version` once, as it is."""
        yield from self._assembly(_in_batches(self.windows_of_version(version), self.batch_size))

    def _window(self, key: str, numbers: tuple[int, ...]) -> str:
        """One of the image's arrays, by a hash of the key and of these numbers."""
        windows = self.pixels.cache.windows(key)
        if len(windows) == 1:
            return windows[0]
        digest = hashlib.sha256("\n".join([*map(str, numbers), key]).encode()).digest()
        return windows[int.from_bytes(digest[:8], "little") % len(windows)]

    def epoch_keys(self, epoch: int) -> list[list[str]]:
        """The keys of each batch of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
        places = self._places()
        if self.batching == "domain_balanced":
            return balanced_batches(self._domains, places, self.batch_size, random)
        filled = {name: fill(self._by_modality[name], count, random) for name, count in places.items()}
        lists, in_turns = list(filled.values()), self.batching == "modality_balanced"
        if self.batching == "mixed":
            lists = [shuffled([key for keys in lists for key in keys], random)]
        if in_turns:
            lists = [dealt(filled)]
        batches: list[list[str]] = []
        for keys in filter(None, lists):
            sizes = _equal_parts(len(keys), self.batch_size)
            batches += cut(keys, sizes, min(2, self.batch_size), random, in_turns=in_turns)
        return [batches[position] for position in random.permutation(len(batches))]

    def _places(self) -> dict[str, int]:
        """Images per modality and epoch."""
        if self.sampling == "proportional":
            return {name: len(keys) for name, keys in self._by_modality.items()}
        each, rest = divmod(len(self.keys), len(self._by_modality))
        return {name: each + (number < rest) for number, name in enumerate(self._by_modality)}


def evaluation_batches(
    pixels: Pixels,
    keys: Sequence[str],
    modalities: Sequence[str],
    samples_by_key: Mapping[str, Sample],
    batch_size: int,
    source: Source | None = None,
    covering: bool = False,
) -> Iterator[Batch]:
    """The samples `keys` in their order, each once, `batch_size` at a time (the last batch may be smaller).

    With tiles the windows of an image follow each other, and a batch has `batch_size` windows.

    Args:
        source: of other pixels of the same images.
        covering: of the windows only so many as cover the image: see `Layout.covering`.
    """
    if batch_size < 1:
        raise UserError(f"Expected batch_size >= 1, found {batch_size}.")
    assembly = _Assembly(pixels, keys, modalities, samples_by_key)
    arrays: list[str] = []
    for key in keys:
        windows = pixels.cache.windows(key)
        few = covering and len(windows) > 1
        arrays += [windows[number] for number in pixels.cache.layouts[key].covering] if few else windows
    yield from assembly(_in_batches(arrays, batch_size), source)


class _Assembly:
    """Makes batches of keys."""

    def __init__(
        self,
        pixels: Pixels,
        keys: Sequence[str],
        modalities: Sequence[str],
        samples_by_key: Mapping[str, Sample],
    ) -> None:
        cache = pixels.cache
        self.sample = {window: key for key in keys for window in cache.windows(key)}
        pixels.places(list(self.sample))  # unknown keys are rejected here, not in the middle of an epoch
        domains = sorted({samples_by_key[key].domain_key for key in keys})
        modality_number = {name: number for number, name in enumerate(modalities)}
        domain_number = {name: number for number, name in enumerate(domains)}
        unknown = {samples_by_key[key].modality for key in keys} - modality_number.keys()
        if unknown:
            name = min(unknown)
            raise UserError(
                f"The method was built for the modalities {', '.join(modalities)}; found images of '{name}'."
                f"{did_you_mean(name, modalities)}"
            )
        self.pixels = pixels
        self.name = _pixel_names(cache, keys, samples_by_key)
        self.modality = {key: modality_number[samples_by_key[key].modality] for key in keys}
        self.domain = {key: domain_number[samples_by_key[key].domain_key] for key in keys}

    def __call__(self, batches: Sequence[list[str]], source: Source | None = None) -> Iterator[Batch]:
        """A batch for each list of keys of arrays. The numbers of all of them reach the device in one copy."""
        source = source or self.pixels
        windows = [window for batch in batches for window in batch]
        keys = [self.sample[window] for window in windows]
        columns = [source.places(windows), [self.modality[key] for key in keys], [self.domain[key] for key in keys]]
        numbers = sent(torch.tensor(columns, dtype=torch.int64), self.pixels.device)
        ends = list(accumulate(map(len, batches), initial=0))
        own = [numbers[:, start:end].unbind(0) for start, end in pairwise(ends)]
        parts = [(columns[0][start:end], each[0]) for (start, end), each in zip(pairwise(ends), own, strict=True)]
        taken = source.take_all(parts) if isinstance(source, Pixels) else (source.take(*part) for part in parts)
        for batch, (images, masks), (_, modality, domain) in zip(batches, taken, own, strict=True):
            yield self._batch(batch, images, masks, modality, domain, source.suffix)

    def _batch(
        self, windows: list[str], images: Tensor, masks: Tensor, modality: Tensor, domain: Tensor, suffix: str
    ) -> Batch:
        keys = [self.sample[window] for window in windows]
        images = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        return Batch(
            images=images,
            masks=masks.unsqueeze(1).to(torch.float32),
            modality=modality,
            domain=domain,
            keys=keys,
            known_modality=Known(modality, [self.modality[key] for key in keys]),
            known_images=Known(images, [self.name[window] + suffix for window in windows]),
            known_domain=Known(domain, [self.domain[key] for key in keys]),
        )

    def sorted_by_modality(self, keys: list[str]) -> list[str]:
        return sorted(keys, key=self.modality.__getitem__)


def _pixel_names(cache: ArrayCache, keys: Sequence[str], samples_by_key: Mapping[str, Sample]) -> dict[str, str]:
    """Array key -> a name that no other pixels have: of images of the same content it is the same."""
    names = {}
    for key in keys:
        name, where = f"{samples_by_key[key].image_content} {cache.image_size}", cache.layout_of(samples_by_key[key])
        if where.rule == TILES:
            for window, (row, column) in zip(cache.windows(key), where.corners, strict=True):
                names[window] = f"{name} {TILES} {row} {column}"
        else:
            names[key] = name if where.rule == STRETCH else f"{name} {where.rule}"
    return names


def _in_batches(arrays: list[str], batch_size: int) -> list[list[str]]:
    return [arrays[start : start + batch_size] for start in range(0, len(arrays), batch_size)]


def _check_option(name: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise UserError(f"Unknown training.{name} '{value}'.{did_you_mean(value, options)}")


def _group(keys: Sequence[str], name_of: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(name_of(key), []).append(key)
    return dict(sorted(groups.items()))


def _equal_parts(total: int, largest: int) -> list[int]:
    """Sizes of as few parts of at most `largest` as make up `total`, differing by at most one, larger first."""
    count = -(-total // largest)
    if count == 0:
        return []
    each, rest = divmod(total, count)
    return [each + 1] * rest + [each] * (count - rest)

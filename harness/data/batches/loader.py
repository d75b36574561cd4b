"""Batches, cut from memory-mapped arrays. No worker processes: copying a batch costs far less than training on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.data.batches.array_cache import ArrayCache
from harness.data.batches.domain_balance import PER_DOMAIN, balanced_batches, balanced_count
from harness.data.folder.sample import Sample
from harness.errors import UserError, did_you_mean

SAMPLINGS = ("proportional", "equal")
BATCHINGS = ("mixed", "single_modality", "domain_balanced")


@dataclasses.dataclass
class Batch:
    """Images with their masks.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1], RGB. A method applies its own normalisation.
        masks: (B, 1, S, S) float32, 0 or 1.
        modality: (B,) int64, index into the list of modalities that the method was built with.
        domain: (B,) int64, position in the sorted list of "modality/domain" of the keys that the batches are made of
            (of the training set when training).
        keys: the B samples' keys.
    """

    images: Tensor
    masks: Tensor
    modality: Tensor
    domain: Tensor
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            self.images.to(device), self.masks.to(device), self.modality.to(device), self.domain.to(device), self.keys
        )

    def chunks(self, size: int) -> list[Batch]:
        """Micro-batches of at most `size` images, as equal as can be, in order; views, no copies."""
        parts = _equal_parts(len(self), size)
        starts = np.cumsum([0, *parts[:-1]])
        return [self._part(slice(int(start), int(start) + count)) for start, count in zip(starts, parts, strict=True)]

    def _part(self, rows: slice) -> Batch:
        return Batch(self.images[rows], self.masks[rows], self.modality[rows], self.domain[rows], self.keys[rows])


class EpochLoader:
    """The training batches of an epoch: a function of (seed, epoch), so a resumed run meets the same batches.

    An epoch has as many images as there are keys. With `proportional` sampling it is each of them once. With `equal`
    every modality has the same number of places (give or take one), filled with passes over its images in random
    order: none is repeated before all of its modality were taken.

    Batches are as equal in size as can be rather than full with a remainder, so that no image weighs more because it
    fell into a small last batch. None has a single image, which BatchNorm can't work with (unless `batch_size` is 1):
    where one would be left alone, another image of its list is borrowed and seen twice.
    """

    def __init__(
        self,
        cache: ArrayCache,
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
            batching: `mixed`; `single_modality`: each batch from one modality, their order random; or `domain_balanced`:
                a batch is made of chunks of one modality with as many images of each of its domains (harness/data/batches/domain_balance.py).
            seed: at least 0.

        Raises:
            UserError: no keys, a key twice or unknown, a modality that is not in the list, an unknown option, a batch too
                small for two domains.
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
        self.batch_size, self.sampling, self.batching, self.seed = batch_size, sampling, batching, seed
        self.keys = sorted(keys)
        self._assembly = _Assembly(cache, self.keys, modalities, samples_by_key)
        self._by_modality = _group(self.keys, lambda key: samples_by_key[key].modality)
        self._domains = {
            name: _group(keys, lambda key: samples_by_key[key].domain) for name, keys in self._by_modality.items()
        }

    def __len__(self) -> int:
        """Batches in an epoch, the same in every epoch."""
        places = self._places()
        if self.batching == "domain_balanced":
            return balanced_count(self._domains, places, self.batch_size)
        groups = [sum(places.values())] if self.batching == "mixed" else list(places.values())
        return sum(len(_equal_parts(count, self.batch_size)) for count in groups)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of epoch number `epoch` (from 0)."""
        for keys in self.epoch_keys(epoch):
            yield self._assembly(keys)

    def epoch_keys(self, epoch: int) -> list[list[str]]:
        """The keys of each batch of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
        places = self._places()
        if self.batching == "domain_balanced":
            return balanced_batches(self._domains, places, self.batch_size, random)
        lists = [_fill(self._by_modality[name], count, random) for name, count in places.items()]
        if self.batching == "mixed":
            lists = [_shuffled([key for keys in lists for key in keys], random)]
        batches = [batch for keys in lists if keys for batch in _cut(keys, self.batch_size, random)]
        return [batches[position] for position in random.permutation(len(batches))]

    def _places(self) -> dict[str, int]:
        """Images per modality and epoch."""
        if self.sampling == "proportional":
            return {name: len(keys) for name, keys in self._by_modality.items()}
        each, rest = divmod(len(self.keys), len(self._by_modality))
        return {name: each + (number < rest) for number, name in enumerate(self._by_modality)}


def evaluation_batches(
    cache: ArrayCache,
    keys: Sequence[str],
    modalities: Sequence[str],
    samples_by_key: Mapping[str, Sample],
    batch_size: int,
) -> Iterator[Batch]:
    """The samples `keys` in their order, each once, `batch_size` at a time (the last batch may be smaller)."""
    if batch_size < 1:
        raise UserError(f"Expected batch_size >= 1, found {batch_size}.")
    assembly = _Assembly(cache, keys, modalities, samples_by_key)
    for start in range(0, len(keys), batch_size):
        yield assembly(list(keys[start : start + batch_size]))


class _Assembly:
    """Makes batches of keys."""

    def __init__(
        self,
        cache: ArrayCache,
        keys: Sequence[str],
        modalities: Sequence[str],
        samples_by_key: Mapping[str, Sample],
    ) -> None:
        cache.rows(keys)  # unknown keys are rejected here, not in the middle of an epoch
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
        self.cache = cache
        self.modality = {key: modality_number[samples_by_key[key].modality] for key in keys}
        self.domain = {key: domain_number[samples_by_key[key].domain_key] for key in keys}

    def __call__(self, keys: list[str]) -> Batch:
        rows = self.cache.rows(keys)
        images = torch.from_numpy(self.cache.images[rows])  # indexing with a list copies: the map stays read-only
        masks = torch.from_numpy(self.cache.masks[rows])
        return Batch(
            images=images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255),
            masks=masks.unsqueeze(1).to(torch.float32),
            modality=torch.tensor([self.modality[key] for key in keys]),
            domain=torch.tensor([self.domain[key] for key in keys]),
            keys=keys,
        )


def _check_option(name: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise UserError(f"Unknown training.{name} '{value}'.{did_you_mean(value, options)}")


def _group(keys: Sequence[str], name_of: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(name_of(key), []).append(key)
    return dict(sorted(groups.items()))


def _fill(keys: list[str], places: int, random: np.random.Generator) -> list[str]:
    """Passes over `keys`, each in another order, until `places` are taken."""
    passes = -(-places // len(keys))
    return [key for _ in range(passes) for key in _shuffled(keys, random)][:places]


def _shuffled(keys: list[str], random: np.random.Generator) -> list[str]:
    return [keys[position] for position in random.permutation(len(keys))]


def _cut(keys: list[str], batch_size: int, random: np.random.Generator) -> list[list[str]]:
    """Equal batches of `keys`; a batch of one borrows another image of the list (or repeats the only one)."""
    batches, start = [], 0
    for count in _equal_parts(len(keys), batch_size):
        batch = keys[start : start + count]
        if count == 1 and batch_size > 1:
            others = keys[:start] + keys[start + 1 :] or batch
            batch = [*batch, others[random.integers(len(others))]]
        batches.append(batch)
        start += count
    return batches


def _equal_parts(total: int, largest: int) -> list[int]:
    """Sizes of as few parts of at most `largest` as make up `total`, differing by at most one, larger first."""
    count = -(-total // largest)
    if count == 0:
        return []
    each, rest = divmod(total, count)
    return [each + 1] * rest + [each] * (count - rest)

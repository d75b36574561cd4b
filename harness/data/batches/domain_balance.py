"""Batches in which domains can be compared: small chunks, each of one modality with as many images of each of its domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PER_DOMAIN = 2
"""Images of a domain in a chunk: with two or more, variation within a domain can be separated from variation between domains."""


def balanced_batches(
    domains: Mapping[str, Mapping[str, Sequence[str]]],
    places: Mapping[str, int],
    batch_size: int,
    random: np.random.Generator,
) -> list[list[str]]:
    """The keys of each batch of an epoch, in random order.

    A chunk holds PER_DOMAIN images of each domain of a modality (of as many as fit a batch, others in the next chunk); a
    batch holds as many chunks as fit. Images of a domain come in passes over it: none is repeated before all were taken.

    Args:
        domains: modality -> domain -> keys.
        places: modality -> about how many images an epoch shows; rounded to whole chunks, at least one.
        batch_size: the most images in a batch, at least 2 x PER_DOMAIN.
    """
    chunks: dict[int, list[list[str]]] = {}
    for modality, by_domain in domains.items():
        width = _width(by_domain, batch_size)
        supply = {name: _Passes(keys, random) for name, keys in by_domain.items()}
        turns = _Passes(list(by_domain), random)
        for _ in range(_count(places[modality], width)):
            chosen = sorted(turns.take(width))
            chunk = [key for name in chosen for key in supply[name].take(PER_DOMAIN)]
            chunks.setdefault(len(chunk), []).append(chunk)
    batches: list[list[str]] = []
    for size, alike in sorted(chunks.items()):
        together = batch_size // size
        order = random.permutation(len(alike))
        batches.extend(
            [key for position in order[start : start + together] for key in alike[position]]
            for start in range(0, len(alike), together)
        )
    return [batches[position] for position in random.permutation(len(batches))]


def balanced_count(
    domains: Mapping[str, Mapping[str, Sequence[str]]], places: Mapping[str, int], batch_size: int
) -> int:
    """How many batches `balanced_batches` gives, in every epoch."""
    chunks: dict[int, int] = {}
    for modality, by_domain in domains.items():
        width = _width(by_domain, batch_size)
        size = width * PER_DOMAIN
        chunks[size] = chunks.get(size, 0) + _count(places[modality], width)
    return sum(-(-count // (batch_size // size)) for size, count in chunks.items())


def _width(by_domain: Mapping[str, Sequence[str]], batch_size: int) -> int:
    return min(len(by_domain), batch_size // PER_DOMAIN)


def _count(places: int, width: int) -> int:
    return max(1, round(places / (width * PER_DOMAIN)))


class _Passes:
    """Takes items in passes over a list, each pass in another order; an item stands twice in a row only at a seam."""

    def __init__(self, items: Sequence[str], random: np.random.Generator) -> None:
        self.items, self.random = list(items), random
        self.left: list[str] = []

    def take(self, count: int) -> list[str]:
        taken: list[str] = []
        while len(taken) < count:
            if not self.left:
                self.left = [self.items[position] for position in self.random.permutation(len(self.items))]
            # At a seam the new pass may start with what was just taken: that one waits.
            position = next((i for i, item in enumerate(self.left) if item not in taken), 0)
            taken.append(self.left.pop(position))
        return taken

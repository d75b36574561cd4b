"""Images that must stay together (one subject, equal files), and how whole groups are taken for a role."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.data.dataset import Sample


def _groups(samples: Sequence[Sample], split_seed: int) -> list[list[str]]:
    """Keys that must stay together, in an order drawn by `split_seed`.

    Images are joined by subject and by equal content; a copied image joins the subjects that have it.
    """
    # Imported here: reading configurations and help needs no scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys = sorted(sample.key for sample in samples)
    row_of = {key: row for row, key in enumerate(keys)}
    columns: dict[tuple[str, str], int] = {}
    edges: list[tuple[int, int]] = []
    for sample in samples:
        marks = [("content", sample.sha256_image)] + ([("subject", sample.subject)] if sample.subject else [])
        edges += [(row_of[sample.key], len(keys) + columns.setdefault(mark, len(columns))) for mark in marks]
    size = len(keys) + len(columns)
    rows, others = zip(*edges, strict=True)
    _, labels = connected_components(coo_array(([1] * len(edges), (rows, others)), shape=(size, size)), directed=False)
    groups: dict[int, list[str]] = {}
    for key, label in zip(keys, labels, strict=False):
        groups.setdefault(int(label), []).append(key)

    def place(group: list[str]) -> str:
        return hashlib.sha256(f"{split_seed}/{group[0]}".encode()).hexdigest()

    return sorted(groups.values(), key=place)


def _take(groups: Sequence[list[str]], fraction: float) -> tuple[list[list[str]], list[list[str]]]:
    """Takes whole groups towards `fraction` of the images: at least one group and never all, if there are two."""
    target = fraction * sum(len(group) for group in groups)
    taken: list[list[str]] = []
    rest: list[list[str]] = []
    size = 0
    for group in groups:
        # A group is taken if that brings the number of images nearer to the target.
        if len(group) < 2 * (target - size):
            taken.append(group)
            size += len(group)
        else:
            rest.append(group)
    if not taken and len(rest) > 1:
        smallest = min(rest, key=len)
        rest.remove(smallest)
        taken.append(smallest)
    if not rest and taken:
        rest.append(taken.pop())
    return taken, rest

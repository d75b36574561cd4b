"""What algorithms share that compare the training domains of a batch.

Domains are compared within a modality: that an X-ray is harder than a photograph of skin says nothing about either's
domains. What several modalities of a batch give is averaged.

A method may offer `losses_by_image(batch, step) -> (loss, (B,) losses)`, from one pass. Without it each domain of the
batch makes a pass of its own through `training_loss`, in which batch norm sees the domain alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.algorithms.base import Algorithm
from baselines.algorithms.draws import sent
from baselines.algorithms.settings import check_range


@dataclass(frozen=True)
class Rows:
    """Images of a batch.

    Attributes:
        positions: theirs in the batch.
        on_device: the same, (N,) int64 on the batch's device.
    """

    positions: list[int]
    on_device: Tensor

    def __len__(self) -> int:
        return len(self.positions)


Domains = dict[int, dict[int, Rows]]
"""Modality -> domain -> its images in the batch; in order of their numbers."""


def domains_of(batch: Any) -> Domains:
    """All images of a batch, by modality and domain."""
    groups: dict[int, dict[int, list[int]]] = {}
    for position, (modality, domain) in enumerate(zip(batch.modality_list, batch.domain_list, strict=True)):
        groups.setdefault(modality, {}).setdefault(domain, []).append(position)
    ordered = [(m, d, rows) for m, inside in sorted(groups.items()) for d, rows in sorted(inside.items())]
    # In one copy: each costs a launch.
    positions = sent(torch.tensor([row for _, _, rows in ordered for row in rows]), batch.domain.device)
    domains: Domains = {}
    for (modality, domain, rows), own in zip(
        ordered, positions.split([len(rows) for *_, rows in ordered]), strict=True
    ):
        domains.setdefault(modality, {})[domain] = Rows(rows, own)
    return domains


def comparable(domains: Domains, images: int = 1) -> Domains:
    """The modalities that have two domains or more with at least so many images each, and these domains."""
    enough = {
        modality: {domain: rows for domain, rows in inside.items() if len(rows) >= images}
        for modality, inside in domains.items()
    }
    return {modality: inside for modality, inside in enough.items() if len(inside) > 1}


def losses_by_domain(method: nn.Module, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, dict[int, Tensor]]:
    """The batch's loss, and each domain's mean loss, with their graphs."""
    rows = [rows for inside in domains.values() for rows in inside.values()]
    names = [domain for inside in domains.values() for domain in inside]
    if hasattr(method, "losses_by_image"):
        loss, by_image = method.losses_by_image(batch, step)  # type: ignore[operator]
        return loss, {name: by_image[group.on_device].mean() for name, group in zip(names, rows, strict=True)}
    losses = [method.training_loss(batch.part(group.positions, group.on_device), step)[0] for group in rows]  # type: ignore[operator]
    whole = sum(loss * (len(group) / len(batch.keys)) for loss, group in zip(losses, rows, strict=True))
    return torch.as_tensor(whole), dict(zip(names, losses, strict=True))


def mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


class DomainPenalty(Algorithm):
    """The method's loss plus a weighted penalty on how far the domains of a batch differ.

    A batch without two domains of one modality has no penalty. Warming up is counted in each stage anew; the optimiser
    keeps its state when the weight jumps (DomainBed resets Adam there, which an algorithm can't do here).

    Args:
        weight: of the penalty. 0: the method alone, bit for bit.
        warm_up: the share of a stage's steps before the full weight.

    Raises:
        ValueError: a setting out of range.
    """

    # The most that the penalty weighs while warming up.
    first_weight = 1.0

    def __init__(
        self, modalities: Sequence[str], method: Callable[..., nn.Module], weight: float, warm_up: float = 0.0
    ) -> None:
        super().__init__(modalities, method)
        check_range(type(self).__name__, "weight", weight, 0)
        check_range(type(self).__name__, "warm_up", warm_up, 0, 1)
        self.weight, self.warm_up = weight, warm_up

    def weight_at(self, step: Any) -> float:
        warm = step.index >= self.warm_up * step.total
        return self.weight if warm else min(self.first_weight, self.weight)

    def penalised(self, batch: Any, step: Any, domains: Domains) -> tuple[Tensor, Tensor]:
        """The batch's loss and the penalty, both scalars with their graphs.

        Args:
            domains: of the whole batch; at least one modality has two or more.
        """
        raise NotImplementedError

    def training_loss(self, batch: Any, step: Any) -> tuple[Tensor, dict[str, Any]]:
        domains = domains_of(batch)
        if self.weight == 0 or not comparable(domains):
            return super().training_loss(batch, step)
        loss, penalty = self.penalised(batch, step, domains)
        weight = self.weight_at(step)
        return (loss + weight * penalty if weight else loss), {"method": loss.detach(), "penalty": penalty.detach()}

"""Which resources a trial asks for, and whether any node has them: plain arithmetic on plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config import ExecutorConfig
from harness.errors import UserError


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive, and what Ray may give away of it in all."""

    id: str
    name: str
    cpus: float
    gpus: float

    @classmethod
    def of(cls, node: dict[str, Any]) -> Node:
        """From an entry of `ray.nodes()`."""
        resources = node["Resources"]
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        return cls(node["NodeID"], name, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def gpus_per_trial(config: ExecutorConfig, nodes: Sequence[Node]) -> float:
    """The part of a GPU that each trial asks for. All trials of a run get the same kind of device: bits depend on it.

    Raises:
        UserError: cuda was asked for and no node has a GPU, or no part of one was asked for.
    """
    available = any(node.gpus > 0 for node in nodes)
    if config.device == "cuda" and not available:
        raise UserError("executor.device=cuda, but Ray finds no GPU. Use executor.device=auto or cpu.")
    if config.device == "cuda" and config.gpus_per_trial == 0:
        raise UserError("executor.device=cuda needs executor.gpus_per_trial above 0, for example 0.5.")
    return config.gpus_per_trial if available and config.device != "cpu" else 0.0


def cpus_per_trial(threads: int, nodes: Sequence[Node], gpus: float, *, local: bool) -> int:
    """How many CPUs a trial asks Ray for; it computes with `threads` threads in any case, as its id says.

    The only machine of a local Ray is the best there is, so such a trial takes all of it. On a cluster it would wait for
    ever, or share CPUs with others unknown.

    Raises:
        UserError: a cluster, and no node has `threads` CPUs (and `gpus`) together.
    """
    if fitting(nodes, threads, gpus):
        return threads
    if local:
        return max(1, int(max(node.cpus for node in nodes)))
    there = "; ".join(f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes) or "no node is alive"
    wanted = f"{threads} CPUs (training.cpu_threads)" + (f" and {gpus:g} GPU (executor.gpus_per_trial)" if gpus else "")
    raise UserError(
        f"No node of the cluster has {wanted} for a trial: {there}. Start a node that has, or use a smaller"
        " training.cpu_threads: that is another trial with other bits. An autoscaled cluster needs one such node up."
    )


def fitting(nodes: Sequence[Node], cpus: float, gpus: float) -> list[Node]:
    """The nodes on which such a trial can run."""
    return [node for node in nodes if node.cpus >= cpus and node.gpus >= gpus]


def slots(nodes: Sequence[Node], cpus: float, gpus: float) -> int:
    """How many such trials the nodes run at a time.

    A GPU's parts are counted GPU by GPU: 0.4 of one fits twice, and no trial takes parts of two.
    """
    total = 0
    for node in fitting(nodes, cpus, gpus):
        on_gpus = int(node.gpus) * int(1 / gpus + 1e-9) if gpus else node.cpus
        total += int(min(node.cpus // cpus, on_gpus))
    return max(1, total)

"""Which layers of a network matter for what, read off the graph of one forward pass: no table of architectures.

A layer lies on the trunk of an encoder if every path from the image to the deepest features goes through its output.
Autograd's graph of a pass holds all paths, so they can be counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Of an encoder whose layers are all of one resolution, such as a vision transformer: as many as most others have.
_LAYERS_OF_ONE_RESOLUTION = 4


@dataclass
class _Call:
    """One call of a module in a pass: the shape of its output, and the node of the graph that made it."""

    module: nn.Module
    shape: tuple[int, ...]
    node: Any


def feature_layers(network: nn.Module, deepest: nn.Module, images: Sequence[Tensor]) -> list[tuple[nn.Module, int]]:
    """The outermost layer of the trunk at each resolution (of several the last), shallow to deep, and where channels are.

    Where there is a single resolution: layers of the commonest kind on the trunk, evenly spaced.

    Args:
        network: takes `images`.
        deepest: a part of it; of the tensors it gives, the smallest and last holds the deepest features.
        images: two batches of one image each, the second larger in both directions: what grows with the image is a
            position, what does not is a channel.

    Returns:
        (module, 1) for outputs (B, C, H, W), and (module, -1) for (B, N, C) and (B, H, W, C).

    Raises:
        ValueError: the network gives no such layers.
    """
    small, large = (_trunk(network, deepest, batch) for batch in images)
    pixels = [batch[0, 0].numel() for batch in images]
    nesting = {module: name.count(".") for name, module in network.named_modules()}
    found: list[tuple[nn.Module, int]] = []
    levels: dict[int, tuple[nn.Module, int]] = {}
    for module, shape in small.items():
        axis = _channel_axis(shape, large.get(module, ()))
        if axis is None:
            continue
        found.append((module, axis))
        positions = [torch.Size(s).numel() // s[axis] for s in (shape, large[module])]
        level = _halvings((positions[1] - positions[0]) / (pixels[1] - pixels[0]))
        if level not in levels or nesting[module] <= nesting[levels[level][0]]:
            levels[level] = (module, axis)
    if not found:
        raise ValueError(f"No layer of {type(network).__name__} lies on all paths to its deepest features.")
    if len(levels) > 1:
        return [levels[level] for level in sorted(levels)]
    ((kind, count),) = Counter(type(module) for module, _ in found).most_common(1)
    alike = [layer for layer in found if type(layer[0]) is kind]
    parts = min(count, _LAYERS_OF_ONE_RESOLUTION)
    return [alike[count * (part + 1) // parts - 1] for part in range(parts)]


def last_layer(network: nn.Module, images: Tensor) -> nn.Module:
    """The module that is called last among those with parameters of their own."""
    with _evaluating(network), _recorded(network) as calls, torch.no_grad():
        network(images)
    return [call.module for call in calls if _has_own_parameters(call.module)][-1]


def without_unused(network: nn.Module, run: Callable[[], Sequence[Tensor]]) -> None:
    """Takes parts out of `network` whose parameters no output depends on.

    Libraries build whole encoders also where a decoder reads only their first stages. Such a part becomes an Identity;
    a single such tensor beside used ones is frozen.

    Args:
        run: one pass, which gives all outputs that matter.

    Raises:
        RuntimeError: the pass fails; the message has the library's own.
    """
    try:
        with _evaluating(network), torch.enable_grad():
            outputs = run()
    except Exception as error:  # of several libraries: whatever they raise for parts that don't go together
        raise RuntimeError(f"a pass of a small image fails: {error}") from error
    used = {id(node.variable) for output in outputs for node in _nodes(output.grad_fn) if hasattr(node, "variable")}
    _take_out(network, used)


def _take_out(module: nn.Module, used: set[int]) -> None:
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if parameters and not any(id(parameter) in used for parameter in parameters):
            setattr(module, name, nn.Identity())
        else:
            _take_out(child, used)
    for parameter in module.parameters(recurse=False):
        if id(parameter) not in used:
            parameter.requires_grad_(False)


def _trunk(network: nn.Module, deepest: nn.Module, image: Tensor) -> dict[nn.Module, tuple[int, ...]]:
    """Modules on the trunk, in the order in which they end, with the shape of what they give."""
    features: list[Tensor] = []
    until: list[_Call] = []
    with _evaluating(network), _frozen(network), torch.enable_grad(), _recorded(network) as calls:

        def end(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [tensor for tensor in _tensors(output) if tensor.requires_grad and tensor.dim() in (3, 4)]
            smallest = min(map(_positions, tensors))
            features[:] = [tensor for tensor in tensors if _positions(tensor) == smallest]
            until[:] = calls

        # The last hook on this module: its own call is recorded by then.
        hook = deepest.register_forward_hook(end)
        network(image.clone().requires_grad_())
        hook.remove()
    # What comes before the first parameters is the image still.
    until = until[next(index for index, call in enumerate(until) if _has_own_parameters(call.module)) :]
    times = Counter(call.module for call in calls)
    crossed = _on_all_paths(features[-1].grad_fn)
    return {call.module: call.shape for call in until if times[call.module] == 1 and id(call.node) in crossed}


def _channel_axis(small: tuple[int, ...], large: tuple[int, ...]) -> int | None:
    """Of the same layer's output for a smaller and a larger image: the one axis, behind the images, that stays."""
    if len(small) != len(large) or small[:1] != large[:1] != (1,) or len(small) not in (3, 4):
        return None
    same = [axis for axis in range(1, len(small)) if small[axis] == large[axis]]
    if len(same) != 1 or same[0] not in (1, len(small) - 1):
        return None
    return 1 if same[0] == 1 else -1


def _halvings(density: float) -> int:
    """Positions per pixel -> how often the sides were halved.

    Of the growth between two images, so that a class token does not count; rounded, since some layers pad theirs.
    """
    return round(-math.log(density, 4))


def _on_all_paths(end: Any) -> set[int]:
    """Nodes (by id) that every path from the end of a graph to its start goes through.

    The paths through a node are those that lead to it from the end, times those from it to the start.
    """
    order = _nodes(end)
    children = {id(node): [child for child, _ in node.next_functions if child is not None] for node in order}
    to_start: dict[int, int] = {}
    for node in reversed(order):
        below = children[id(node)]
        to_start[id(node)] = sum(to_start[id(child)] for child in below) if below else 1
    from_end = dict.fromkeys(to_start, 0)
    from_end[id(end)] = 1
    for node in order:
        for child in children[id(node)]:
            from_end[id(child)] += from_end[id(node)]
    return {key for key in to_start if from_end[key] * to_start[key] == to_start[id(end)]}


def _nodes(end: Any) -> list[Any]:
    """All nodes of the graph below `end`, each before those that it leads to."""
    done: list[Any] = []
    seen: set[int] = set()
    stack = [(end, False)]
    while stack:
        node, finished = stack.pop()
        if finished:
            done.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child, _ in node.next_functions if child is not None)
    return done[::-1]


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[_Call]]:
    """Collects the calls of modules that give one tensor, in the order in which they end."""
    calls: list[_Call] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.append(_Call(module, tuple(output.shape), output.grad_fn))

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.enter_context(module.register_forward_hook(record))
        yield calls


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that a pass changes no statistics and draws nothing; each module's own mode comes back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No parameter wants gradients, so that the graph holds the paths from the image alone."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _has_own_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in _tensors(part)] if isinstance(output, list | tuple) else []


def _positions(tensor: Tensor) -> int:
    """How many positions features (B, C, H, W), (B, H, W, C) or (B, N, C) have, for layers that are more channels than wide."""
    return min(tensor.shape[2:].numel(), tensor.shape[1:-1].numel())

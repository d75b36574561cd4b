"""One suite that every network inherits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.methods import others_slow
from torch import Tensor, nn

from baselines.networks.base import Network
from tests.baselines.networks.nets import ENCODERS, NETWORKS, Batch, build, disks, fresh, logits_of

every_network = pytest.mark.parametrize("name", NETWORKS)
# Of segmentation_models_pytorch one with and one without batch norms; each of MONAI is a class of its own.
SEVERAL = ("unet", "segformer", "attention_unet", "swin_unetr", "unetr", "segresnet", "dynunet", "flexible_unet")
every_class = pytest.mark.parametrize("name", others_slow(list(NETWORKS), list(SEVERAL)))
# What the base class does shows with convolutions, with attention, and with logits at several resolutions.
every_kind = pytest.mark.parametrize("name", others_slow(list(NETWORKS), ["unet", "unetr", "dynunet"]))


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.images[rows], batch.masks[rows], batch.modality[rows])


def loss_of(method: Network, batch: Batch, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return method.training_loss(batch, None)[0]


@every_network
# Of sizes that divide losses are computed below.
@pytest.mark.parametrize("size", [pytest.param((64, 64), marks=pytest.mark.slow), (33, 40), (5, 3)])
def test_logits_have_the_size_of_the_images(name: str, size: tuple[int, int]) -> None:
    logits = logits_of(fresh(name), disks(2, *size))
    assert logits.shape == (2, 1, *size) and logits.dtype == torch.float32 and logits.isfinite().all()


@every_kind
def test_odd_sizes_see_the_border_repeated_and_nothing_else(name: str) -> None:
    method, odd = fresh(name), disks(1, 50, 64)
    below = -50 % method.stride if method.least < 50 else method.least - 50
    border = odd.images[:, :, -1:].expand(-1, -1, below, -1)
    padded = Batch(torch.cat([odd.images, border], 2), odd.masks, odd.modality)
    torch.testing.assert_close(logits_of(method, odd), logits_of(method, padded)[:, :, :50], rtol=0, atol=1e-6)


@every_network
def test_gradients_reach_every_parameter_and_none_is_frozen(name: str) -> None:
    """From one place or another: a unit may be off, or start at zero so that nothing passes those before it."""
    method, batch = fresh(name).train(), disks(4, 64, 64)
    missing = {key for key, _ in method.named_parameters()}
    for seed in range(5):
        torch.manual_seed(seed)
        loss, parts = method.training_loss(batch, None)
        method.zero_grad()
        loss.backward()
        assert loss.dim() == 0 and parts and all(not value.requires_grad for value in parts.values())
        assert all(p.requires_grad and p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
        missing -= {key for key, p in method.named_parameters() if p.grad.any()}
        if not missing:
            return
        with torch.no_grad():
            for parameter in method.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    assert not missing


@every_class
# At 32 x 32 pixels one value a channel may be left, and any other size has more.
@pytest.mark.parametrize("size", [(32, 32), pytest.param((33, 70), marks=pytest.mark.slow)])
def test_trains_on_a_single_image(name: str, size: tuple[int, int]) -> None:
    method = fresh(name).train()
    loss, _ = method.training_loss(disks(1, *size), None)
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@every_class
def test_bfloat16_autocast_trains_and_stays_near_float32(name: str) -> None:
    method, batch = fresh(name), disks(2, 32, 64)
    full = logits_of(method, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = logits_of(method, batch).float()
        loss, _ = method.train().training_loss(batch, None)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert (half - full).abs().mean() < 0.05 * full.abs().mean() + 0.02


@every_kind
def test_an_image_s_logits_don_t_depend_on_its_batch(name: str) -> None:
    method, batch = fresh(name), disks(3, 64, 64)
    method.train().training_loss(batch, None)  # running statistics that are not the initial ones
    together = logits_of(method, batch)
    for index in range(3):
        rows = slice(index, index + 1)
        torch.testing.assert_close(logits_of(method, part(batch, rows)), together[rows], atol=1e-4, rtol=1e-4)


@every_kind
def test_a_saved_state_gives_the_same_bits_and_the_same_seed_the_same_network(name: str, tmp_path: Path) -> None:
    method, batch = build(name, seed=3).train(), disks(2, 32, 32)
    loss = loss_of(method, batch)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    assert torch.equal(loss_of(build(name, seed=3).train(), batch), loss)
    other = fresh(name)
    assert not torch.equal(logits_of(other, batch), logits_of(method, batch))
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(logits_of(other, batch), logits_of(method, batch))
    assert torch.equal(loss_of(other.train(), batch, 5), loss_of(method.train(), batch, 5))


@every_kind
def test_frozen_parameters_stay_while_the_others_learn_disks(name: str) -> None:
    method, batch = fresh(name).train(), disks(2, 32, 32)
    torch.manual_seed(0)
    frozen = dict(method.feature_layers()[0][0].named_parameters())
    before = {key: value.detach().clone() for key, value in frozen.items()}
    for value in frozen.values():
        value.requires_grad_(False)
    learning = [value for value in method.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(learning, 2e-3)
    losses = []
    for _ in range(6):
        loss, _ = method.training_loss(batch, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.9 * losses[0]
    assert all(torch.equal(before[key], value) for key, value in frozen.items())


# What algorithms ask for


@every_kind
def test_each_image_s_own_loss_is_of_the_same_pass(name: str) -> None:
    method, batch = fresh(name).train(), disks(3, 48, 64)
    expected = loss_of(method, batch)
    torch.manual_seed(0)
    loss, each = method.losses_by_image(batch, None)
    assert torch.equal(loss, expected) and each.shape == (3,) and each.dtype == torch.float32
    torch.testing.assert_close(each.mean(), loss, rtol=1e-5, atol=1e-5)
    own = torch.autograd.grad(each[1], method.head().weight, retain_graph=True)[0]
    assert own.any()
    method.eval()
    with torch.no_grad():
        one = loss_of(method, part(batch, slice(1, 2)))
        torch.testing.assert_close(method.losses_by_image(batch, None)[1][1], one, rtol=1e-4, atol=1e-4)


def settled(name: str) -> Network:
    """In evaluation mode, with batch norms that have seen images: those of a new network let little through."""
    method = fresh(name).train()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    loss_of(method, disks(2, 64, 64))
    return method.eval()


def seen_by(
    method: Network, layers: list[tuple[nn.Module, int]], batch: Batch, changed: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """What the feature layers give, in the order in which they are called, and the logits.

    Args:
        changed: the number of a layer whose output is multiplied, channel by channel, by numbers around one.
    """
    seen: list[Tensor] = []
    hooks = []
    for index, (layer, axis) in enumerate(layers):

        def hook(module: nn.Module, inputs: object, x: Tensor, index: int = index, axis: int = axis) -> Tensor:
            if index == changed:
                shape = [x.shape[axis] if i == axis % x.dim() else 1 for i in range(x.dim())]
                x = x * torch.linspace(0.2, 3, x.shape[axis]).view(shape)
            seen.append(x.clone())
            return x

        hooks.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        logits = method.predict(batch.images, batch.modality)
    for handle in hooks:
        handle.remove()
    return seen, logits


# PAN too: it alone enlarges small images.
@pytest.mark.parametrize("name", others_slow([*NETWORKS, *ENCODERS], [*SEVERAL, "pan", *ENCODERS]))
def test_feature_layers_lead_from_shallow_to_deep(name: str) -> None:
    method, batch = settled(name), disks(2, 64, 64)
    layers = method.feature_layers()
    assert len(layers) >= 3 and len({id(layer) for layer, _ in layers}) == len(layers)
    features, logits = seen_by(method, layers, batch)
    assert len(features) == len(layers)
    positions = []
    for (_, axis), tensor in zip(layers, features, strict=True):
        assert len(tensor) == 2 and axis in (1, -1) and (axis == -1 or tensor.dim() == 4)
        positions.append(tensor[0].numel() // tensor.shape[axis])
    assert positions == sorted(positions, reverse=True)
    larger, _ = seen_by(method, layers, disks(1, 192, 160))
    for (_, axis), first, second in zip(layers, features, larger, strict=True):  # positions grow, channels don't
        grown = [i for i in range(1, first.dim()) if first.shape[i] != second.shape[i]]
        assert grown == [i for i in range(1, first.dim()) if i != axis % first.dim()]
    for index in range(len(layers)):
        after, changed = seen_by(method, layers, batch, index)
        assert not torch.equal(changed, logits)
        assert all(torch.equal(*pair) for pair in zip(after[:index], features[:index], strict=True))
        assert not any(torch.equal(*pair) for pair in zip(after[index:], features[index:], strict=True))


@every_kind
def test_looking_for_layers_changes_nothing(name: str) -> None:
    method = fresh(name).train()
    method.network.apply(lambda module: module.eval() if isinstance(module, nn.Dropout) else None)
    modes = [module.training for module in method.modules()]
    before = {key: value.clone() for key, value in method.state_dict().items()}
    state = torch.get_rng_state()
    method.feature_layers(), method.head()
    assert torch.equal(torch.get_rng_state(), state) and modes == [module.training for module in method.modules()]
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(value.requires_grad for value in method.parameters())
    assert not any(module._forward_hooks for module in method.modules())


@every_network
def test_the_head_gives_the_logits(name: str) -> None:
    method, batch = fresh(name).eval(), disks(1, 64, 64)
    head = method.head()
    assert isinstance(head, nn.Conv2d) and head.out_channels == 1 and head.bias is not None
    with torch.no_grad():
        logits = logits_of(method, batch)
        head.bias += 2.0
        torch.testing.assert_close(logits_of(method, batch), logits + 2, rtol=0, atol=1e-4)

"""One suite that every algorithm inherits: each YAML in suites/algorithm, around tiny methods, built as the harness does."""

from __future__ import annotations

import copy
import inspect
import random
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_class
from torch import Tensor, nn

from delightsam.training.method import DeLightSAMMethod
from harness.config.yaml_tree import config_folder
from harness.errors import UserError
from harness.methods.adapter import MethodAdapter, checked_loss
from harness.methods.building import build_method
from harness.methods.crossing import check_algorithm_config, crossed
from harness.training.stages import freeze_all_but, train_mode
from tests.baselines.algorithms.toy import MODALITIES, Batch, NoisyMethod, Step, disks, make

FILES = {path.stem: path for path in sorted((config_folder() / "algorithm").glob("*.yaml"))}
CARD = {
    "title": "Toy",
    "paper": "none",
    "licence": "none",
    "prompt": "none",
    "uses_modality": False,
    "pretrained": "none",
    "pretrained_on": [],
}
TOY = "tests.baselines.algorithms.toy.ToyMethod"

every_algorithm = pytest.mark.parametrize("name", FILES)


@cache
def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILES[name].read_text("utf-8"))
    return content


def build(name: str, target: str = TOY, seed: int = 0) -> Any:
    """The algorithm around a method whose weights come from `seed`, in training mode."""
    pairs = crossed({"toy": {"card": CARD, "model": {"_target_": target}}}, {name: copy.deepcopy(read(name))})
    (pair,) = pairs.values()
    torch.manual_seed(seed)
    return build_method(next(iter(pairs)), pair["model"], MODALITIES).train()


def loss_of(method: nn.Module, batch: Any, step: Step | None = None, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return checked_loss(method, method.training_loss(batch, step or Step()))  # type: ignore[operator]


def fit(method: Any, steps: int = 3, optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    """A short training as the harness does it, on other images in each step."""
    parameters = [value for value in method.parameters() if value.requires_grad]
    optimizer = optimizer or torch.optim.SGD(parameters, 0.05)
    losses = []
    for index in range(steps):
        step = Step(index, steps, epoch=0)
        loss = loss_of(method, disks(8, seed=index), step, seed=index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if hasattr(method, "after_step"):
            method.after_step(step)
    if hasattr(method, "after_epoch"):
        method.after_epoch(0.5)
    return losses


def predict(method: Any, batch: Batch) -> Tensor:
    method.eval()
    with torch.inference_mode():
        logits: Tensor = method.predict(batch.images, batch.modality)
    return logits


def assert_same(states: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    """Bit for bit, where not-a-number (of what was not measured yet) is like itself."""
    assert states.keys() == others.keys()
    torch.testing.assert_close(states, others, rtol=0, atol=0, equal_nan=True)


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.images[rows], batch.masks[rows], batch.modality[rows], batch.domain[rows], batch.keys[rows])


# The file


@every_algorithm
def test_the_file_is_complete(name: str) -> None:
    text, config = FILES[name].read_text("utf-8"), read(name)
    check_algorithm_config(name, config)
    header, summary, *_ = text.splitlines()
    assert header == f"# @package algorithms.{name}" and re.fullmatch(r"# \S.{20,}\.", summary)
    assert re.search(r"\b(19|20)\d\d\b", config["card"]["paper"]), "a paper has a year"
    assert isinstance(config["version"], int) and "training" in config


@every_algorithm
def test_every_hyperparameter_is_in_the_file_with_its_source_and_in_the_docstring(name: str) -> None:
    model = read(name)["model"]
    if model is None:
        return  # erm has none
    cls = get_class(model["_target_"])
    parameters = list(inspect.signature(cls.__init__).parameters)[1:]
    hyperparameters = [parameter for parameter in parameters if parameter not in ("modalities", "method")]
    assert sorted(hyperparameters) == sorted(set(model) - {"_target_"})
    lines = FILES[name].read_text("utf-8").splitlines()
    for hyperparameter in hyperparameters:
        (row,) = [i for i, line in enumerate(lines) if line.startswith(f"  {hyperparameter}:")]
        assert "#" in lines[row] or lines[row - 1].strip().startswith("#"), f"{hyperparameter}: where is it from?"
        assert re.search(rf"\b{hyperparameter}\b.*:", inspect.getdoc(cls) or ""), f"{hyperparameter} in the docstring"


# Training


@every_algorithm
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trains_on_any_batch(name: str, dtype: torch.dtype) -> None:
    method = build(name)
    batches = [
        disks(6),
        disks(1, (33, 30)),
        disks(5, (27, 50)),
        disks(4, modality=[0, 0, 0, 0], domain=[1, 1, 1, 1]),
        disks(3, modality=[0, 0, 1], domain=[0, 1, 5]),
    ]
    if dtype == torch.bfloat16:  # what depends on sizes does so in float32 too
        batches = [batches[0], batches[3]]
    for index, batch in enumerate(batches):
        method.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = loss_of(method, batch, Step(index, len(batches)))
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
        assert all(value.grad is None or value.grad.isfinite().all() for value in method.parameters())


@every_algorithm
def test_leaves_the_batch_and_foreign_randomness_alone(name: str) -> None:
    method, batch = build(name), disks(6)
    untouched, state, numpy_state = copy.deepcopy(batch), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    loss_of(method, batch)
    for field in ("images", "masks", "modality", "domain"):
        assert torch.equal(getattr(batch, field), getattr(untouched, field))
    assert random.getstate() == state and np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@every_algorithm
def test_gradients_reach_everything_that_trains_and_what_is_frozen_stays(name: str) -> None:
    method = build(name)
    before = {key: value.detach().clone() for key, value in method.named_parameters()}
    fit(method)
    for key, value in method.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.any(), f"{key} gets no gradient"
            assert not torch.equal(value, before[key]), f"{key} did not move"
        elif key.endswith("prior"):
            assert torch.equal(value, before[key]), f"{key} is frozen and moved"


@every_algorithm
def test_a_stage_that_trains_the_last_layer_leaves_the_rest(name: str) -> None:
    method = build(name)
    learnable = [key for key, value in method.named_parameters() if value.requires_grad]
    chosen = freeze_all_but(method, ["*last.*"], learnable)
    train_mode(method)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    loss_of(method, disks(8)).backward()
    assert all(value.grad is not None for value in chosen.values())
    assert all(value.grad is None for key, value in method.named_parameters() if key not in chosen)
    frozen = [key for key in before if re.search(r"(^|\.)(early|late)\.", key)]
    assert frozen and all(torch.equal(method.state_dict()[key], before[key]) for key in frozen)


@every_algorithm
def test_stages_name_the_wrapper_s_own_parameters(name: str) -> None:
    method = build(name)
    names = [key for key, value in method.named_parameters() if value.requires_grad]
    for stage in MethodAdapter(method).stages():
        assert set(freeze_all_but(method, stage.trainable, names)) == set(names)


@every_algorithm
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    runs = [build(name, seed=3) for _ in range(2)]
    assert fit(runs[0]) == fit(runs[1])
    assert_same(*[run.state_dict() for run in runs])


@every_algorithm
def test_goes_on_from_a_checkpoint_bit_by_bit(name: str, tmp_path: Path) -> None:
    method, batch = build(name), disks(6, seed=9)
    fit(method)
    torch.save(method.state_dict(), tmp_path / "state.pt")
    other = build(name, seed=1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(predict(other, batch), predict(method, batch))
    step = Step(1, 4, epoch=1)
    assert torch.equal(loss_of(other.train(), batch, step), loss_of(method.train(), batch, step))
    assert fit(other) == fit(method)
    assert torch.equal(predict(other, batch), predict(method, batch))


@every_algorithm
@pytest.mark.parametrize("off", ["probability", "strength"])
def test_switched_off_it_is_the_method_alone_bit_for_bit(name: str, off: str) -> None:
    model = read(name)["model"] or {}
    if off not in model:
        return
    settings = {key: value for key, value in model.items() if key != "_target_"} | {off: 0.0}
    bare, switched_off = (
        make(algorithm, method=NoisyMethod)
        for algorithm in (
            lambda modalities, method: method(modalities=modalities),
            partial(get_class(model["_target_"]), **settings),
        )
    )
    losses = []
    for method in (bare, switched_off):
        losses.append(loss_of(method, disks(6)))
        losses[-1].backward()
    assert torch.equal(*losses)
    gradients = [dict(method.named_parameters()) for method in (bare, switched_off)]
    assert all(
        torch.equal(value.grad, gradients[1]["method." + key].grad)
        for key, value in gradients[0].items()
        if value.requires_grad
    )


# Testing


# Flips answer with a mean over several passes: test_flips.py.
@pytest.mark.parametrize("name", [name for name in FILES if name != "flips"])
def test_predicts_as_the_method_alone_before_it_trains(name: str) -> None:
    batch = disks(4, (30, 33))
    assert torch.equal(predict(build(name), batch), predict(build("erm"), batch))


@every_algorithm
def test_an_image_s_logits_don_t_depend_on_its_batch(name: str) -> None:
    method, batch = build(name), disks(4)
    fit(method)
    together = predict(method, batch)
    for row in range(4):
        alone = predict(method, part(batch, slice(row, row + 1)))
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-5, rtol=1e-5)


@every_algorithm
def test_only_those_that_say_so_see_test_images_and_forget_them(name: str) -> None:
    method, batch = build(name), disks(6)
    assert hasattr(method, "predict_adapting") == read(name)["card"]["sees_test_images"]
    if not hasattr(method, "predict_adapting"):
        return
    fit(method)
    before, state = predict(method, batch), copy.deepcopy(method.state_dict())
    method.reset_adaptation()
    first = method.predict_adapting(batch.images, batch.modality)
    method.predict_adapting(disks(6, seed=4).images, batch.modality)
    method.reset_adaptation()
    assert torch.equal(method.predict_adapting(batch.images, batch.modality), first)
    method.reset_adaptation()
    assert torch.equal(predict(method, batch), before)
    assert_same(method.state_dict(), state)


# Other methods


@every_algorithm
@pytest.mark.parametrize("method", ["PlainMethod", "TokenMethod"])
def test_a_method_that_offers_less_trains_or_gets_a_hint(name: str, method: str) -> None:
    try:
        algorithm = build(name, f"tests.baselines.algorithms.toy.{method}")
        loss_of(algorithm, disks(6)).backward()
    except (UserError, ValueError) as error:
        assert method in str(error) and re.search(r"expected .*(\(\)|normalis)", str(error))


@pytest.fixture(scope="module")
def delightsam(shallow: None) -> DeLightSAMMethod:
    torch.manual_seed(0)
    return DeLightSAMMethod(MODALITIES)


@every_algorithm
def test_wraps_delightsam(name: str, delightsam: DeLightSAMMethod) -> None:
    model = read(name)["model"]
    if model is None:
        return
    settings = {key: value for key, value in model.items() if key != "_target_"}
    try:
        algorithm = get_class(model["_target_"])(MODALITIES, lambda modalities: delightsam, **settings).train()
    except ValueError as error:
        assert "DeLightSAMMethod" in str(error)
        return
    algorithm.zero_grad()
    loss = loss_of(algorithm, disks(2, modality=[0, 1]), Step(stage="joint"))
    loss.backward()
    assert loss.isfinite()
    gradients = [value.grad for value in delightsam.network.encoder.parameters()]
    assert any(gradient is not None and gradient.any() for gradient in gradients)

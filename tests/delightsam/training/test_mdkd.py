"""Distillation: what learns in each stage, what the student imitates, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from support.numbers import nothing_drawn
from torch import Tensor
from toy_training import CONFIG, copy_of, curves, make_data, run, same_bits

import suites
from delightsam import WeightsError
from delightsam.training.mdkd import MDKDMethod
from delightsam.training.method import DeLightSAMMethod
from delightsam.training.teacher import SamTeacher
from harness.errors import UserError
from harness.methods.building import build_method
from harness.training.epoch_result import EpochResult

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ["xray", "fundus"]
CHAIN = [
    {"name": "teacher", "share": 1}, {"name": "common", "share": 1, "views": None},
    {"name": "controllers", "share": 1, "views": None}, {"name": "joint", "share": 1},
]  # fmt: skip
HEADS = ("network.prompts.", "network.decoder.")


@pytest.fixture(scope="module")
def sam_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small SAM in Meta's layout, with weights as random as they are fixed."""
    torch.manual_seed(1)
    state = SamTeacher([], "tiny").vit.state_dict()
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.save({f"image_encoder.{name.replace('mlp.fc', 'mlp.lin')}": tensor for name, tensor in state.items()}, path)
    return str(path)


def make(modalities: list[str] = NAMES, seed: int = 0, **settings: Any) -> MDKDMethod:
    torch.manual_seed(seed)
    return MDKDMethod(modalities, **{"teacher": "tiny", "stages": CHAIN, **settings})


def disc_batch(modality: tuple[int, ...] = (0, 1, 1, 0)) -> Any:
    """Discs, bright for fundus and dark for xray, as images (B, 3, 32, 32) in [0, 1] with masks."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centre = torch.rand((len(modality), 2), generator=random) * 12 + 10
    masks = ((y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2 < 49).float()[:, None]
    number = torch.tensor(modality)
    bright = torch.where((number == 1)[:, None, None, None], masks, 1 - masks)
    images = bright.expand(-1, 3, -1, -1) * 0.5 + 0.25 + 0.05 * torch.rand(masks.shape, generator=random)
    return SimpleNamespace(images=images, masks=masks, modality=number)


def step(stage: str) -> Any:
    return SimpleNamespace(stage=stage)


def everything(method: MDKDMethod) -> dict[str, Tensor]:
    """All tensors, those that are not kept included."""
    tensors = {**dict(method.named_parameters()), **dict(method.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("stage", "own_teacher", "learning", "statistics_move"),
    [
        ("common", False, ("network.encoder.",), True),
        ("teacher", False, ("teacher.controllers.1.", *HEADS), False),
        ("teacher", True, ("teacher.controllers.1.", "teacher.vit.", *HEADS), False),
        ("controllers", False, ("network.controllers.1.",), False),
        ("joint", False, ("network.",), True),
    ],
)
def test_only_what_shall_learn_moves(
    stage: str, own_teacher: bool, learning: tuple[str, ...], statistics_move: bool, sam_file: str, tmp_path: Path
) -> None:
    weights = {"teacher_weights": None if own_teacher else sam_file}
    save_file(make(["xray"], **weights, stages=["teacher"]).state_dict(), tmp_path / "start.safetensors")
    method = make(
        ["xray"], **weights, stages=[{"name": stage, "views": None}], start_from=str(tmp_path / "start.safetensors"),
        distillation_weight=1.0,
    )  # fmt: skip
    before = everything(method)
    run(method, replace(CONFIG, epochs=2, batch_size=2, learning_rate=1e-3), make_data(train=2, validation=2))
    moved = {name for name, tensor in everything(method).items() if not torch.equal(tensor, before[name])}
    moved.discard("through_teacher")
    statistics = {name for name in moved if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert bool(statistics) == statistics_move
    assert all(name.startswith("network.encoder.") for name in statistics)
    parameters = {name for name, _ in method.named_parameters() if name.startswith(learning)}
    strangers = moved - statistics - parameters
    assert not strangers
    # The bias of a key has no gradient: the softmax takes it out.
    assert len(moved & parameters) > 0.95 * len(parameters)


@pytest.mark.parametrize("stage", ["common", "controllers"])
def test_the_student_comes_to_imitate(stage: str) -> None:
    method, batch = make(), disc_batch((0, 1))
    chosen = method.network.encoder if stage == "common" else method.network.controllers
    with torch.no_grad():  # a teacher that differs from plain SAM, more than a fresh one does
        for name, parameter in method.teacher.controllers.named_parameters():
            parameter.add_(0.1 if name.endswith(("up.weight", "up.bias", "value_token")) else 0)
    optimizer = torch.optim.AdamW(chosen.parameters(), lr=2e-3)
    history = []
    for _ in range(5):
        loss, terms = method.training_loss(batch, step(stage))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(terms["imitation"]))
    assert history[-1] < 0.8 * history[0], history


def test_targets(sam_file: str) -> None:
    method, batch = make(teacher_weights=sam_file, stages=["common"]), disc_batch()
    with torch.no_grad():
        for name, parameter in method.teacher.controllers.named_parameters():
            parameter.add_(torch.randn_like(parameter) if "up" in name else 0)
        method.eval()
        plain = method.teacher(batch.images, (2, 2), None)
        adapted = method.teacher(batch.images, (2, 2), torch.tensor([1, 3, 3, 1]))
        for stage, target in (("common", plain), ("controllers", adapted)):
            method._views = {stage: None}
            numbers = None if stage == "common" else torch.tensor([1, 3, 3, 1])
            student = method.network.encode((batch.images - MEAN) / STD, numbers)
            assert method.training_loss(batch, step(stage))[0] == pytest.approx(
                float((student - target).square().mean()), rel=1e-4
            )


MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1) / 255
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1) / 255


def test_common_looks_at_no_mask() -> None:
    method, batch = make(), disc_batch()
    method.eval()
    loss = method.training_loss(batch, step("common"))[0]
    batch.masks = torch.full_like(batch.masks, math.nan)
    assert torch.equal(method.training_loss(batch, step("common"))[0], loss) and torch.isfinite(loss)


def test_joint_imitates_only_with_a_distillation_weight() -> None:
    batch = disc_batch()
    without, with_teacher = make().eval(), make(distillation_weight=0.5).eval()
    plain, terms = without.training_loss(batch, step("joint"))
    both, more = with_teacher.training_loss(batch, step("joint"))
    assert set(more) - set(terms) == {"imitation"}
    assert both.item() == pytest.approx(plain.item() + 0.5 * float(more["imitation"]), rel=1e-5)


def test_the_stage_says_who_predicts() -> None:
    method, batch = make().eval(), disc_batch()
    numbers = torch.tensor([1, 3, 3, 1])
    student = set(method.network.parameters())
    teacher = {p for name, p in method.named_parameters() if name.startswith(("teacher.", *HEADS))}
    with torch.no_grad():
        embedding = method.teacher(batch.images, (2, 2), numbers)
        by_teacher = method.network.decode(embedding, numbers, (32, 32)).logits
        by_student = method.network.predict(batch.images, numbers)
        assert torch.equal(method.predict(batch.images, batch.modality), by_student)  # `joint` comes last
        for stage, expected in (("teacher", by_teacher), ("controllers", by_student), ("joint", by_student)):
            method.training_loss(batch, step(stage))
            assert torch.equal(method.predict(batch.images, batch.modality), expected)
            assert set(method.deployed_parameters()) == (teacher if stage == "teacher" else student)
        alone = make(stages=["teacher"]).eval()
        assert torch.equal(alone.predict(batch.images, batch.modality), by_teacher)


@nothing_drawn()
def test_active_parameters_are_those_of_one_modality() -> None:
    for stage in ("teacher", "joint"):
        alone, two = make(["xray"], stages=[stage]), make(stages=[stage])
        own = len(alone.network.decoder.queries) * 256  # the table has a row for each number up to the largest
        more = len(two.network.decoder.queries) * 256 - own
        assert alone.active_parameters() == sum(p.numel() for p in alone.deployed_parameters())
        assert two.active_parameters() == alone.active_parameters() + more


def test_kept_embeddings_are_computed_once(sam_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = SamTeacher.forward
    monkeypatch.setattr(
        SamTeacher, "forward", lambda self, *arguments: calls.append(len(arguments[0])) or forward(self, *arguments)
    )
    batch = disc_batch()
    batch.image_names = [f"image {number}" for number in range(4)]

    def losses(method: MDKDMethod, stage: str) -> Tensor:
        method.use_cache(tmp_path)
        return method.eval().training_loss(batch, step(stage))[0].detach()

    chain = ["common", "teacher", "controllers"]
    first, second = (make(teacher_weights=sam_file, stages=chain) for _ in range(2))
    common = losses(first, "common")
    assert calls == [1, 1, 1, 1]  # one image at a time
    assert torch.equal(losses(second, "common"), common) and len(calls) == 4
    adapted = losses(first, "controllers")
    assert len(calls) == 8 and torch.equal(losses(second, "controllers"), adapted) and len(calls) == 8
    with torch.no_grad():
        second.teacher.controllers["3"].blocks[0].up.bias.add_(1)
    assert not torch.equal(losses(second, "controllers"), adapted) and len(calls) == 12
    assert torch.equal(losses(second, "common"), common) and len(calls) == 12  # SAM itself is what it was
    direct = make(teacher_weights=sam_file, stages=chain).eval()
    assert direct.training_loss(batch, step("common"))[0].item() == pytest.approx(common.item(), rel=1e-3)


def test_images_that_never_come_again_are_not_kept(tmp_path: Path) -> None:
    method = make()
    method.use_cache(tmp_path)
    method.training_loss(disc_batch(), step("common"))
    assert not list(tmp_path.iterdir())


def test_weights_of_a_file_are_not_kept_again(sam_file: str, tmp_path: Path) -> None:
    method = make(["xray"], teacher_weights=sam_file, stages=["teacher"])
    state = method.state_dict()
    assert not any(name.startswith("teacher.vit.") for name in state)
    assert any(name.startswith("teacher.controllers.1.") for name in state)
    assert len(method.teacher.vit.state_dict()) > 50
    other = make(["xray"], seed=5, teacher_weights=sam_file, stages=["teacher"])
    assert not same_bits(method, other)
    other.load_state_dict(state)
    assert same_bits(everything(method), everything(other))
    del state["network.decoder.queries"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"network.decoder.queries\"\. $"):
        other.load_state_dict(state)
    assert any(name.startswith("teacher.vit.") for name in make(["xray"]).state_dict())  # this one learns


def test_the_student_starts_alike_with_and_without_a_teacher() -> None:
    torch.manual_seed(0)
    alone = DeLightSAMMethod(NAMES).network
    assert same_bits(alone, make().network)


class Interrupted(Exception):
    pass


def stop_at(epoch: int) -> Callable[[EpochResult], None]:
    def on_epoch(event: EpochResult) -> None:
        if event.epoch == epoch:
            raise Interrupted

    return on_epoch


@pytest.mark.parametrize(
    ("from_file", "killed_in"), [(True, (3,)), pytest.param(False, (2, 3, 4), marks=pytest.mark.slow)]
)
def test_a_killed_chain_ends_with_the_same_bits(
    from_file: bool, killed_in: tuple[int, ...], sam_file: str, tmp_path: Path
) -> None:
    stages: list[Any] = ["common", "teacher", "controllers"] if from_file else CHAIN
    settings = {"stages": stages, "teacher_weights": sam_file if from_file else None}
    config = replace(CONFIG, epochs=4, batch_size=2, learning_rate=1e-3, selection="training_domain_validation")
    data = make_data(train=2, validation=2)

    def fresh(seed: int) -> MDKDMethod:
        method = make(["xray"], seed=seed, **settings)
        method.use_cache(tmp_path / "embeddings")
        return method

    whole = fresh(0)
    expected = run(whole, config, data)
    assert {row["stage"] for row in expected.curves} == {stage if from_file else stage["name"] for stage in stages}
    for epoch in killed_in:
        with pytest.raises(Interrupted):
            run(fresh(0 if epoch == killed_in[0] else epoch), config, data, folder=tmp_path, on_epoch=stop_at(epoch))
    saved = torch.load(tmp_path / "training.pt", weights_only=True)["method"]
    assert any(name.startswith("teacher.vit.") for name in saved) != from_file
    resumed = fresh(99)
    state = run(resumed, config, data, folder=tmp_path)
    assert same_bits(copy_of(whole), copy_of(resumed))
    assert repr(curves(state)) == repr(curves(expected))  # repr: `common` has no score, and NaN is not NaN


def test_stages_one_by_one(tmp_path: Path) -> None:
    first = make(stages=["teacher"])
    path = tmp_path / "model.safetensors"
    save_file(first.state_dict(), path)
    second = make(seed=3, stages=["common", "controllers"], start_from=str(path))
    kept = first.state_dict()
    assert all(torch.equal(t, kept[name]) for name, t in second.state_dict().items() if name != "through_teacher")
    assert not second.through_teacher  # the student is what comes out of these stages


@nothing_drawn()
def test_wrong_starts_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        make(start_from=str(tmp_path / "none.safetensors"))
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match=r"broken\.safetensors \(`start_from`\) is no whole safetensors file"):
        make(start_from=str(path))
    save_file(make(["xray"]).state_dict(), path)
    with pytest.raises(WeightsError, match=r"Nothing was loaded: .*\n *missing 'network\.controllers\.3"):
        make(start_from=str(path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ["common", "teacher"]}, "Stage 'common' needs a teacher that has learnt: put 'teacher' before it"),
        ({"stages": ["controllers"]}, "Stage 'controllers' needs a teacher that has learnt"),
        ({"stages": ["distil"]}, "Unknown stage 'distil'. Available: decode, joint, common, teacher, controllers"),
        (
            {"teacher": "b"},
            r"'b' needs its weights: download https://.*sam_vit_b_01ec64\.pth and set `teacher_weights`",
        ),
        ({"teacher": "z"}, "Unknown teacher size 'z'"),
        ({"distillation_weight": -1.0}, "`distillation_weight` is at least 0; found -1.0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(["xray"], **settings)


def settings_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((Path(suites.__file__).parent / "method" / f"{name}.yaml").read_text("utf-8"))


@nothing_drawn()
def test_the_tiny_chain_of_the_suite() -> None:
    method = build_method("delightsam_mdkd_tiny", settings_of("delightsam_mdkd_tiny")["model"], ["fundus"])
    assert [stage.name for stage in method.stages()] == ["teacher", "common", "controllers", "joint"]
    assert [stage.scored for stage in method.stages()] == [True, False, True, True]
    assert [stage.views for stage in method.stages()] == [None] * 4


@pytest.mark.parametrize("size", ["b", "l", "h"])
@nothing_drawn()
def test_published_teachers_of_the_suite(size: str, sam_file: str) -> None:
    settings = settings_of(f"delightsam_mdkd_{size}")
    assert settings["card"]["pretrained_on"] == ["SA-1B"]
    with pytest.raises(UserError, match=rf"download https://\S+/sam_vit_{size}_\w+\.pth and set `teacher_weights`"):
        build_method("mdkd", settings["model"], ["fundus"])
    with pytest.raises(UserError, match=r"/none\.pth; there is no such file"):
        build_method("mdkd", settings["model"] | {"teacher_weights": "/none.pth"}, ["fundus"])
    model = settings["model"] | {"teacher": "tiny", "teacher_weights": sam_file}
    method = build_method("mdkd", model, ["fundus"])
    assert [(stage.name, stage.views) for stage in method.stages()] == [
        ("common", 4), ("teacher", None), ("controllers", 4),
    ]  # fmt: skip

"""Decode and joint: what learns, what stands still, and that going on after a kill is going on in the right stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import CONFIG, copy_of, curves, make_data, run, same_bits

from delightsam import DeLightSAM, save
from delightsam.training.method import DeLightSAMMethod
from delightsam.training.oracle_prompt import OraclePatchMethod
from delightsam.training.stages import Stage, read_stages, segmentation_stages
from harness.training.epoch_result import EpochResult
from harness.training.seeding import seed_everything

pytestmark = pytest.mark.usefixtures("shallow")

BOTH: list[Any] = [{"name": "decode", "views": 2}, "joint"]
SETTINGS = replace(CONFIG, epochs=2, augmentation="standard", learning_rate=1e-3, clip_norm=1.0)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(0)
    save(DeLightSAM(modalities=(1,), image_size=32), path)
    return path


@pytest.fixture
def make(pretrained: Path) -> Callable[..., DeLightSAMMethod]:
    def build(seed: int = 0, cache: Path | None = None, **options: Any) -> DeLightSAMMethod:
        seed_everything(seed, 0)
        method = DeLightSAMMethod(["xray"], weights=str(pretrained), **{"stages": BOTH, **options})
        if cache is not None:
            method.use_cache(cache)
        return method

    return build


# --- the configuration -----------------------------------------------------------------------------------------------


def test_names_and_mappings_make_stages() -> None:
    available = segmentation_stages(pretrained=True)
    decode, joint = read_stages(["decode", {"name": "joint", "share": 2, "learning_rate": 0.1}], available)
    assert decode == available["decode"]
    assert joint == replace(available["joint"], share=2, learning_rate=0.1)
    (slow,) = read_stages([{"name": "joint", "trainable": ["network.*"], "views": 0}], available)
    assert slow.trainable == ("network.*",) and slow.views == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "needs one or more different stages of decode, joint"),
        (["joint", {"name": "joint"}], r"found \['joint', 'joint'\]"),
        (["decod"], "Unknown stage 'decod'. Available: decode, joint"),
        ([{"share": 2}], "Unknown stage None"),
        ([{"name": "joint", "rate": 2}], "Stage 'joint' has no setting rate. Available: name, share"),
        ([{"name": "decode", "views": None}], "Stage 'decode' needs `views`"),
    ],
)
def test_stages_that_make_no_sense_are_named(given: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_stages(given, segmentation_stages(pretrained=True))


# --- training --------------------------------------------------------------------------------------------------------


def test_each_stage_moves_its_parts_and_nothing_else(make: Callable[..., DeLightSAMMethod], tmp_path: Path) -> None:
    method = make(cache=tmp_path)
    before = copy_of(method)
    seen: dict[str, set[str]] = {}

    def look(event: EpochResult) -> None:
        now = method.state_dict()
        moved = [name for name, tensor in now.items() if not torch.equal(tensor, before[name])]
        seen[event.stage] = {".".join(name.split(".")[:2]) for name in moved}
        before.update(copy_of(method))

    run(method, SETTINGS, make_data(train=4, validation=2), on_epoch=look)
    assert seen["decode"] == {"network.prompts", "network.decoder", "without_controllers"}
    assert seen["joint"] == {"network.controllers", "network.prompts", "network.decoder", "without_controllers"}


def test_a_backbone_may_learn_slowly(make: Callable[..., DeLightSAMMethod]) -> None:
    slow = {"name": "joint", "trainable": ["network.*"], "learning_rate": {"network.encoder.*": 1e-4}}
    method = make(stages=[slow])
    before = copy_of(method)
    run(method, replace(SETTINGS, epochs=1, optimizer="sgd", clip_norm=None), make_data(train=4, validation=2))

    def moved(part: str) -> float:
        names = [name for name, _ in method.named_parameters() if name.startswith(part)]
        return max(float((method.state_dict()[name] - before[name]).abs().max()) for name in names)

    assert 0 < moved("network.encoder") < 1e-2 * moved("network.decoder")


def test_decoding_computes_each_view_once_for_all_trials(
    make: Callable[..., DeLightSAMMethod], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = DeLightSAM.encode

    def counted(self: DeLightSAM, images: torch.Tensor, modality: Any) -> torch.Tensor:
        calls.append(len(images))
        return encode(self, images, modality)

    monkeypatch.setattr(DeLightSAM, "encode", counted)
    config, data = replace(SETTINGS, epochs=3), make_data(train=4, validation=2)
    first, second = (make(stages=BOTH[:1], cache=tmp_path) for _ in range(2))
    run(first, config, data)
    # Two views of each training image, and the validation images as they are; one image at a time.
    assert calls == [1] * (2 * len(data.train) + len(data.score))
    run(second, config, data, seed=5)
    assert len(calls) == 2 * len(data.train) + len(data.score)
    run(third := make(stages=BOTH[:1], cache=tmp_path), config, data)
    assert same_bits(first, third)


def test_what_is_in_the_cache_changes_no_bit(make: Callable[..., DeLightSAMMethod], tmp_path: Path) -> None:
    cold, warm = make(cache=tmp_path), make(cache=tmp_path)
    data = make_data(train=4, validation=2)
    expected = run(cold, SETTINGS, data)
    assert curves(run(warm, SETTINGS, data)) == curves(expected)
    assert same_bits(cold, warm)


class Killed(Exception):
    pass


@pytest.mark.parametrize("last", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_in_its_stage(
    last: int, make: Callable[..., DeLightSAMMethod], tmp_path: Path
) -> None:
    config = replace(SETTINGS, epochs=4, selection="training_domain_validation")
    whole = make(cache=tmp_path / "cache")
    data = make_data(train=4, validation=2)
    expected = run(whole, config, data)

    def kill(event: EpochResult) -> None:
        if event.epoch == last + 1:
            raise Killed

    with pytest.raises(Killed):
        run(make(cache=tmp_path / "cache"), config, data, folder=tmp_path, on_epoch=kill)
    resumed = make(seed=9, cache=tmp_path / "cache")
    assert curves(run(resumed, config, data, folder=tmp_path)) == curves(expected)
    assert same_bits(whole, resumed)
    assert not resumed.without_controllers


# --- prediction ------------------------------------------------------------------------------------------------------


def test_prediction_leaves_the_controllers_out_from_decode_to_joint(
    make: Callable[..., DeLightSAMMethod], tmp_path: Path
) -> None:
    method = make(stages=BOTH[:1], cache=tmp_path)
    run(method, SETTINGS, make_data(train=4, validation=2))
    assert method.without_controllers
    images, modality = torch.rand(2, 3, 32, 32), torch.tensor([0, 0])
    with torch.no_grad():
        for parameter in method.network.controllers.parameters():
            parameter.fill_(0.5)
        kept = method.predict(images, modality)
        fresh = make()
        fresh.load_state_dict(method.state_dict())  # whoever loads the weights predicts as they were tested
        plain = fresh.eval().predict(images, modality)
        method.without_controllers.fill_(False)
        controlled = method.predict(images, modality)
    torch.testing.assert_close(kept, plain, rtol=0, atol=2e-2)  # of float16 in the cache
    assert float((controlled - plain).abs().max()) > 0.1


def test_the_start_of_joint_is_the_end_of_decode(make: Callable[..., DeLightSAMMethod]) -> None:
    method = make().eval()
    images, modality = torch.rand(2, 3, 32, 32), torch.tensor([0, 0])
    with torch.no_grad():
        controlled = method.predict(images, modality)
        method.without_controllers.fill_(True)
        torch.testing.assert_close(method.predict(images, modality), controlled, rtol=0, atol=1e-2)


def test_the_oracle_is_prompted_with_the_true_patches(pretrained: Path) -> None:
    method = OraclePatchMethod(["xray"], weights=str(pretrained)).eval()
    torch.nn.init.ones_(method.network.prompts.encoder[1].weight)  # a fresh prompt is zero
    images, modality = torch.rand(1, 3, 64, 64), torch.tensor([0])
    masks = torch.zeros(1, 1, 64, 64)
    masks[..., 40, 10] = 1
    patches = torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]])
    with torch.no_grad():
        shown = method.predict_oracle(images, modality, masks)
        assert torch.equal(shown, method.outputs(images, modality, patches).logits)
        assert not torch.equal(shown, method.predict_oracle(images, modality, 1 - masks))
    run(method, replace(SETTINGS, epochs=1))
    assert Stage("joint") != method.stages()[0]  # pretrained: the encoder stays as it is

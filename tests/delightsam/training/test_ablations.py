"""Ablations: each leaves out what it says, and its file follows the whole model's start."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM
from delightsam.modeling.convolutional_decoder import ConvolutionalDecoder
from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.methods.building import build_method
from harness.methods.card import check_method_config

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]
ABLATIONS = [name for name in option_names("method") if name.startswith("ablation_")]
NO_CONTROLLERS = ("ablation_no_controllers", "ablation_convolutional_decoder")
NO_PROMPTS = ("ablation_no_prompts", "ablation_convolutional_decoder")


@pytest.fixture(scope="module")
def methods() -> dict[str, Any]:
    return load_config(["suite=ablation"]).methods


def parameters_of(model: torch.nn.Module) -> set[str]:
    """Names up to the third part, such as `network.decoder.queries`."""
    return {".".join(name.split(".")[:3]) for name, _ in model.named_parameters()}


def test_suite_runs_the_whole_model_and_all_ablations(methods: dict[str, Any]) -> None:
    assert set(methods) == {"delightsam", "delightsam_auto", "delightsam_mdkd_tiny", *ABLATIONS}
    titles = [method["card"]["title"] for method in methods.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", [*ABLATIONS, "delightsam_auto"])
def test_a_file_builds_a_method_that_learns(methods: dict[str, Any], name: str) -> None:
    config = methods[name]
    check_method_config(name, config)
    method = build_method(name, config["model"], ["dermoscopy", "xray"], prompt=config["card"]["prompt"])
    batch = SimpleNamespace(
        images=torch.rand(2, 3, 64, 64), masks=torch.ones(2, 1, 64, 64), modality=torch.tensor([0, 1])
    )
    loss, _ = method.train().training_loss(batch, SimpleNamespace(stage="joint"))
    loss.backward()
    assert loss.isfinite()
    has = parameters_of(method)
    assert any("controllers" in name for name in has) == (name not in NO_CONTROLLERS)
    assert any("prompts" in name for name in has) == (name not in NO_PROMPTS)
    assert ("network.decoder.queries" in has) == (name != "ablation_convolutional_decoder")


def test_one_word_gives_all_another_start() -> None:
    """Any method at methods.delightsam does; here one that needs no weights file."""
    changed = load_config(["suite=ablation", "+method@methods.delightsam=delightsam_mdkd_tiny"]).methods
    for name in set(ABLATIONS) - {"ablation_no_distillation"}:
        assert changed[name]["model"]["stem"] == "pixel", name
        assert [stage["name"] for stage in changed[name]["model"]["stages"]][-1] == "joint", name
        assert changed[name]["card"]["pretrained"] == "none"
    alone = load_config(["method=ablation_tokens_only"]).methods["ablation_tokens_only"]
    assert alone["model"]["stem"] == "standard" and alone["model"]["stages"] == ["joint"]
    assert alone["model"]["encoder_weights"] is None and alone["card"]["pretrained_on"] == []


def test_one_query_makes_a_decoder_that_does_not_know_the_modality(build: Build, images: Images) -> None:
    model, x = build(queries=1, hypernetworks="shared", controllers="none"), images(1, 64)
    with torch.no_grad():
        assert torch.equal(model(x, 0), model(x, 5))
        knowing = build(queries=1, hypernetworks="per_modality", controllers="none")
        assert not torch.equal(knowing(x, 0), knowing(x, 5))


def test_without_prompts_the_decoder_sees_the_embedding_alone(build: Build, images: Images) -> None:
    model, x = build(prompts="none"), images(2, 64)
    with torch.no_grad():
        outputs = model.outputs(x, torch.tensor([2, 0]))
        whole = build()
        whole.load_state_dict(whole.state_dict() | model.state_dict())
        nothing = torch.zeros(2, 1, 2, 2)
        prompted = whole.outputs(x, torch.tensor([2, 0]), nothing).logits
    assert outputs.patch_logits is None and outputs.logits.isfinite().all()
    assert (outputs.logits - prompted).abs().max() > 1e-3  # even a prompt of zeros is a prompt
    with pytest.raises(ValueError, match="takes no patches"):
        model.outputs(x, 0, nothing)


def test_given_patches_replace_the_self_made_prompt(build: Build, images: Images) -> None:
    model, x, modality = build(), images(3, 64), torch.tensor([5, 0, 2])
    with torch.no_grad():
        own = model.outputs(x, modality)
        assert own.patch_logits is not None
        patches = (own.patch_logits >= 0).float()
        same = model.outputs(x, modality, patches)
        other = model.outputs(x, modality, 1 - patches)
        decoded = model.decode(own.embedding, modality, (64, 64), patches)
    for name in ("logits", "patch_logits", "embedding"):
        assert torch.equal(getattr(same, name), getattr(own, name))
        torch.testing.assert_close(getattr(decoded, name), getattr(own, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(other.patch_logits, own.patch_logits)
    assert (other.logits - own.logits).abs().max() > 1e-2
    with pytest.raises(ValueError, match=r"Patches are expected as \(3, 1, 2, 2\); found \(3, 1, 4, 4\)"):
        model.outputs(x, modality, torch.zeros(3, 1, 4, 4))


def test_convolutional_decoder(build: Build, images: Images) -> None:
    model, x, modality = build(decoder="convolutional", prompts="none"), images(3, 64), torch.tensor([5, 0, 2])
    assert isinstance(model.decoder, ConvolutionalDecoder)
    counts = model.parameter_counts()
    controller = sum(parameter.numel() for parameter in model.controllers["0"].parameters())
    assert counts["total"] - counts["active"] == 2 * controller > 0
    with torch.no_grad():
        expected = model(x, modality)
        alone = torch.cat([model(x[i : i + 1], int(modality[i])) for i in range(3)])
        torch.testing.assert_close(expected, alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.fuse()(x, modality), expected, atol=1e-4, rtol=1e-4)
    assert expected.shape == (3, 1, 64, 64) and expected.std() > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": "oracle"}, "`prompts` is one of self, none; found 'oracle'"),
        ({"decoder": "unet"}, "`decoder` is one of query, convolutional; found 'unet'"),
    ],
)
def test_unknown_parts_are_named(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeLightSAM(**fields)

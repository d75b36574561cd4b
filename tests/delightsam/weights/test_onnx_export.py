"""The ONNX file computes what the model computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.depth import REAL

from delightsam import DeLightSAM
from delightsam.modeling import tiny_vit
from delightsam.weights.onnx_export import export_onnx

# The exporter takes seconds for a block, and treats all of a stage alike. The decoder's two blocks differ: both are there.
FEWEST = (1, 1, 1, 1)
Build = Callable[..., DeLightSAM]


@pytest.mark.parametrize("blocks", [FEWEST, pytest.param(REAL, marks=pytest.mark.slow)], ids=["fewest", "real"])
def test_the_file_equals_the_model_for_any_batch(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: tuple[int, ...]
) -> None:
    monkeypatch.setattr(tiny_vit, "DEPTHS", blocks)
    model = build(image_size=64, preprocessing="minmax")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_onnx(model, "ultrasound", tmp_path / "ultrasound.onnx")
    assert not model.fused and all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    file = onnx.load(tmp_path / "ultrasound.onnx")
    assert not file.functions and len(file.graph.node) < 200 * sum(blocks)  # as traced: three times as many
    session = onnxruntime.InferenceSession(tmp_path / "ultrasound.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(batch))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            expected = model.predict(images, 2).numpy()
        assert found.shape == (batch, 1, 64, 64) and found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_what_can_not_be_exported_is_refused(build: Build, tmp_path: Path) -> None:
    model = build(image_size=64)
    with pytest.raises(ValueError, match="knows the modality numbers"):
        export_onnx(model, "fundus", tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=r"model.eval\(\)"):
        export_onnx(build(image_size=64).train(), 2, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="float32"):
        export_onnx(model.to(torch.bfloat16), 2, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())

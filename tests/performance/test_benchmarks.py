"""Speeds to keep an eye on, by pytest-benchmark: `make performance` prints them, `--benchmark-autosave` keeps them.

Nothing is asserted here: clock times compare only within one machine. What must hold is asserted as a ratio of two times
in the other files of this folder.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.config.loading import load_config
from harness.methods.building import build_method
from harness.metrics import evaluate_pair
from tests.performance.masks import lesion_pair, vessel_pair

pytestmark = pytest.mark.performance
MODALITIES = ["dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy"]


@pytest.mark.parametrize("draw", [lesion_pair, vessel_pair])
def test_all_metrics_of_a_pair_at_1024(benchmark: Any, draw: Any) -> None:
    prediction, reference = draw(1024)
    measured = benchmark(evaluate_pair, prediction, reference)
    assert 0 < measured["dice"] < 1


@pytest.mark.parametrize("name", ["delightsam", "unet", "deeplabv3plus", "segformer"])
def test_predict_one_image_at_256(benchmark: Any, name: str) -> None:
    torch.set_num_threads(1)
    method = build_method(name, load_config([f"method=[{name}]"]).methods[name]["model"], MODALITIES).eval()
    image, modality = torch.rand(1, 3, 256, 256), torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        logits = benchmark.pedantic(method.predict, (image, modality), rounds=10, warmup_rounds=2)
    assert logits.shape == (1, 1, 256, 256)

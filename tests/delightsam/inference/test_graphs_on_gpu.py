"""What only a GPU shows of an accelerated model: recorded graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from delightsam import DeLightSAM, accelerate

pytestmark = pytest.mark.usefixtures("shallow")

Build = Callable[..., DeLightSAM]
Images = Callable[[int, int], Tensor]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="recorded graphs need a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorded_graphs(build: Build, images: Images, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed with other images and other modalities; of more kinds than are kept."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # of convolutions: three digits
    model = build(modalities=(0, 1, 2, 3, 4, 5)).cuda()
    fast = accelerate(model, image_size=128, batch_size=3, dtype=dtype)
    x = images(9, 128).cuda()
    batches: list[Tensor | int] = [*range(6), torch.tensor([0, 1, 2]), torch.tensor([5, 5, 3]), 0, 1]
    for start in (0, 6, 3):
        for numbers in batches:
            part = x[start : start + 3]
            with torch.inference_mode():
                expected = model(part, numbers if isinstance(numbers, int) else numbers.cuda())
            found = fast(part, numbers)
            if dtype == torch.float32:
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            assert torch.corrcoef(torch.stack((expected.flatten(), found.flatten())))[0, 1] > 0.99
            assert torch.equal(fast(part, numbers), found)

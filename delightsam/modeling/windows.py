"""Which tokens of a map lie in which window, for maps that do not divide into windows, too."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=64)
def window_rows(height: int, width: int, window: int, has_tokens: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows that sort the tokens of a map by windows, and back.

    Args:
        has_tokens: a window ends with a controller's token.

    Returns:
        (windows * (N + 1),) rows of the map's H * W tokens, behind which lie a padded token and the controller's: the N
        tokens of each window, then the controller's (without: (windows * N,)). And (H * W,) rows of the windows' N tokens
        each: where every token of the map is found again.
    """
    count = height * width
    down, right = -height % window, -width % window
    with torch.inference_mode(False):  # kept, and used in training
        padded = F.pad(torch.arange(count).view(height, width), (0, right, 0, down), value=count)
        inside = padded.unflatten(1, (-1, window)).unflatten(0, (-1, window)).transpose(1, 2).reshape(-1, window**2)
        scatter = torch.empty(count + 1, dtype=torch.int64)
        scatter[inside.flatten()] = torch.arange(inside.numel())
        if has_tokens:
            inside = F.pad(inside, (0, 1), value=count + 1)
        return inside.flatten().to(device), scatter[:count].to(device)

"""DC-Encoder: TinyViT with modality controllers, and the neck that SAM puts after its image encoder."""

# torch types the call of a module as Any.
from __future__ import annotations

from torch import Tensor, nn

from delightsam.modeling.controllers import Controllers
from delightsam.modeling.layers import LayerNorm2d
from delightsam.modeling.tiny_vit import WIDTHS, TinyViT

EMBEDDING_CHANNELS = 256


class Encoder(nn.Module):
    """Images to embeddings: (B, 3, S, S) -> (B, 256, S/16, S/16), or S/4 with the stem "pixel".

    The controllers live outside (`DeLightSAM.controllers`), so that the shared part can be frozen, loaded or replaced
    by itself.
    """

    def __init__(self, stem: str = "standard") -> None:
        super().__init__()
        self.backbone = TinyViT(stem)
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING_CHANNELS, 1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_CHANNELS),
        )

    def forward(self, images: Tensor, controllers: Controllers = ()) -> Tensor:
        return self.neck(self.backbone(images, controllers)[-1])

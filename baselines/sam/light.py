"""LiteMedSAM and MobileSAM in our own code: TinyViT of delightsam, SAM's prompt encoder and SAM's mask decoder.

LiteMedSAM: Ma et al., bowang-lab/MedSAM, branch LiteMedSAM. MobileSAM: Zhang et al. 2023, arXiv 2306.14289. Prompts and
decoder: Kirillov et al., "Segment Anything", ICCV 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.sam.preprocessing import Preprocessing
from delightsam.modeling.decoder import Decoder, Hypernetwork
from delightsam.modeling.encoder import EMBEDDING_CHANNELS, Encoder
from delightsam.weights.sam_family import KINDS, read_sam_family
from delightsam.weights.weights_files import WeightsError

# One token and one MLP for a single mask (number 0), and three for the parts of an ambiguous object.
_TOKENS = 4
_SIDES = {"lite_medsam": 256, "mobile_sam": 1024}


class PromptEncoder(nn.Module):
    """Boxes and points to tokens. Masks as prompts are left out: nobody gives any here."""

    def __init__(self) -> None:
        super().__init__()
        # A point outside the object, one inside, a box's left upper corner, its right lower one.
        self.kinds = nn.Parameter(torch.randn(4, EMBEDDING_CHANNELS))
        self.not_a_point = nn.Parameter(torch.randn(EMBEDDING_CHANNELS))
        self.no_mask = nn.Parameter(torch.randn(EMBEDDING_CHANNELS))

    def forward(self, prompts: Tensor, side: int, frequencies: Tensor) -> Tensor:
        """Tokens (N, 2, 256) of boxes (N, 4) or points (N, 2) in pixels of a square of `side`."""
        with torch.autocast(prompts.device.type, enabled=False):  # as the decoder's position code
            places = (prompts.float().unflatten(1, (-1, 2)) + 0.5) / side
            angle = 2 * math.pi * ((2 * places - 1) @ frequencies.float())
            code = torch.cat((angle.sin(), angle.cos()), dim=-1)
            if prompts.shape[1] == 4:
                return code + self.kinds[2:]
            return torch.cat((code + self.kinds[1], self.not_a_point.expand(len(code), 1, -1)), dim=1)


class MaskDecoder(nn.Module):
    """SAM's mask decoder: the parts that delightsam's has too, all of SAM's tokens, and its guess at their quality."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = Decoder((0,), _TOKENS, "shared")
        self.quality_token = nn.Parameter(torch.randn(1, EMBEDDING_CHANNELS))
        self.parts = nn.ModuleList(Hypernetwork() for _ in range(1, _TOKENS))
        self.quality = nn.ModuleList(nn.Linear(EMBEDDING_CHANNELS, n) for n in (EMBEDDING_CHANNELS,) * 2 + (_TOKENS,))

    def forward(self, image: Tensor, tokens: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Masks of one image, one for each prompt.

        Args:
            image: (256, h, w) its embedding, with the one for "no mask" added.
            tokens: (N, P, 256) of the prompts.
            multimask: three masks for each prompt instead of one.

        Returns:
            Logits (N, M, 4h, 4w) and the predicted IoU (N, M) of each; M is 3 or 1.
        """
        shared, count = self.shared, len(tokens)
        height, width = image.shape[-2:]
        position = shared.position(height, width).to(image.dtype)
        grid = image.flatten(1).T.expand(count, -1, -1)
        own = torch.cat((self.quality_token, shared.queries)).expand(count, -1, -1)
        code = torch.cat((own, tokens), dim=1).to(image.dtype)
        queries = code
        for layer in shared.layers:
            queries, grid = layer(queries, grid, code, position)
        queries = shared.final_norm(queries + shared.final_attention(queries + code, grid + position, grid))
        upscaled = shared.upscale(grid.transpose(1, 2).unflatten(2, (height, width)))
        networks = list(self.parts) if multimask else [shared.hypernetworks["shared"]]
        chosen = slice(1, _TOKENS) if multimask else slice(0, 1)
        kernels = torch.stack(
            [net(query) for net, query in zip(networks, queries[:, 1:].unbind(1)[chosen], strict=False)], dim=1
        )
        quality = queries[:, 0]
        for layer in self.quality[:-1]:
            quality = F.relu(layer(quality))
        masks = kernels @ upscaled.flatten(2)
        return masks.unflatten(2, upscaled.shape[-2:]), self.quality[-1](quality)[:, chosen]


class LightSam(nn.Module):
    """LiteMedSAM or MobileSAM.

    Args:
        weights: path of the file `lite_medsam.pth` or `mobile_sam.pt`.
        kind: "lite_medsam" or "mobile_sam".

    Raises:
        WeightsError: no such file, one of another kind, or keys or shapes that don't fit.
    """

    def __init__(self, weights: str | Path, kind: str) -> None:
        super().__init__()
        read = read_sam_family(weights)  # strict: every key of the file is known, none is missing
        if read.kind != kind:
            raise WeightsError(f"Expected {weights} to hold {kind} weights; found {read.kind}.")
        self.encoder = Encoder(read.stem)
        self.prompts = PromptEncoder()
        self.decoder = MaskDecoder()
        self.encoder.load_state_dict(read.encoder)
        shared = {f"shared.{name}": tensor for name, tensor in read.decoder.items()}
        shared |= {f"shared.hypernetworks.shared.{name}": tensor for name, tensor in read.hypernetwork.items()}
        prompts, rest = _renamed(read.state)
        self.prompts.load_state_dict(prompts)
        self.decoder.load_state_dict(shared | rest)
        self.preprocessing = Preprocessing(KINDS[kind][1], keeps_aspect=True, side=_SIDES[kind])

    def embed(self, pixels: Tensor) -> list[tuple[Tensor, ...]]:
        """(B, 3, side, side) normalised -> for each image its embedding (256, h, w)."""
        return [(image,) for image in self.encoder(pixels)]

    def masks(self, embedding: tuple[Tensor, ...], prompts: Tensor, multimask: bool) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) for boxes (N, 4) or points (N, 2) on one image."""
        image = embedding[0] + self.prompts.no_mask[:, None, None]
        tokens = self.prompts(prompts, self.preprocessing.side, self.decoder.shared.frequencies)
        return self.decoder(image, tokens, multimask)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Of the mask decoder, those that a single mask depends on."""
        idle = {*self.decoder.parts.parameters(), *self.decoder.quality.parameters()}
        return [parameter for parameter in self.decoder.parameters() if parameter not in idle]


def _renamed(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What `read_sam_family` leaves out, in our names: of the prompt encoder, and of the mask decoder."""
    prompts = {
        "kinds": torch.cat([state[f"prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)]),
        "not_a_point": state["prompt_encoder.not_a_point_embed.weight"][0],
        "no_mask": state["prompt_encoder.no_mask_embed.weight"][0],
    }
    decoder = {
        "shared.queries": state["mask_decoder.mask_tokens.weight"],
        "quality_token": state["mask_decoder.iou_token.weight"],
    }
    for name, tensor in state.items():
        place = name.removeprefix("mask_decoder.").split(".")
        if place[0] == "output_hypernetworks_mlps" and place[1] != "0":
            decoder[".".join(("parts", str(int(place[1]) - 1), *place[2:]))] = tensor
        elif place[0] == "iou_prediction_head":
            decoder[".".join(("quality", *place[2:]))] = tensor
    return prompts, decoder

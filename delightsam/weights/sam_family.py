"""Light members of the SAM family as a start: LiteMedSAM (`lite_medsam.pth`) and MobileSAM (`mobile_sam.pt`).

Both are SAM with TinyViT as image encoder. Their encoder is ours without controllers. Their mask decoder gives the
QM-Decoder its two-way transformer, its upscaling and its position code; every query starts as SAM's token for a single
mask, every hypernetwork as that token's MLP.

LiteMedSAM: Ma et al., bowang-lab/MedSAM, branch LiteMedSAM. MobileSAM: Zhang et al. 2023, arXiv 2306.14289.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from delightsam.modeling.decoder import Decoder
from delightsam.modeling.encoder import Encoder
from delightsam.modeling.model import DeLightSAM
from delightsam.weights.file_kinds import DESCRIPTIONS, file_kind
from delightsam.weights.published_layout import UNUSED_KEYS, shared_name
from delightsam.weights.weights_files import WeightsError, check_shapes, read_state_dict

# kind -> (stem, preprocessing preset)
KINDS = {"lite_medsam": ("pixel", "minmax"), "mobile_sam": ("standard", "sam")}

_MASK_TOKENS = "mask_decoder.mask_tokens.weight"
# SAM has one token and one MLP for a single mask (number 0), and three for the parts of an ambiguous object.
_TOKENS = 4
_HYPERNETWORK = "hypernetworks.shared."
# The classifier of TinyViT: some files hold it, none uses it.
_CLASSIFIER = ("image_encoder.norm_head.", "image_encoder.head.")


@dataclass(frozen=True)
class SamWeights:
    """A light SAM in our names.

    Attributes:
        kind: "lite_medsam" or "mobile_sam".
        stem: what the model's config must say.
        preprocessing: the preset that the encoder was trained with.
        encoder: the state dict of an `Encoder(stem)`, complete.
        decoder: that of a `Decoder`, without its queries and hypernetworks.
        query: (256,) SAM's token of a single mask.
        hypernetwork: the state dict of a `Hypernetwork`.
        state: all tensors by the names of the file, those that De-LightSAM has no place for included.
    """

    kind: str
    stem: str
    preprocessing: str
    encoder: dict[str, Tensor]
    decoder: dict[str, Tensor]
    query: Tensor
    hypernetwork: dict[str, Tensor]
    state: dict[str, Tensor]


def read_sam_family(path: str | Path) -> SamWeights:
    """Reads a LiteMedSAM or MobileSAM file, also one inside `{"model": ...}` or `{"state_dict": ...}`.

    Raises:
        WeightsError: no such file, a damaged one, another kind, or a key that is missing, unknown or of another shape.
    """
    state = read_state_dict(path)
    kind = file_kind(state)
    if kind not in KINDS:
        raise WeightsError(
            f"Expected {path} to be LiteMedSAM or MobileSAM weights; found {DESCRIPTIONS[kind]}. "
            f"Its first keys: {', '.join(list(state)[:3]) or 'none'}."
        )
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_CLASSIFIER)}
    stem, preprocessing = KINDS[kind]
    with torch.device("meta"):  # names and shapes only
        encoder = {name: tuple(tensor.shape) for name, tensor in Encoder(stem).state_dict().items()}
        decoder = {name: tuple(t.shape) for name, t in Decoder((0,), _TOKENS, "shared").state_dict().items()}
    encoder_names = {_sam_name(f"encoder.{name}"): name for name in encoder}
    decoder_names = {_sam_name(f"decoder.{name}"): name for name in decoder}
    expected = {sam: encoder[own] for sam, own in encoder_names.items()}
    expected |= {sam: decoder[own] for sam, own in decoder_names.items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    check_shapes(expected | _unused(expected), found, f"{path} ({kind})")
    taken = {own: state[sam] for sam, own in decoder_names.items()}
    return SamWeights(
        kind,
        stem,
        preprocessing,
        encoder={own: state[sam] for sam, own in encoder_names.items()},
        decoder={own: t for own, t in taken.items() if own != "queries" and not own.startswith(_HYPERNETWORK)},
        query=taken["queries"][0],
        hypernetwork={own.removeprefix(_HYPERNETWORK): t for own, t in taken.items() if own.startswith(_HYPERNETWORK)},
        state=state,
    )


def initialise_from(model: DeLightSAM, path: str | Path, decoder: bool = True) -> SamWeights:
    """Fills a model's shared encoder, and what its decoder can take, from a file of `read_sam_family`, in place.

    Controllers and the SP-Generator stay as they are: the SAM family has neither.

    Args:
        decoder: take over the mask decoder too; a decoder other than the QM-Decoder stays as it is.

    Returns:
        What was read.

    Raises:
        WeightsError: a file that can't be read, or weights that belong to another stem or preprocessing than the
            model's config says. The model is then unchanged.
    """
    weights = read_sam_family(path)
    for setting in ("stem", "preprocessing"):
        expected, found = getattr(weights, setting), getattr(model.config, setting)
        if expected != found:
            raise WeightsError(
                f"{path} holds {weights.kind} weights, which need {setting} = '{expected}'; "
                f"found {setting} = '{found}' in the model's config. Set {setting}: {expected}."
            )
    if model.fused:
        raise WeightsError("A fused model takes no weights: build it anew.")
    model.encoder.load_state_dict(weights.encoder)
    if decoder and isinstance(model.decoder, Decoder):
        _fill_decoder(model.decoder, weights)
    return weights


def _fill_decoder(decoder: Decoder, weights: SamWeights) -> None:
    state: Mapping[str, Tensor] = decoder.state_dict()
    queries = {n: weights.query.expand_as(t) for n, t in state.items() if n.startswith(("queries", "added_queries."))}
    decoder.load_state_dict({**state, **weights.decoder, **queries})
    for hypernetwork in decoder.hypernetworks.values():
        hypernetwork.load_state_dict(weights.hypernetwork)


def _sam_name(own: str) -> str:
    """SAM's name of one of our tensors: De-LightSAM's authors renamed the encoder and the mask tokens only."""
    theirs = shared_name(own)
    return _MASK_TOKENS if theirs == "mask_query.weight" else theirs.replace("SemiTViT.", "image_encoder.", 1)


def _unused(used: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """What SAM's prompts and mask decoder hold beside it."""
    single = "mask_decoder.output_hypernetworks_mlps.0."
    others = {
        name.replace(single, f"mask_decoder.output_hypernetworks_mlps.{i}."): shape
        for i in range(1, _TOKENS)
        for name, shape in used.items()
        if name.startswith(single)
    }
    head = "mask_decoder.iou_prediction_head.layers"
    quality = {"mask_decoder.iou_token.weight": (1, 256)} | {
        f"{head}.{i}.{part}": shape
        for i, width in enumerate((256, 256, _TOKENS))
        for part, shape in (("weight", (width, 256)), ("bias", (width,)))
    }
    prompts = {name: shape for name, shape in UNUSED_KEYS.items() if name.startswith("prompt_encoder.")}
    return others | quality | prompts

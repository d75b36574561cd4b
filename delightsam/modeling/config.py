"""What a De-LightSAM model is, in plain values: written into every checkpoint, checked when a model is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from delightsam.modeling.controllers import CONTROLLER_KINDS
from delightsam.modeling.decoder import HYPERNETWORKS
from delightsam.modeling.preprocessing import PRESETS
from delightsam.modeling.prompts import PROMPT_KINDS
from delightsam.modeling.tiny_vit import STEMS

# The published numbering; further modalities follow at 6. Published weights depend on it.
MODALITY_NUMBERS = {
    "dermoscopy": 0, "xray": 1, "ultrasound": 2, "fundus": 3, "microscopy": 4, "colonoscopy": 5,
}  # fmt: skip
DECODERS = ("query", "convolutional")


@dataclass(frozen=True)
class DeLightSAMConfig:
    """Architecture and preprocessing of one model.

    Attributes:
        modalities: numbers of the modalities the model knows, ascending; each has its controller and its query row.
        added: those of them that were added to a trained model (see delightsam.weights.add_modality): their query is a row of their
            own beside the query table.
        stem: "standard" or "pixel" (see TinyViT).
        controllers: "full", or for ablations "tokens", "expert" or "none".
        tied_tokens: key and value token of a controller are one parameter.
        prompts: "self", or for ablations "none": no SP-Generator.
        prompt_threshold: probability from which a patch counts as foreground in the self-made prompt.
        decoder: "query", or for ablations "convolutional": one for all modalities, without queries and hypernetworks.
        hypernetworks: "per_modality" or "shared".
        queries: rows of the query table; 0 means largest modality number (of those not added) + 1, and 1 gives all
            modalities one query (an ablation).
        guesses_modality: the model holds a head that tells an image's modality (see delightsam.modeling.modality_guess).
        preprocessing: a name of `delightsam.modeling.preprocessing.PRESETS`.
        image_size: side of the square to which `segment` resizes, in pixels.
    """

    modalities: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    added: tuple[int, ...] = ()
    stem: str = "standard"
    controllers: str = "full"
    tied_tokens: bool = True
    prompts: str = "self"
    prompt_threshold: float = 0.5
    decoder: str = "query"
    hypernetworks: str = "per_modality"
    queries: int = 0
    guesses_modality: bool = False
    preprocessing: str = "sam"
    image_size: int = 1024

    def __post_init__(self) -> None:
        modalities = tuple(sorted(int(k) for k in self.modalities))
        if not modalities or modalities[0] < 0 or len(set(modalities)) != len(modalities):
            raise ValueError(f"`modalities` needs one or more different numbers from 0 on; found {self.modalities}.")
        object.__setattr__(self, "modalities", modalities)
        added = tuple(sorted(int(k) for k in self.added))
        first = [k for k in modalities if k not in added]
        if not first or len(set(added)) != len(added) or not set(added) < set(modalities):
            raise ValueError(
                f"`added` names some, not all, of the modalities {modalities}, each once; found {self.added}."
            )
        object.__setattr__(self, "added", added)
        if self.queries == 0:
            object.__setattr__(self, "queries", first[-1] + 1)
        if self.queries != 1 and self.queries <= first[-1]:
            raise ValueError(
                f"Modality {first[-1]} needs {first[-1] + 1} query rows, or 1 for all modalities; found {self.queries}."
            )
        for name, options in (
            ("stem", STEMS),
            ("controllers", CONTROLLER_KINDS),
            ("prompts", PROMPT_KINDS),
            ("decoder", DECODERS),
            ("hypernetworks", HYPERNETWORKS),
            ("preprocessing", PRESETS),
        ):
            if getattr(self, name) not in options:
                raise ValueError(f"`{name}` is one of {', '.join(options)}; found '{getattr(self, name)}'.")
        if self.image_size % self.size_multiple or self.image_size <= 0:
            raise ValueError(f"`image_size` is a multiple of {self.size_multiple}; found {self.image_size}.")

    @property
    def size_multiple(self) -> int:
        """Image sides are multiples of this: the pixels of one patch of the SP-Generator's map (32, or 8)."""
        return 8 * STEMS[self.stem]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"modalities": list(self.modalities), "added": list(self.added)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeLightSAMConfig:
        """The config that `to_dict` wrote.

        Raises:
            ValueError: an unknown key (a newer version's file?) or a bad value.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown configuration key(s) {', '.join(unknown)}; was this written by a newer version?")
        return cls(**values)


def modality_numbers(names: Sequence[str]) -> dict[str, int]:
    """The number of every name: the published ones' own, others from 6 on in the order given.

    Raises:
        ValueError: no name, or one given twice.
    """
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`modalities` needs one or more different names; found {list(names)}.")
    others = [name for name in names if name not in MODALITY_NUMBERS]
    return {
        name: MODALITY_NUMBERS.get(name, len(MODALITY_NUMBERS) + (others.index(name) if name in others else 0))
        for name in names
    }

"""`Split`: the images of one trial by role, and hashes of what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.data.folder.sample import Sample
from harness.files import sha256_json

ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class RoleContent:
    """What the images of one role are, not where they lie: SHA-256 over their keys and files.

    Attributes:
        images: of the images.
        masks: of their reference masks, and of the subjects that they show.
    """

    images: str
    masks: str

    @classmethod
    def of(cls, keys: Sequence[str], samples: Mapping[str, Sample]) -> RoleContent:
        found = [samples[key] for key in sorted(keys)]
        return cls(
            images=sha256_json([[sample.key, sample.image_content] for sample in found]),
            masks=sha256_json([[sample.key, sample.sha256_mask, sample.subject] for sample in found]),
        )


@dataclass(frozen=True)
class SplitContent:
    """The content of each of `ROLES`."""

    train: RoleContent
    validation: RoleContent
    test: RoleContent

    def of(self, role: str) -> RoleContent:
        return {"train": self.train, "validation": self.validation, "test": self.test}[role]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SplitContent:
        """Reads what `to_json` wrote; raises KeyError or TypeError where it is something else."""
        return cls(*(RoleContent(**content[role]) for role in ROLES))


@dataclass(frozen=True)
class Split:
    """The images of one trial, by sample key ("modality/domain/id"), each role sorted.

    Attributes:
        held_out: "modality/domain" of the domains that are tested and never trained on; empty when test images come
            from the training domains (`in_domain`).
        content: hashes of the files, None before they are computed (`with_content`).
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    held_out: tuple[str, ...]
    content: SplitContent | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over what the images and masks are and which role each has; "" while the content is unknown."""
        return sha256_json(self.content.to_json()) if self.content else ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all images, whatever their role, sorted."""
        return tuple(sorted({*self.train, *self.validation, *self.test}))

    def of(self, role: str) -> tuple[str, ...]:
        """The keys of one of `ROLES`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[role]

    def with_content(self, samples: Mapping[str, Sample]) -> Split:
        """The same split with the hashes of its files.

        Args:
            samples: sample key -> sample, for every key of the split.
        """
        return replace(self, content=SplitContent(*(RoleContent.of(self.of(role), samples) for role in ROLES)))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "held_out": list(self.held_out),
            "content": self.content.to_json() if self.content else None,
            "train": list(self.train),
            "validation": list(self.validation),
            "test": list(self.test),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Split:
        """Reads what `to_json` wrote; raises KeyError or TypeError where it is something else."""
        lists = {key: tuple(content[key]) for key in (*ROLES, "held_out")}
        hashes = content["content"]
        return cls(name=str(content["name"]), content=SplitContent.from_json(hashes) if hashes else None, **lists)

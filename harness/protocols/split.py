"""`Split`: the images of one trial by role, and the hash of what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.data.folder.sample import Sample
from harness.files import sha256_json

ROLES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The images of one trial, by sample key ("modality/domain/id"), each role sorted.

    Attributes:
        held_out: "modality/domain" of the domains that are tested and never trained on; empty when test images come
            from the training domains (`in_domain`).
        fingerprint: SHA-256 over what the images are (not where they lie) and which role each has; "" before it is
            computed (`with_fingerprint`).
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    held_out: tuple[str, ...]
    fingerprint: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all images, whatever their role, sorted."""
        return tuple(sorted({*self.train, *self.validation, *self.test}))

    def of(self, role: str) -> tuple[str, ...]:
        """The keys of one of `ROLES`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[role]

    def with_fingerprint(self, samples: Mapping[str, Sample]) -> Split:
        """The same split with the fingerprint of its images.

        Args:
            samples: sample key -> sample, for every key of the split.
        """
        content = [
            [role, key, samples[key].sha256_image, samples[key].sha256_mask, samples[key].subject]
            for role in ROLES
            for key in sorted(self.of(role))
        ]
        return replace(self, fingerprint=sha256_json(content))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "held_out": list(self.held_out),
            "fingerprint": self.fingerprint,
            "train": list(self.train),
            "validation": list(self.validation),
            "test": list(self.test),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Split:
        """Reads what `to_json` wrote; raises KeyError or TypeError where it is something else."""
        lists = {key: tuple(content[key]) for key in (*ROLES, "held_out")}
        return cls(name=str(content["name"]), fingerprint=str(content["fingerprint"]), **lists)

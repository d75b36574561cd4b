"""A corruption at a severity, and which of them a trial's test images are predicted in."""

from __future__ import annotations

from dataclasses import dataclass

# What the roles of corrupted test images begin with.
CORRUPTED = "corrupted/"


@dataclass(frozen=True)
class CorruptedForm:
    """One corruption at one severity, 1 to 5."""

    name: str
    severity: int

    @classmethod
    def of_role(cls, role: str) -> CorruptedForm | None:
        """The form that has this role; None of another role."""
        name, _, severity = role.removeprefix(CORRUPTED).rpartition("-")
        return cls(name, int(severity)) if role.startswith(CORRUPTED) else None

    @property
    def role(self) -> str:
        """Of its images, in tables and in the store; the clean ones have the role "test"."""
        return f"{CORRUPTED}{self.name}-{self.severity}"


@dataclass(frozen=True)
class CorruptionSpec:
    """In which corrupted forms the test images are predicted as well: see harness/data/corruptions.

    Attributes:
        names: modality of test images -> its corruptions.
        severities: of 1 to 5, rising.
        seed: of the random patterns.
        version: of the code that corrupts.
    """

    names: dict[str, list[str]]
    severities: list[int]
    seed: int
    version: int

    def forms(self) -> list[CorruptedForm]:
        """All forms, of whatever modality: by corruption, then severity."""
        names = dict.fromkeys(name for names in self.names.values() for name in names)
        return [CorruptedForm(name, severity) for name in names for severity in self.severities]

    def has(self, form: CorruptedForm, key: str) -> bool:
        """Whether the image `key` is predicted in this form."""
        return form.name in self.names.get(key.split("/", 1)[0], ())

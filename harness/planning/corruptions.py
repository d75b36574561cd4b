"""Which corrupted forms a split's test images are predicted in."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import ProtocolConfig
from harness.data.corruptions.corruption import CORRUPTIONS_VERSION
from harness.data.corruptions.form import CorruptionSpec
from harness.data.corruptions.registry import corruption_named, corruptions_of
from harness.errors import UserError
from harness.protocols.split import Split


def check_corruptions(protocol: ProtocolConfig, modalities: Sequence[str]) -> None:
    """Raises UserError where `protocol.corruptions` is empty, or names one that is unknown or in none of the modalities."""
    if protocol.corruptions is None:
        return
    if not protocol.corruptions:
        raise UserError("protocol.corruptions is empty: expected names, or null for all that occur in the modality.")
    present = {each.name for modality in modalities for each in corruptions_of(modality)}
    for name in protocol.corruptions:
        corruption = corruption_named(name)
        if name not in present:
            raise UserError(
                f"protocol.corruptions: {name} occurs in {', '.join(corruption.modalities)}; the data have"
                f" {', '.join(modalities)}. Leave it out."
            )


def corruptions_for(protocol: ProtocolConfig, split: Split) -> CorruptionSpec | None:
    """What a trial of this split predicts beside the clean images; None but for `protocol=corruptions`."""
    if protocol.name != "corruptions":
        return None
    wanted = protocol.corruptions
    modalities = sorted({key.split("/", 1)[0] for key in split.test})
    names = {
        modality: [each.name for each in corruptions_of(modality) if wanted is None or each.name in wanted]
        for modality in modalities
    }
    return CorruptionSpec(names, sorted(protocol.severities), protocol.split_seed, CORRUPTIONS_VERSION)

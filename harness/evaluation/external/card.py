"""What a user states about another tool: its card, as methods of the bench have one, and costs that its makers state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.config.validation import Checked, Expected, validated
from harness.errors import UserError, found_at
from harness.files import sha256_json

_TIMES = ("latency_ms_p50", "latency_ms_p95", "throughput_images_per_second")
Number = Annotated[float, Expected("a number from 0 up", "5.4", ge=0, strict=True)]


@dataclass(frozen=True)
class Costs(Checked):
    """What its makers state of a method, as `run` measures it; None: not stated."""

    parameters_total: Number | None = None
    parameters_active: Number | None = None
    parameters_trainable: Number | None = None
    gmacs: Number | None = None
    image_size: Number | None = None
    latency_ms_p50: Number | None = None
    latency_ms_p95: Number | None = None
    throughput_images_per_second: Number | None = None
    throughput_batch: Number | None = None
    peak_memory_mib: Number | None = None
    device: str | None = None
    threads: Number | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Description:
    """`card` has all keys that a method's card has; `costs` those that were stated."""

    card: dict[str, Any]
    costs: dict[str, Any]

    def cost_row(self, name: str) -> tuple[str, dict[str, Any]]:
        """Key and row for `Store.write_efficiency`; `stated` tells that nothing of it was measured here."""
        from harness.store.trial_state import now

        row = {"device": "as stated", **self.costs, "method": name, "stated": True, "measured": now()}
        return sha256_json({"external": name})[:32], row


def read_description(name: str, about: str | None, words: Mapping[str, str]) -> Description:
    """Card and costs from a YAML file {card: ..., costs: ...} and from words such as `card.title`, which win.

    Raises:
        UserError: no such file, an unknown key, a value of the wrong kind, or a speed without its device.
    """
    import yaml

    from harness.methods.card import CARD_KEYS, TEXTS, check_card, start_of

    given = _read(Path(about).expanduser()) if about else {}
    parts: dict[str, dict[str, Any]] = {"card": {}, "costs": {}}
    for part, content in given.items():
        if part not in parts or not isinstance(content, dict):
            raise UserError(f"about={about}: expected card: and costs:, each with lines of key: value; found {part}.")
        parts[part] |= content
    for word, text in words.items():
        part, _, key = word.partition(".")
        # As it was typed: `1.10`, `No` and `a: b` are titles, whatever YAML makes of them.
        if part == "card" and key in TEXTS:
            if text.strip():
                parts[part][key] = text.strip()
            continue
        try:
            parts[part][key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{word}={text}: expected a value as YAML has it ({error}).") from error
    unsaid = {"title": name, "prompt": "none", "uses_modality": False, "pretrained_on": []}
    card = {**dict.fromkeys(CARD_KEYS, "not stated"), **unsaid, **parts["card"]}
    card.setdefault("start", start_of(card))
    check_card(card, "card")
    validated(Costs, parts["costs"], "costs")
    costs = {key: value for key, value in parts["costs"].items() if value is not None}
    if any(key in costs for key in _TIMES) and "device" not in costs:
        raise UserError("A speed says nothing without its machine: add costs.device='...' to the stated costs.")
    return Description(card, costs)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise UserError(f"about={path}: expected a YAML file, found {found_at(path)}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"about={path}: expected a YAML file, found none that can be read ({error.strerror})."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"about={path} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"about={path}: expected card: and costs:, each with lines of key: value.")
    return content

"""Numbers that papers report, for grey reference rows: shown beside measured ones, never ranked with them.

    results:
      - method: De-LightSAM
        modality: dermoscopy
        domain: ph2            # left out: the mean over the modality's domains
        metric: dice           # as in `python -m harness list metrics`; overlaps from 0 to 1, distances in pixels
        value: 0.912
        source: "Xu et al., De-LightSAM, 2025, doi:..."
        page: "Table 2, p. 6"

Other data splits, sizes and metric code stand behind such a number: it tells where a field is, not who is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from harness.config.validation import Checked, Expected, Text, validated
from harness.errors import UserError, did_you_mean, found_at


@dataclass(frozen=True)
class PublishedResult(Checked):
    """One number of one paper. `domain` None: over the modality's domains; `page` says where in the source it stands.

    Without its source and page a number can't be checked.
    """

    method: Text
    modality: Text
    domain: Text | None
    metric: Text
    value: Annotated[float, Expected("a number", "0.912", strict=True)]
    source: Text
    page: Annotated[str, Expected("a text", coerce_numbers_to_str=True, pattern=r"\S")]

    @property
    def place(self) -> tuple[str | None, ...]:
        """Two results of one place would be two values of one cell."""
        return self.method, self.modality, self.domain, self.metric, self.source


def read_published(path: Path) -> list[PublishedResult]:
    """Reads a file of published results, in its order.

    Raises:
        UserError: no such file, no YAML, an entry with a missing, unknown or impossible value, or one given twice.
    """
    import yaml

    if not path.is_file():
        raise UserError(f"{path}: expected a YAML file of published results, found {found_at(path)}")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: expected a YAML file of published results, found none that can be read.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"results"} or not isinstance(content["results"], list):
        raise UserError(
            f"{path}: expected one key, results:, with a list of entries, each with"
            f" {', '.join(field.name for field in fields(PublishedResult))}."
        )
    results = [_entry(entry, f"{path}, entry {number}") for number, entry in enumerate(content["results"], start=1)]
    seen: dict[tuple[Any, ...], int] = {}
    for number, result in enumerate(results, start=1):
        if result.place in seen:
            raise UserError(
                f"{path}, entry {number}: entry {seen[result.place]} is of the same method, place, metric and source."
            )
        seen[result.place] = number
    return results


def _entry(entry: Any, where: str) -> PublishedResult:
    from harness.metrics import REGISTRY

    try:
        result = validated(PublishedResult, {"domain": None, **entry} if isinstance(entry, dict) else entry)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    metric, value = result.metric, result.value
    if metric not in REGISTRY:
        raise UserError(f"{where}: metric={metric} is unknown.{did_you_mean(metric, REGISTRY)}")
    highest = math.inf if REGISTRY[metric].unit else 1.0
    if not 0 <= value <= highest:
        hint = f" Percent? Write {value / 100:g}." if 1 < value <= 100 else ""
        raise UserError(f"{where}: value={value:g} is out of range: expected 0 to {highest:g}.{hint}")
    return result

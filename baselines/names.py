"""Error messages for names that don't exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, options: Iterable[str]) -> ValueError:
    """The error for an unknown name: with the nearest option, or all if none is near and they are few."""
    known = sorted(options)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        hint = f"Did you mean {' or '.join(repr(one) for one in near)}?"
    else:
        hint = f"Available: {', '.join(known[:40])}{' and others' if len(known) > 40 else ''}."
    return ValueError(f"Unknown {kind} '{name}'. {hint}")

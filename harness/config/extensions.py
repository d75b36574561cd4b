"""Metrics and columns of other packages, whose modules name themselves by an entry point:

[project.entry-points."delightsam_bench.extensions"]
mine = "my_package.metrics"        # registers metrics or columns when it is imported
"""

from __future__ import annotations

import functools
import importlib
from importlib import metadata

from harness.errors import UserError, described, raise_stop_behind

ENTRY_POINTS = "delightsam_bench.extensions"


@functools.cache
def load_extensions() -> None:
    """Imports them, once in a process.

    Raises:
        UserError: one can't be imported.
    """
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        try:
            importlib.import_module(entry.value)
        except Exception as error:  # whatever another package's code raises
            raise_stop_behind(error)
            why = f"{error}" if isinstance(error, UserError) else described(error)
            raise UserError(
                f"The module '{entry.value}' that an installed package names under the entry points {ENTRY_POINTS} can't be"
                f" imported: {why.rstrip('.')}. Fix the package or uninstall it."
            ) from error

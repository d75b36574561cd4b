"""Locks of runs and trials: who holds one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def is_held(lock: Path) -> bool:
    """Whether a process holds this lock, also in a store that can't be written; where locks can't be asked: yes."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, as a file opened for reading allows it, and gone again with the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)

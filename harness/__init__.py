"""The bench: what to run, running it, measuring it, keeping it.

Importing this package is cheap on purpose: torch, ray and matplotlib are imported by the functions that need them.
"""

__version__ = "0.1.0"

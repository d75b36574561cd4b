"""Versions that are part of a trial's id, where they can be read without importing torch."""

# Raised when the fit loop gives other numbers for the same settings.
TRAINING_VERSION = 1

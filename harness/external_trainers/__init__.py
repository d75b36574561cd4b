"""Runs trainers that live outside the bench: writes their work folder, calls their commands, reads the masks they made.

`folder` is the folder contract (docs/guides/external_trainer.md shows it to users), `process` runs a command so that nothing of it
outlives its trial, `outside` puts both together for one trial.
"""

from harness.external_trainers.outside import OutsideTrial

__all__ = ["OutsideTrial"]

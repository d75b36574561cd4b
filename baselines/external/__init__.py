"""Trainers of other people, called as programs of their own: docs/guides/external_trainer.md shows the folder that they work in."""

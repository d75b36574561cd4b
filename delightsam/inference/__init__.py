"""Inference alone: a model's function in as few and as large operations as possible."""

from delightsam.inference.accelerated import accelerate

__all__ = ["accelerate"]

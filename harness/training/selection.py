"""Which epoch's weights are tested. The rule's name stands in the results; `oracle` rows are ranked apart."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from harness.training.checkpoint import FitState


@dataclass(frozen=True)
class SelectionRule:
    """A rule over the epochs' scores.

    Attributes:
        scored_on: the role whose images give the score: `validation` (training domains) or `test` (the unseen one).
        keeps_best: the epoch with the highest score is tested, the earliest of equals; else the last one is.
    """

    name: str
    scored_on: str
    keeps_best: bool


RULES = {
    rule.name: rule
    for rule in (
        SelectionRule("training_domain_validation", "validation", keeps_best=True),
        SelectionRule("last", "validation", keeps_best=False),
        # Looks at the test domain: an upper bound, never a result.
        SelectionRule("oracle", "test", keeps_best=True),
    )
}


def select_weights(state: FitState, method: torch.nn.Module, rule: SelectionRule, score: float, scored: bool) -> None:
    """Notes in `state` whether the epoch that just ended is the chosen one, and keeps its weights if the rule may want them.

    Args:
        score: the epoch's Dice over the images that the rule looks at.
        scored: False in a stage whose epochs are not compared: its last one goes on.
    """
    if not scored:
        state.best_epoch = state.epoch
        return
    gained = state.best_score is None or score > state.best_score
    state.epochs_without_gain = 0 if gained else state.epochs_without_gain + 1
    if gained:
        state.best_score = score
    if not rule.keeps_best:
        state.best_epoch = state.epoch
    elif gained:
        state.best_weights = copy.deepcopy(method.state_dict())
        state.best_epoch = state.epoch


def load_selected_weights(state: FitState, method: torch.nn.Module) -> None:
    """Ends a stage with its chosen weights: the next stage starts from them."""
    if state.best_weights is not None:
        method.load_state_dict(state.best_weights)
        state.best_weights = None

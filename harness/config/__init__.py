"""What a user may set: the schema, its checks, the YAML tree, extensions by other packages, and error texts.

Owns every configuration key; nothing here reads data or builds a method.
"""

from harness.config.checks import all_keys, check_config, training_for_method
from harness.config.schema import (
    PROTOCOLS,
    SELECTION_RULES,
    TRACKERS,
    AshaConfig,
    DataConfig,
    ExecutorConfig,
    MetricsConfig,
    PbtConfig,
    PhantomConfig,
    ProtocolConfig,
    RunConfig,
    StoreConfig,
    SweepBudget,
    SweepConfig,
    TrainingConfig,
)

__all__ = [
    "PROTOCOLS",
    "SELECTION_RULES",
    "TRACKERS",
    "AshaConfig",
    "DataConfig",
    "ExecutorConfig",
    "MetricsConfig",
    "PbtConfig",
    "PhantomConfig",
    "ProtocolConfig",
    "RunConfig",
    "StoreConfig",
    "SweepBudget",
    "SweepConfig",
    "TrainingConfig",
    "all_keys",
    "check_config",
    "training_for_method",
]

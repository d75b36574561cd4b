"""Variables that Ray reads while it is imported or started."""

from __future__ import annotations

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "RAY_METRICS_EXPORT_INTERVAL_MS": "0",
    # Ray's workers give way to everything else by default; trials are what this machine is for.
    "RAY_worker_niceness": "0",
    # The store is the database: snapshots of the experiment would grow with every trial, and nobody reads them.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # Ctrl-C reaches us, who promise what it does.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A relative path means the same in a trial as in the driver.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

"""MLflow: a SQLite file in the store, or the server of `MLFLOW_TRACKING_URI`; one run a trial."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import alembic  # noqa: F401  (MLflow's SQLite store needs both, and mlflow-skinny does not bring them)
import sqlalchemy  # noqa: F401
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

_STATES = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
# Of values, in MLflow's database.
_LONGEST = 6000


class MLflow:
    """`mlflow ui --backend-store-uri sqlite:///<store>/trackers/mlflow/mlflow.db` shows it."""

    def __init__(self, folder: Path, suite: str) -> None:
        self.folder, self.suite = folder, suite
        self._client: MlflowClient | None = None
        self.experiment = ""

    @property
    def client(self) -> MlflowClient:
        """Made when the first trial begins: a server that does not answer holds up this thread only."""
        if self._client is None:
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            own = None if os.environ.get("MLFLOW_TRACKING_URI") else f"sqlite:///{self.folder / 'mlflow.db'}"
            client = MlflowClient(tracking_uri=own)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.suite
            found = client.get_experiment_by_name(name)
            place = (self.folder / "artifacts").as_uri() if own else None
            self.experiment = found.experiment_id if found else client.create_experiment(name, artifact_location=place)
            self._client = client
        return self._client

    def open(self, name: str, hyperparameters: Mapping[str, Any], run: str | None, epoch: int) -> str:
        if run is not None:
            self.client.update_run(run, status="RUNNING")
            return run
        client = self.client
        made = str(client.create_run(self.experiment, run_name=name).info.run_id)
        client.log_batch(made, params=[Param(key, str(value)[:_LONGEST]) for key, value in hyperparameters.items()])
        return made

    def log(self, run: str, epoch: int, values: Mapping[str, float]) -> None:
        moment = int(time.time() * 1000)
        self.client.log_batch(run, metrics=[Metric(name, value, moment, epoch) for name, value in values.items()])

    def close(self, run: str, state: str, results: Mapping[str, float]) -> None:
        if results:
            self.log(run, 0, results)
        self.client.set_terminated(run, _STATES[state])

    def end(self) -> None:
        """Nothing is kept back."""

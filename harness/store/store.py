"""Where results live: one folder a trial, named by what the trial is; in it a folder for each level of its results.

    <root>/trials/<training id>/   spec.json status.json curves.csv provenance.json weights.safetensors result.json
        predictions/<prediction id>/   spec.json <role>/<key>.png guesses.parquet result.json
            measurements/<measurement id>/   spec.json samples.parquet metrics.json result.json
    <root>/suites/<name>/<time>/   config.yaml trials.json run.log report/
    <root>/efficiency/<key>.json   costs, measured once for each method and machine
    <root>/damaged/   what failed its checksum, moved aside

Each level is whole or does not count (`sealed_folder`). A measurement holds no clock times: equal ones are equal bytes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import (
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    explain_disk_errors,
    sha256_file,
)
from harness.store.locks import hold_store, hold_trial, is_held
from harness.store.records import SuiteRecord, TrialEntry, TrialRecord, read_config
from harness.store.sealed_folder import RESULT, SCHEMA_VERSION, fault, read_sealed, read_versioned, seal
from harness.store.trial_state import TrialState, read_state, write_state
from harness.trial_spec import TrialIds, TrialSpec

if TYPE_CHECKING:
    import pandas as pd

    from harness.metrics.inputs import Mask

log = logging.getLogger(__name__)


class Store:
    """Reads and writes results below `root`. Making one touches nothing on the disk."""

    def __init__(self, root: Path | str) -> None:
        if "://" in str(root):
            raise UserError(
                f"store.root={root} is an address, and the store needs a file system: it locks and renames files."
                " Mount the bucket or share (NFS, Lustre, a cloud file store) on every node and give that folder."
            )
        self.root = Path(root).expanduser().resolve()

    # --- writing -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Makes the folders and proves that they can be written.

        Raises:
            UserError: read-only, full, a file in the way, or a store of another version of the bench.
        """
        if (self.root / "store.json").exists():
            read_versioned(self.root / "store.json")
        with explain_disk_errors(self.root):
            for name in ("trials", "suites"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        atomic_write_json(self.root / "store.json", {"schema_version": SCHEMA_VERSION})

    def exclusive(self) -> AbstractContextManager[None]:
        """Holds the store for one run: see `hold_store`."""
        return hold_store(self.root)

    def trial_lock(self, trial_id: str, patience_seconds: float = 120.0) -> AbstractContextManager[None]:
        """Holds one trial: see `hold_trial`."""
        return hold_trial(self.root, trial_id, patience_seconds)

    def start_trial(self, spec: TrialSpec) -> Path:
        """Makes the trial's folders and keeps its spec. What an interrupted try left, and levels that are whole, stay."""
        for folder, part in zip(self.folders(spec.ids), spec.to_json().values(), strict=True):
            if not (folder / RESULT).exists():
                atomic_write_json(folder / "spec.json", {"schema_version": SCHEMA_VERSION, **part})
        return self.trial_folder(spec.id)

    def write_status(self, trial_id: str, state: str, **details: Any) -> None:
        """Replaces the trial's status; what is known of attempts that died stays in it (see `record_attempt`).

        Args:
            state, details: as the attributes of `TrialState`.
        """
        folder = self.trial_folder(trial_id)
        attempts = (read_state(folder) or TrialState()).attempts
        write_state(folder, TrialState(state, **details, attempts=attempts))

    def record_attempt(self, trial_id: str, cause: str) -> None:
        """Keeps why an attempt of the trial died, where and when."""
        folder = self.trial_folder(trial_id)
        write_state(folder, (read_state(folder) or TrialState()).after(cause))

    def reopen_training(self, ids: TrialIds) -> None:
        """Lets `start_trial` write the training's spec anew: the card of another tool's masks may have changed."""
        (self.trial_folder(ids.training) / RESULT).unlink(missing_ok=True)

    def finish_training(
        self, ids: TrialIds, *, curves: pd.DataFrame, provenance: dict[str, Any], summary: dict[str, Any]
    ) -> None:
        """Keeps how the weights came about, which are written before; there are none of masks of another tool.

        Args:
            summary: such as training_seconds, epochs, chosen_epoch.
        """
        folder = self.trial_folder(ids.training)
        (folder / RESULT).unlink(missing_ok=True)
        atomic_write_text(folder / "curves.csv", curves.to_csv(index=False))
        atomic_write_json(folder / "provenance.json", {"schema_version": SCHEMA_VERSION, **provenance})
        self._seal_training(ids, summary)

    def copy_training(self, training_id: str, ids: TrialIds) -> None:
        """Keeps how the weights of another training came about as those of this one, which has the same."""
        source, target = self.trial_folder(training_id), self.trial_folder(ids.training)
        for name in ("curves.csv", "provenance.json"):
            atomic_write_bytes(target / name, (source / name).read_bytes())
        result = self.trained(training_id) or {}
        summary = {key: value for key, value in result.items() if key not in ("id", "weights", "files", "checksum")}
        self._seal_training(ids, {**summary, "weights_of": training_id})

    def _seal_training(self, ids: TrialIds, summary: dict[str, Any]) -> None:
        folder, weights = self.trial_folder(ids.training), self.weights(ids.training)
        summary = {**summary, "id": ids.training, "weights": sha256_file(weights) if weights.exists() else None}
        seal(folder, ("spec.json", "curves.csv", "provenance.json"), summary)

    def write_mask(self, ids: TrialIds, role: str, key: str, mask: Mask) -> None:
        """Keeps a predicted mask (H, W) bool as a 1-bit PNG."""
        from PIL import Image

        with atomic_path(self.mask(ids, role, key)) as temporary:
            Image.fromarray(mask).save(temporary, format="PNG")

    def finish_prediction(
        self,
        ids: TrialIds,
        *,
        masks: Sequence[tuple[str, str]] | None,
        guesses: pd.DataFrame | None = None,
        summary: dict[str, Any],
    ) -> None:
        """Seals the masks that stand at `mask`, and keeps the guessed modalities.

        Args:
            masks: (role, key) of each; None: they are not kept.
            guesses: role, key and guessed_modality of each image, of a method that guesses; else None.
            summary: such as prediction_seconds.
        """
        folder = self.prediction_folder(ids)
        files = ["spec.json"]
        (folder / RESULT).unlink(missing_ok=True)
        if guesses is not None:
            _write_parquet(folder / "guesses.parquet", guesses)
            files.append("guesses.parquet")
        digests = (
            None if masks is None else {f"{role}/{key}": sha256_file(self.mask(ids, role, key)) for role, key in masks}
        )
        seal(folder, files, {"id": ids.prediction, **summary, "masks": digests})

    def forget_masks(self, ids: TrialIds) -> None:
        """Removes the masks of a trial that has been measured, for `store.predictions=false`."""
        folder, result = self.prediction_folder(ids), self.predicted(ids)
        if result is not None and result["masks"] is not None:
            files = result.pop("files")
            seal(folder, files, {key: value for key, value in result.items() if key != "checksum"} | {"masks": None})
            for role in {name.split("/", 1)[0] for name in result["masks"]}:
                shutil.rmtree(folder / role, ignore_errors=True)

    def finish_measurement(
        self, ids: TrialIds, *, samples: pd.DataFrame, metrics: Mapping[str, int], summary: dict[str, Any]
    ) -> None:
        """Writes the table and, last of all, `result.json`: from then on the trial is done.

        A measurement that gets further columns does not count until they are written: a kill in between loses nothing
        that its masks don't give again.

        Args:
            metrics: metric -> the version that its column was computed by.
            summary: warnings and test_dice; no clock times.
        """
        folder = self.measurement_folder(ids)
        (folder / RESULT).unlink(missing_ok=True)
        _write_parquet(folder / "samples.parquet", samples)
        atomic_write_json(folder / "metrics.json", {"schema_version": SCHEMA_VERSION, "metrics": dict(metrics)})
        seal(folder, ("spec.json", "samples.parquet", "metrics.json"), {"id": ids.measurement, **summary})

    def quarantine_trial(self, ids: TrialIds) -> None:
        """Moves each level whose files don't match its `result.json` to `damaged/`, so that it is made again."""
        for folder in self.folders(ids):
            if (folder / RESULT).exists() and fault(folder) is not None:
                target = self.root / "damaged" / f"{folder.name}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%f')}"
                with explain_disk_errors(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    folder.replace(target)
                log.warning("Trial %s was damaged: %s moved to %s, and made again.", ids.training[:12], folder, target)

    def discard_trial(self, ids: TrialIds) -> None:
        """Forgets a trial, for `reuse=never`; what other runs predicted with the same weights stays."""
        folder = self.trial_folder(ids.training)
        shutil.rmtree(self.prediction_folder(ids), ignore_errors=True)
        for path in folder.glob("*"):
            if path.name != "predictions":
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def write_efficiency(self, key: str, row: dict[str, Any]) -> None:
        atomic_write_json(self.root / "efficiency" / f"{key}.json", {"schema_version": SCHEMA_VERSION, **row})

    def start_suite(
        self, name: str, config_yaml: str, trials: Sequence[TrialEntry], command: Sequence[str] = ()
    ) -> Path:
        """Keeps what this run was asked for, by which words and where; returns its folder, named by the time in UTC."""
        parent = self.root / "suites" / name
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        folder = parent / stamp
        while folder.exists():
            stamp += "x"
            folder = parent / stamp
        atomic_write_text(folder / "config.yaml", config_yaml)
        asked = {"suite": name, "command": list(command), "directory": str(Path.cwd())}
        entries = [entry.to_json() for entry in trials]
        atomic_write_json(folder / "trials.json", {"schema_version": SCHEMA_VERSION, **asked, "trials": entries})
        return folder

    # --- reading -------------------------------------------------------------------------------------------------

    def trial_folder(self, training_id: str) -> Path:
        return self.root / "trials" / training_id

    def prediction_folder(self, ids: TrialIds) -> Path:
        return self.trial_folder(ids.training) / "predictions" / ids.prediction

    def measurement_folder(self, ids: TrialIds) -> Path:
        return self.prediction_folder(ids) / "measurements" / ids.measurement

    def folders(self, ids: TrialIds) -> tuple[Path, Path, Path]:
        """Of the training, the prediction and the measurement."""
        return self.trial_folder(ids.training), self.prediction_folder(ids), self.measurement_folder(ids)

    def weights(self, training_id: str) -> Path:
        """Where the weights are, if they were kept."""
        return self.trial_folder(training_id) / "weights.safetensors"

    def mask(self, ids: TrialIds, role: str, key: str) -> Path:
        """Where the predicted mask of an image is, if masks were kept."""
        return self.prediction_folder(ids) / role / f"{key}.png"

    def trial_ids(self) -> list[str]:
        """The training ids of all trials."""
        return sorted(path.name for path in (self.root / "trials").glob("*") if (path / "spec.json").exists())

    def ids_of(self, training_id: str) -> list[TrialIds]:
        """All that was asked of the weights of one training: every prediction and measurement of it."""
        found = self.trial_folder(training_id).glob("predictions/*/measurements/*/spec.json")
        return sorted(
            (TrialIds(training_id, path.parts[-4], path.parts[-2]) for path in found),
            key=lambda ids: (ids.prediction, ids.measurement),
        )

    def trained(self, training_id: str) -> dict[str, Any] | None:
        """The result of the training; None when it has none, or is damaged."""
        return read_sealed(self.trial_folder(training_id))

    def predicted(self, ids: TrialIds) -> dict[str, Any] | None:
        """The result of the prediction; None when it has none, or is damaged."""
        return read_sealed(self.prediction_folder(ids))

    def has_weights(self, training_id: str) -> bool:
        """Whether the weights are there, as they were trained."""
        result, path = self.trained(training_id), self.weights(training_id)
        return result is not None and path.is_file() and sha256_file(path) == result["weights"]

    def has_masks(self, ids: TrialIds) -> bool:
        """Whether the masks of all its images are there, as they were predicted."""
        result = self.predicted(ids)
        if result is None or result["masks"] is None:
            return False
        paths = {self.mask(ids, *name.split("/", 1)): digest for name, digest in result["masks"].items()}
        return all(path.is_file() and sha256_file(path) == digest for path, digest in paths.items())

    def result(self, ids: TrialIds) -> dict[str, Any] | None:
        """The result of a whole trial, all levels checked against their checksums; None when one is missing or damaged.

        `seconds` is what the training and the prediction took together.
        """
        found = dict[str, Any]()
        for folder in reversed(self.folders(ids)):
            level = read_sealed(folder)
            if level is None:
                if (folder / RESULT).exists():
                    log.warning(
                        "Trial %s is damaged (%s in %s): it counts as not run.",
                        ids.training[:12],
                        fault(folder),
                        folder,
                    )
                return None
            found |= level
        if "training_seconds" in found:  # no masks of another tool
            found["seconds"] = round(found["training_seconds"] + found["prediction_seconds"], 3)
        return found

    def status(self, training_id: str) -> TrialState:
        """The trial's last status; `pending` where there is none yet, `interrupted` where its process is gone.

        Raises:
            UserError: another version of the bench wrote it.
        """
        state = read_state(self.trial_folder(training_id)) or TrialState()
        if state.state == "running" and not is_held(self.root / "locks" / training_id):
            return replace(state, state="interrupted")
        return state

    def spec(self, ids: TrialIds) -> TrialSpec:
        """What the trial is, as `run_trial` takes it.

        Raises:
            UserError: no such trial, damaged, or written by another version.
        """
        levels = [read_versioned(folder / "spec.json") for folder in self.folders(ids)]
        try:
            return TrialSpec.from_json(dict(zip(("training", "prediction", "measurement"), levels, strict=True)))
        except UserError as error:
            raise UserError(f"{self.trial_folder(ids.training) / 'spec.json'}: {error}") from error

    def load(self, ids: TrialIds) -> TrialRecord:
        """Everything about one trial.

        Raises:
            UserError: no such trial, or written by another version.
        """
        import pandas as pd

        folder, predictions, measurement = self.folders(ids)
        if not folder.exists():
            raise UserError(f"There is no trial {ids.training} in {self.root}.")
        result = self.result(ids)
        samples, metrics, curves, provenance = None, dict[str, int](), None, dict[str, Any]()
        if result:
            samples = pd.read_parquet(measurement / "samples.parquet")
            metrics = dict(read_versioned(measurement / "metrics.json")["metrics"])
            curves, provenance = pd.read_csv(folder / "curves.csv"), read_versioned(folder / "provenance.json")
            if (predictions / "guesses.parquet").exists():
                guesses = pd.read_parquet(predictions / "guesses.parquet")
                samples = samples.merge(guesses, how="left", on=["role", "key"])
        return TrialRecord(
            ids, self.spec(ids), self.status(ids.training), result, samples, metrics, curves, provenance, folder
        )

    def efficiency(self) -> list[dict[str, Any]]:
        """All measured costs, one dict for each method, size and machine; `key` names the file."""
        files = sorted((self.root / "efficiency").glob("*.json"))
        return [{"key": path.stem, **read_versioned(path)} for path in files]

    def suites(self) -> list[SuiteRecord]:
        """All runs of suites, oldest first."""
        records = []
        for path in (self.root / "suites").glob("*/*/trials.json"):
            folder = path.parent
            config = read_config(folder)
            trials = [TrialEntry.from_json(entry) for entry in read_versioned(path)["trials"]]
            records.append(SuiteRecord(folder.parent.name, folder.name, folder, config, trials))
        return sorted(records, key=lambda record: (record.time, record.name))


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    atomic_write_bytes(path, buffer.getvalue())

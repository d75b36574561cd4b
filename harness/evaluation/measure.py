"""From masks to the table of a trial: a row for each image, whoever made the mask.

The columns are key, modality, domain, id, subject, role, width, height, the metrics in the order of the registry (distances
in pixels of the native mask), reference_pixels, predicted_pixels, empty. Corrupted test images have rows of their own, with
the Dice as their only metric.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING, Any

from harness.config.schema import MetricsConfig
from harness.metrics import REGISTRY, PixelCounts, evaluate_pair
from harness.store.store import Store
from harness.trial_spec import TrialIds, TrialSpec

if TYPE_CHECKING:
    import pandas as pd

    from harness.data.folder.sample import Sample
    from harness.metrics.inputs import Mask

ROLES = ("test", "validation")
"""The roles whose images are predicted and measured in every trial, in the order of the table."""


@dataclass(frozen=True)
class MaskTask:
    """One image to measure: what a worker process needs.

    Attributes:
        mask: file of the predicted mask.
        metrics: those to compute.
    """

    sample: Sample
    mask: Path
    role: str
    evaluation: MetricsConfig
    metrics: tuple[str, ...]


def measured_keys(spec: TrialSpec) -> list[tuple[str, str]]:
    """(role, key) of every image that is predicted and measured, in the order of the table: corrupted ones come last."""
    plain = [(role, key) for role in ROLES for key in spec.split.of(role)]
    return plain + [(form.role, key) for form, keys in spec.corrupted() for key in keys]


def measure_image(
    sample: Sample, predicted: Mask, role: str, evaluation: MetricsConfig, metrics: Iterable[str] = REGISTRY
) -> dict[str, Any]:
    """The row of one image: measures a predicted mask (H, W) bool, at the reference mask's own size.

    Args:
        role: `test`, `validation` or that of a `CorruptedForm`.
        metrics: names of those to compute.
    """
    from harness.data.reading import read_mask

    reference = read_mask(sample.mask)
    counts = PixelCounts.of(predicted, reference)
    return {
        "key": sample.key,
        "modality": sample.modality,
        "domain": sample.domain,
        "id": sample.id,
        "subject": sample.subject,
        "role": role,
        "width": sample.width,
        "height": sample.height,
        **evaluate_pair(
            predicted, reference, metrics=metrics, nsd_tolerance=evaluation.nsd_tolerance, empty=evaluation.empty
        ),
        "reference_pixels": counts.reference,
        "predicted_pixels": counts.predicted,
        "empty": counts.empty,
    }


def measure_file(task: MaskTask) -> dict[str, Any]:
    """As `measure_image`, of a mask that was kept."""
    from harness.data.reading import read_mask

    return measure_image(task.sample, read_mask(task.mask), task.role, task.evaluation, task.metrics)


_MASKS_A_THREAD = 4


class MeasuringThreads:
    """Keeps and measures masks of a trial in threads, while others are still predicted: most of it is done without Python's
    lock.

    Args:
        samples: sample key -> sample.
        metrics: names of those to compute.
        threads: how many. At most four masks for each wait in memory.
    """

    def __init__(
        self, store: Store, spec: TrialSpec, samples: Mapping[str, Sample], metrics: Sequence[str], threads: int
    ) -> None:
        self.tasks = {(task.role, task.sample.key): task for task in _tasks(store, spec, samples, metrics)}
        self.begun: dict[tuple[str, str], Future[dict[str, Any]]] = {}
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="measuring")
        self._store, self._ids = store, spec.ids
        self._room = Semaphore(_MASKS_A_THREAD * threads)
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> MeasuringThreads:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.pool.shutdown(cancel_futures=error is not None)

    def keep(self, role: str, key: str, mask: Mask) -> None:
        """Has a mask (H, W) bool written to the store, then measured. Waits where too many are under way.

        Raises:
            OSError: an earlier mask can't be written.
        """
        self._room.acquire()
        written = self.pool.submit(self._store.write_mask, self._ids, role, key, mask)
        self._writing.append(written)
        self.begun[role, key] = self.pool.submit(_measure_written, written, self.tasks[role, key])
        self.begun[role, key].add_done_callback(lambda _: self._room.release())
        while self._writing[0].done() and len(self._writing) > 1:
            self._writing.popleft().result()

    def all_kept(self) -> None:
        """Waits until every mask is written.

        Raises:
            OSError: one can't be.
        """
        while self._writing:
            self._writing.popleft().result()

    def map(self, measure: Callable[[MaskTask], dict[str, Any]], tasks: Sequence[MaskTask]) -> Iterable[dict[str, Any]]:
        """The rows of the `tasks`, of which none is measured again, for `measure_masks`.

        Raises:
            UserError: a mask does not fit its reference.
        """
        assert measure is measure_file
        return [self.begun[task.role, task.sample.key].result() for task in tasks]


def _measure_written(written: Future[None], task: MaskTask) -> dict[str, Any]:
    written.result()  # begun before this, so it never waits for a thread
    return measure_file(task)


Map = Callable[[Callable[[MaskTask], dict[str, Any]], Sequence[MaskTask]], Iterable[dict[str, Any]]]


def measure_masks(
    store: Store, spec: TrialSpec, samples: Mapping[str, Sample], metrics: Sequence[str], map_: Map = map
) -> None:
    """Measures the masks that the store keeps of a trial, and keeps the table: columns that are there already stay.

    Args:
        samples: sample key -> sample.
        metrics: names of those to compute: see `missing_metrics`.
        map_: `map`, or that of a pool of processes.

    Raises:
        UserError: a mask does not fit its reference.
    """
    keep_rows(store, spec, list(map_(measure_file, _tasks(store, spec, samples, metrics))), metrics)


def _tasks(store: Store, spec: TrialSpec, samples: Mapping[str, Sample], metrics: Sequence[str]) -> list[MaskTask]:
    return [
        MaskTask(samples[key], store.mask(spec.ids, role, key), role, spec.evaluation, _metrics_of(role, metrics))
        for role, key in measured_keys(spec)
    ]


def _metrics_of(role: str, metrics: Sequence[str]) -> tuple[str, ...]:
    """Of a corrupted image the Dice alone: there are many of them, and the loss under corruption is one of Dice."""
    return tuple(name for name in metrics if role in ROLES or name == "dice")


def keep_rows(store: Store, spec: TrialSpec, rows: Sequence[dict[str, Any]], metrics: Iterable[str]) -> None:
    """Keeps the table of a trial: `rows` as `measure_image` gives them for `metrics`, and what is known of the others."""
    import pandas as pd

    table = pd.DataFrame(rows)
    versions = {name: REGISTRY[name].version for name in metrics}
    if store.result(spec.ids) is not None:
        record = store.load(spec.ids)
        assert record.samples is not None
        kept = {name: version for name, version in record.metrics.items() if name not in versions}
        table = table.merge(record.samples[["role", "key", *kept]], how="left", on=["role", "key"], validate="1:1")
        versions |= kept
    names = sorted(versions, key=_place)
    table = table[_columns(table, names)]
    store.finish_measurement(
        spec.ids, samples=table, metrics={name: versions[name] for name in names}, summary=_summary(table)
    )


def missing_metrics(store: Store, ids: TrialIds, wanted: Iterable[str] = REGISTRY) -> list[str]:
    """Those of the `wanted` metrics that the trial's table lacks, or that were computed by another version."""
    if store.result(ids) is None:
        return list(wanted)
    found = store.load(ids).metrics
    return [name for name in wanted if found.get(name) != REGISTRY[name].version]


def _place(name: str) -> tuple[int, str]:
    """Metrics in the order of the registry; those that it does not know any more come behind them."""
    names = list(REGISTRY)
    return (names.index(name) if name in REGISTRY else len(names), name)


def _columns(table: pd.DataFrame, metrics: list[str]) -> list[str]:
    first = ["key", "modality", "domain", "id", "subject", "role", "width", "height"]
    return [*first, *metrics, "reference_pixels", "predicted_pixels", "empty"]


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    tested = table[table["role"] == "test"]
    dice = tested.groupby(["modality", "domain"])["dice"].mean().mean() if "dice" in table else math.nan
    return {"warnings": _warnings(tested), "test_dice": None if math.isnan(dice) else float(dice)}


def _warnings(tested: pd.DataFrame) -> list[str]:
    """What a person should look at before believing the result."""
    if len(tested) and (tested["predicted_pixels"] == tested["width"] * tested["height"]).all():
        return [
            "every pixel of every test image was called foreground. If predict returns probabilities, leave out the"
            " sigmoid: it returns logits, which are cut at 0"
        ]
    return []

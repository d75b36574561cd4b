"""Means with intervals for everything that a report shows, from one set of resamples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.metrics import REGISTRY, shown_metrics
from harness.statistics import DomainBootstrap, Estimate, mean_per_image, rank_ranges
from reports.records.frames import rows as table_rows
from reports.records.records import Records

FloatArray = npt.NDArray[np.float64]


class Means:
    """All intervals of a report: one bootstrap for the tests, one for seen minus unseen, both shared by all methods."""

    def __init__(self, records: Records) -> None:
        self.methods, self.metrics = list(records.methods), shown_metrics()
        images = mean_per_image(records.samples, self.metrics, by=("method", "role"))
        images["domain_key"] = images["modality"].astype(str) + "/" + images["domain"].astype(str)
        cells = records.cells
        self.whole = {(row.method, row.role, row.domain) for row in table_rows(cells[cells["state"] == "done"])}
        keep = [cell in self.whole for cell in zip(images["method"], images["role"], images["domain_key"], strict=True)]
        self.images = images[np.array(keep, bool)]
        tests = self.images[self.images["role"] == "test"]
        columns = [(method, metric) for method in self.methods for metric in self.metrics]
        values, present, places, units = self._table(tests, columns, "method")
        self._tested = values, places, units
        self._known: dict[tuple[str, tuple[str, ...]], dict[str, Estimate]] = {}
        self.test = DomainBootstrap(values, places, units, present=present) if len(values) else None
        pairs = [(method, role) for method in self.methods for role in ("test", "validation")]
        values, present, places, units = self._table(self.images, pairs, "role")
        self.roles = DomainBootstrap(values, places, units, present=present, stratify=True) if len(values) else None

    def _table(
        self, images: pd.DataFrame, columns: list[tuple[str, str]], kind: str
    ) -> tuple[FloatArray, npt.NDArray[np.bool_], list[str], list[str]]:
        """Values and presence (images, columns), domain and unit of each image.

        Columns are (method, metric) of test images or, for `kind` "role", (method, role) with the Dice.
        """
        # The manifest may know subjects of some domains only: an image without one is a unit of its own.
        units = images["subject"].where(images["subject"].notna(), images["key"]).astype(str)
        facts = pd.DataFrame({"key": images["key"], "domain_key": images["domain_key"], "unit": units}).drop_duplicates(
            "key"
        )
        facts = facts.set_index("key").sort_index()
        values = np.full((len(facts), len(columns)), np.nan)
        present = np.zeros(values.shape, bool)
        for index, (method, other) in enumerate(columns):
            rows = images[images["method"] == method]
            if kind == "role":
                rows = rows[rows["role"] == other]
            places = facts.index.get_indexer(pd.Index(rows["key"]))
            values[places, index] = rows["dice" if kind == "role" else other].to_numpy(float)
            present[places, index] = True
        return values, present, facts["domain_key"].tolist(), facts["unit"].tolist()

    def column(self, method: str, metric: str = "dice") -> int:
        return self.methods.index(method) * len(self.metrics) + self.metrics.index(metric)

    def unseen(self, method: str, domains: Sequence[str], metric: str = "dice") -> Estimate:
        """Macro mean over `domains`; undefined where one of them is not whole."""
        key = (metric, tuple(domains))
        if key not in self._known:
            self._known[key] = self._unseen_of_all(key[1], metric)
        return self._known[key].get(method, Estimate(math.nan))

    def _unseen_of_all(self, domains: tuple[str, ...], metric: str) -> dict[str, Estimate]:
        """Of every method that has all of `domains`: many estimates at once cost little more than one."""
        names = [name for name in self.methods if all((name, "test", domain) in self.whole for domain in domains)]
        if self.test is None or not domains or not names:
            return {}
        weights = np.stack([self.test.weights(self.column(name, metric), domains) for name in names])
        return dict(zip(names, self.test.contrasts(weights), strict=True))

    def lead(self, method: str, other: str, domains: Sequence[str] | None = None) -> Estimate:
        """How much higher the macro Dice of one complete method is, paired by image; over all domains, or over `domains`."""
        assert self.test is not None
        columns = (self.column(method), self.column(other))
        ours, theirs = (self.test.weights(column, domains) for column in columns)
        return self.test.contrast(ours - theirs)

    def alike(self, methods: Sequence[str]) -> list[list[str]]:
        """Groups of `methods` that have the same Dice on every image."""
        if self.test is None:
            return []
        groups: dict[int, list[str]] = {}
        for name in methods:
            groups.setdefault(int(self.test.alike[self.column(name)]), []).append(name)
        return [names for names in groups.values() if len(names) > 1]

    def ranks(self, methods: Sequence[str], domains: Sequence[str], metric: str = "dice") -> list[tuple[int, int]]:
        """Best and worst rank that the images leave open for each of `methods`, all of which have these domains whole."""
        if self.test is None or not methods:
            return []
        columns = [self.column(name, metric) for name in methods]
        better = REGISTRY[metric].higher_is_better
        return rank_ranges(self.test, columns, higher_is_better=better, domains=domains)

    def shared_images(self, columns: Sequence[int]) -> tuple[FloatArray, list[str], list[str]]:
        """Values (images, columns) of the test images, their domains and units; for complete methods all are defined."""
        values, places, units = self._tested
        return values[:, columns], places, units

    def seen(self, method: str, domains: Sequence[str]) -> Estimate:
        if (
            self.roles is None
            or not domains
            or any((method, "validation", domain) not in self.whole for domain in domains)
        ):
            return Estimate(math.nan)
        return self.roles.contrast(self.roles.weights(2 * self.methods.index(method) + 1, domains))

    def gap(self, method: str, seen: Sequence[str], unseen: Sequence[str]) -> Estimate:
        if (
            math.isnan(self.seen(method, seen).value)
            or math.isnan(self.unseen(method, unseen).value)
            or self.roles is None
        ):
            return Estimate(math.nan)
        column = 2 * self.methods.index(method)
        return self.roles.contrast(self.roles.weights(column + 1, seen) - self.roles.weights(column, unseen))

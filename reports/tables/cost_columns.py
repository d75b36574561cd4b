"""Every column of the table of costs, and what it means: for rows of `Leaderboard.costs`, one for each method and machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from reports.analysis.costs import drift_words
from reports.records.formatting import counted, fixed, significant, written
from reports.tables.cells import (
    EVERYWHERE,
    Cell,
    Column,
    fastest_cell,
    machine_cell,
    measured_cell,
    method_cell,
    number_words,
    size_words,
)


def _timed(cell: Callable[[pd.Series], Cell]) -> Callable[[pd.Series], Cell]:
    """The cell of a time, marked where the machine was not quiet."""

    def marked(row: pd.Series) -> Cell:
        found = cell(row)
        return replace(found, detail="; ".join(word for word in (found.detail, drift_words(row)) if word))

    return marked


_COLUMNS = [
    Column("title", "Method", "", method_cell, numeric=False, shown_in=EVERYWHERE),
    Column(
        "parameters_total",
        "Parameters",
        "All parameters.",
        number_words("parameters_total", counted),
        better="lower",
        shown_in=EVERYWHERE,
    ),
    Column(
        "parameters_active",
        "Active",
        "Parameters that an image of one modality passes through.",
        number_words("parameters_active", counted),
        better="lower",
    ),
    Column(
        "parameters_trainable",
        "Trainable",
        "Parameters that learn in one stage of the training at least. What is frozen in all stages is not among them.",
        number_words("parameters_trainable", counted),
        better="lower",
    ),
    Column(
        "gmacs",
        "GMACs",
        "Billions of multiply-accumulate operations for one image of the stated size, attention included.",
        lambda row: Cell(written(row["gmacs"], significant), size_words(row, "image_size")),
        better="lower",
        shown_in=EVERYWHERE,
    ),
    Column(
        "latency",
        "Latency",
        "Milliseconds for one image alone: the median, and the time that 95 % of the runs stay within (p95). Of the plain"
        " float32 network, the form that all methods have. Measured in two rounds, between which the other methods are measured:"
        " where their medians differ by more than 10 %, the machine was not quiet, which stands beside each time.",
        _timed(lambda row: measured_cell(row, "latency_ms_p50", "{} ms", "latency_ms_p95", "p95 {} ms")),
        better="lower",
        shown_in=EVERYWHERE,
    ),
    Column(
        "fastest",
        "Fastest form",
        "The lowest median latency among the forms that were timed by turns (plain; accelerated, where a method offers it; compiled,"
        " where it was asked for; each number format that the machine has instructions for), and which form it is. Methods differ in the forms they have.",
        _timed(fastest_cell),
        better="lower",
        shown_in=EVERYWHERE,
    ),
    Column(
        "size_exponent",
        "Growth",
        "e, where the latency grows as the image's side to the power e, fitted to half, once and twice the side: 2 is in step"
        " with the pixels.",
        number_words("size_exponent", lambda value: fixed(value, 1)),
        better="lower",
    ),
    Column(
        "throughput",
        "Images/s",
        "Throughput of the plain float32 network at the best of the batch sizes tried, and which one.",
        _timed(lambda row: measured_cell(row, "throughput_images_per_second", "{}", "throughput_batch", "batch {}")),
        better="higher",
        shown_in=EVERYWHERE,
    ),
    Column(
        "peak_memory_mib",
        "Peak memory",
        "Weights, one image, and the largest sum of tensors alive while it is predicted (float32).",
        lambda row: measured_cell(row, "peak_memory_mib", "{} MiB"),
        better="lower",
    ),
]
_ENERGY = Column(
    "energy_mj_per_image",
    "Energy",
    "Millijoules that the whole GPU takes for one image, at the batch size of the throughput, by the counter of its driver.",
    lambda row: measured_cell(row, "energy_mj_per_image", "{} mJ"),
    better="lower",
)
_MACHINE = Column("machine", "Measured on", "Processor or GPU, threads, number format.", machine_cell, numeric=False)


def cost_columns(costs: pd.DataFrame) -> list[Column]:
    """The columns in order; energy, which few machines tell, only where it was measured."""
    energy = costs["energy_mj_per_image"].notna().any()
    return [*_COLUMNS, *([_ENERGY] if energy else []), _MACHINE]


FORM_COLUMNS = [
    Column("title", "Method", "", method_cell, numeric=False),
    Column("form", "Form", "", lambda row: Cell(row["form"], row["dtype"]), numeric=False),
    Column(
        "latency",
        "Latency",
        "",
        lambda row: measured_cell(row, "latency_ms_p50", "{} ms", "latency_ms_p95", "p95 {} ms"),
        better="lower",
    ),
    Column(
        "throughput",
        "Images/s",
        "",
        lambda row: measured_cell(row, "throughput_images_per_second", "{}", "throughput_batch", "batch {}"),
        better="higher",
    ),
    Column(
        "by_batch",
        "Images/s by batch",
        "",
        lambda row: Cell(
            ", ".join(f"{batch}: {significant(rate)}" for batch, rate in row["throughput_by_batch"].items())
        ),
        numeric=False,
    ),
    Column("machine", "Measured on", "", lambda row: Cell(row["machine"]), numeric=False),
]
"""For rows of `form_table`: how long each form takes, and how many images a second."""

"""Counts parameters and multiply-accumulates of every shipped method into suites/counts.csv, which `list` shows.

    python docs/count_costs.py

Methods that can't be built without weights that no package ships are left out, with the reason on the screen.
"""

from __future__ import annotations

import csv
import sys
from io import StringIO

import torch

from harness.config.cards import COUNTED_SIZE
from harness.config.loading import load_config
from harness.config.yaml_tree import config_folder, option_names
from harness.data.folder.sample import MODALITIES
from harness.efficiency.measure import count_macs, count_parameters
from harness.errors import UserError
from harness.files import atomic_write_text
from harness.methods.building import build_method


def count(name: str) -> dict[str, object]:
    """One row of the table.

    Raises:
        UserError: the method can't be built here.
    """
    method_config = load_config([f"method={name}", f"training.image_size={COUNTED_SIZE}"]).methods[name]
    if "trainer" in method_config:
        raise UserError("A program of its own trains it.")
    method = build_method(name, method_config["model"], list(MODALITIES), prompt=method_config["card"]["prompt"]).eval()
    found = count_parameters(method)
    macs = count_macs(method, torch.rand(1, 3, COUNTED_SIZE, COUNTED_SIZE, generator=torch.Generator().manual_seed(0)))
    return {
        "method": name,
        "parameters": found["parameters_total"],
        "active": found["parameters_active"],
        "gmacs": round(macs / 1e9, 4),
    }


def main() -> None:
    table = StringIO()
    writer = csv.DictWriter(table, ["method", "parameters", "active", "gmacs"], lineterminator="\n")
    writer.writeheader()
    for name in option_names("method"):
        try:
            writer.writerow(count(name))
        except UserError as error:
            print(f"{name}: left out. {error}", file=sys.stderr)
    atomic_write_text(config_folder() / "counts.csv", table.getvalue())


if __name__ == "__main__":
    main()

"""`python -m delightsam`: says what a weights file is, merges published checkpoints, and exports back to their layout."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from delightsam.modeling.config import MODALITY_NUMBERS, DeLightSAMConfig
from delightsam.weights.checkpoints import from_authors_files, load, save, save_authors
from delightsam.weights.file_kinds import DESCRIPTIONS, file_kind
from delightsam.weights.sam_family import KINDS, read_sam_family
from delightsam.weights.weights_files import WeightsError, read_state_dict

_NAMES = {number: name for name, number in MODALITY_NUMBERS.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 for a mistake in the arguments or the files."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "info":
            print(describe(options.file))
        elif options.command == "merge":
            model = from_authors_files(_assignments(options.checkpoints))
            save(model, options.out)
            print(f"Wrote {options.out}: {_modalities(model.config)}.")
        else:
            save_authors(load(options.file), modality_number(options.modality), options.out)
            print(f"Wrote {options.out}.")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def describe(path: str | Path) -> str:
    """What a weights file is, one fact a line. A file of a kind that is read here is checked key by key.

    Raises:
        WeightsError: a file that can't be read, or keys that do not fit its kind.
    """
    if Path(path).suffix == ".safetensors":
        model = load(path)
        config = model.config
        counts = model.parameter_counts()
        lines = [
            "kind: a model of delightsam.save",
            f"modalities: {_modalities(config)}",
            f"parameters: {counts['total']:,}; {counts['active']:,} take part for one image",
            *(f"{name}: {value}" for name, value in config.to_dict().items() if name != "modalities"),
        ]
        state = model.state_dict()
    else:
        state = read_state_dict(path)
        kind = file_kind(state)
        lines = [f"kind: {DESCRIPTIONS[kind]}", f"values: {sum(t.numel() for t in state.values()):,}"]
        if kind == "authors":
            preprocessing = from_authors_files({0: path}).config.preprocessing
            lines += ["modalities: one; the file does not say which", f"preprocessing: {preprocessing}"]
        elif kind in KINDS:
            weights = read_sam_family(path)
            lines += [f"stem: {weights.stem}", f"preprocessing: {weights.preprocessing}"]
        else:
            lines.append(f"first keys: {', '.join(list(state)[:3])}")
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        lines.append(f"wrong: {len(broken)} tensors hold values that are not finite: {', '.join(broken[:3])} ...")
    return "\n".join(lines)


def modality_number(text: str) -> int:
    """The number of a modality given by its name or its number.

    Raises:
        ValueError: neither.
    """
    if text.isdecimal():
        return int(text)
    if text not in MODALITY_NUMBERS:
        close = difflib.get_close_matches(text, MODALITY_NUMBERS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"Unknown modality '{text}'.{hint} Known: {', '.join(MODALITY_NUMBERS)}, or a number.")
    return MODALITY_NUMBERS[text]


def _modalities(config: DeLightSAMConfig) -> str:
    return ", ".join(f"{k} {_NAMES.get(k, '')}".strip() for k in config.modalities)


def _assignments(texts: Sequence[str]) -> dict[int, str]:
    paths: dict[int, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not path:
            raise ValueError(f"Expected MODALITY=FILE, for example fundus=ESP_best.pth; found '{text}'.")
        number = modality_number(name)
        if number in paths:
            raise WeightsError(f"Modality {name} is given twice: {paths[number]} and {path}.")
        paths[number] = path
    return paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m delightsam", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="what a weights file is, and whether it is whole")
    info.add_argument("file")
    merge = commands.add_parser("merge", help="one model of published checkpoints, which hold one modality each")
    merge.add_argument("checkpoints", nargs="+", metavar="MODALITY=FILE")
    merge.add_argument("--out", required=True, help="the .safetensors file to write")
    export = commands.add_parser("export", help="one modality of a model, in the layout of the published checkpoints")
    export.add_argument("file", help="a .safetensors file of this package")
    export.add_argument("--modality", required=True, help="name or number")
    export.add_argument("--out", required=True, help="the .pth file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())

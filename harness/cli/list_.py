"""`list`: what can be named on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import config_folder_argument
from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from harness.metrics import Metric

KINDS = ("suites", "methods", "protocols", "trainings", "executors", "sweeps", "metrics")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("list", help="suites, methods, protocols, training presets, metrics")
    parser.add_argument("kind", nargs="?", help=f"one of: {', '.join(KINDS)}; all when left out")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own YAML files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.methods import method_cards
    from harness.tree import file_of, option_names

    extra = config_folder_argument(args)
    if args.kind is not None and args.kind not in KINDS:
        raise UserError(f"Unknown kind '{args.kind}'.{did_you_mean(args.kind, KINDS)}")
    for kind in [args.kind] if args.kind else KINDS:
        rows: list[tuple[str, str]]
        if kind == "methods":
            rows = [(name, _describe(card)) for name, card in method_cards(extra).items()]
        elif kind == "metrics":
            from harness.metrics import REGISTRY

            rows = [(metric.name, _metric_line(metric)) for metric in REGISTRY.values()]
        else:
            group = kind.removesuffix("s")
            files = {name: file_of(group, name, extra) for name in option_names(group, extra)}
            rows = [(name, _first_comment(path.read_text("utf-8"))) for name, path in files.items()]
        print(f"{kind}:")
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            print(f"  {name:<{width}}  {text}".rstrip())
    return 0


def _describe(card: dict[str, object]) -> str:
    parts = [str(card.get("title", ""))]
    if card.get("prompt", "none") != "none":
        parts.append(f"prompt: {card['prompt']}")
    if card.get("pretrained", "none") != "none":
        parts.append(f"pretrained: {card['pretrained']}")
    return "; ".join(parts)


def _metric_line(metric: Metric) -> str:
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.title}{unit}, {'higher' if metric.higher_is_better else 'lower'} is better. {metric.reference}"


def _first_comment(text: str) -> str:
    """The first line of a YAML file's leading comment that is for people."""
    for line in text.splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""

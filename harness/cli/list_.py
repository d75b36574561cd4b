"""`list`: what can be named on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import config_folder_argument
from harness.config.cards import COUNTED_SIZE
from harness.errors import UserError, did_you_mean
from harness.methods.card import NO_WEIGHTS, SCRATCH, start_of

if TYPE_CHECKING:
    from harness.config.cards import Counts
    from harness.metrics import Metric

KINDS = ("suites", "methods", "algorithms", "protocols", "trainings", "executors", "sweeps", "metrics", "corruptions")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "list", help="suites, methods, algorithms, protocols, training presets, metrics, corruptions"
    )
    parser.add_argument("kind", nargs="?", help=f"one of: {', '.join(KINDS)}; all when left out")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own YAML files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    extra = config_folder_argument(args)
    if args.kind is not None and args.kind not in KINDS:
        raise UserError(f"Unknown kind '{args.kind}'.{did_you_mean(args.kind, KINDS)}")
    for kind in [args.kind] if args.kind else KINDS:
        rows = _rows(kind, extra, whole=args.kind is not None)
        print(f"{kind}:")
        width = max((len(name) for name, _ in rows), default=0)
        for name, lines in rows:
            for number, line in enumerate(lines):
                print(f"  {'' if number else name:<{width}}  {line}".rstrip())
    return 0


def _rows(kind: str, extra: Path | None, *, whole: bool) -> list[tuple[str, list[str]]]:
    """Names with the lines beside them; `whole` cards only where one kind was asked for."""
    from harness.config.cards import algorithm_cards, method_cards, method_counts

    if kind == "methods":
        counts = method_counts()
        return [(name, _method_lines(card, counts.get(name), whole)) for name, card in method_cards(extra).items()]
    if kind == "algorithms":
        comments = _comments("algorithm", extra)
        return [(name, _algorithm_lines(card, comments[name], whole)) for name, card in algorithm_cards(extra).items()]
    if kind == "metrics":
        from harness.metrics import REGISTRY

        return [(metric.name, [_metric_line(metric)]) for metric in REGISTRY.values()]
    if kind == "corruptions":
        from harness.data.corruptions.registry import CORRUPTIONS

        return [
            (name, [f"{each.title}: {each.definition} In {', '.join(each.modalities)}{' and others' * each.general}."])
            for name, each in CORRUPTIONS.items()
        ]
    return [(name, [comment]) for name, comment in _comments(kind.removesuffix("s"), extra).items()]


def _comments(group: str, extra: Path | None) -> dict[str, str]:
    from harness.config.yaml_tree import file_of, option_names

    names = option_names(group, extra)
    return {name: _first_comment(file_of(group, name, extra).read_text("utf-8")) for name in names}


def _method_lines(card: dict[str, Any], counts: Counts | None, whole: bool) -> list[str]:
    parts = [str(card.get("title", ""))]
    if counts is not None:
        active = f" ({counts.active / 1e6:.1f} M active)" if counts.active < counts.parameters else ""
        size = f"{counts.parameters / 1e6:.1f} M parameters{active}, {counts.gmacs:.2f} GMACs at {COUNTED_SIZE} px"
        parts.append(size if counts.parameters else "no parameters")
    start = start_of(card)
    if whole or start not in (SCRATCH, NO_WEIGHTS):
        parts.append(f"start: {start}")
    labels = {"prompt": "prompt", "pretrained": "pretrained"}
    parts += [f"{word}: {card[key]}" for key, word in labels.items() if whole or card.get(key, "none") != "none"]
    return ["; ".join(parts), *(_sources(card) if whole else [])]


def _algorithm_lines(card: dict[str, Any], comment: str, whole: bool) -> list[str]:
    marked = " Sees unlabelled test images." if card.get("sees_test_images") else ""
    return [f"{card.get('title', '')}: {comment}{marked}", *(_sources(card) if whole else [])]


def _sources(card: dict[str, Any]) -> list[str]:
    return [f"paper: {card.get('paper', 'none')}", f"licence: {card.get('licence', 'none')}"]


def _metric_line(metric: Metric) -> str:
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.title}{unit}, {'higher' if metric.higher_is_better else 'lower'} is better. {metric.reference}"


def _first_comment(text: str) -> str:
    """The first line of a YAML file's leading comment that is for people."""
    for line in text.splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""

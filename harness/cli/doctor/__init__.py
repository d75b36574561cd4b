"""`doctor`: whether this machine and installation can run the bench, and what to do where they can't.

Nothing here imports torch or Ray: they are tried in processes of their own, which may crash or hang.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness.cli.common import terminal, unquoted
from harness.errors import UserError, did_you_mean

_DESCRIPTION = """\
Looks at versions, devices, cores, memory, disk, weights and optional packages, and says what to do about each.
Changes nothing and starts nothing. Exit code 0 when `run suite=domain_generalization` can run here, else 1.
"""
_COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check this machine and installation, with advice",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="store.root=DIR", help="where results are to be kept; default: runs"
    )
    parser.add_argument(
        "--network", action="store_true", help="also ask whether Hugging Face answers; at most 4 seconds"
    )
    parser.add_argument("--json", action="store_true", help="for programs: all facts and findings")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.cli.doctor.checkup import examine

    root = _store_root(args.overrides)
    with terminal(stderr=True).status("Importing torch and Ray ..."):
        found = examine(root, network=args.network)
    if args.json:
        print(json.dumps(found.to_json(), indent=2))
        return 0 if found.ready else 1
    console = terminal()
    for finding in found.findings:
        console.print(f"{finding.state:7}", style=_COLOURS[finding.state], end=" ")
        console.print(f"{finding.name:8} {finding.found}", soft_wrap=True)
        console.print(f"{'':16} {finding.advice}", style="dim", soft_wrap=True)
    if found.ready:
        console.print("\nReady: python -m harness run suite=domain_generalization", soft_wrap=True)
        return 0
    names = ", ".join(finding.name for finding in found.findings if finding.state == "problem")
    console.print(f"\nNot ready yet: {names}. Each line above says what to do.", soft_wrap=True)
    return 1


def _store_root(words: list[str]) -> Path:
    from harness.config import StoreConfig

    root = StoreConfig().root
    for word in words:
        key, _, value = word.partition("=")
        if key != "store.root" or not value:
            raise UserError(f"doctor takes store.root=DIR; found '{word}'.{did_you_mean(key, ['store.root'])}")
        root = unquoted(value)
    return Path(root)

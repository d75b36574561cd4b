"""`status`: what a run is doing, from another terminal or machine, by reading its store."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import textwrap
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_config_arguments, config_folder_argument, unquoted
from harness.errors import UserError, counted, some

if TYPE_CHECKING:
    from harness.store.run_status import RunStatus, TrialStatus
    from harness.store.store import Store

_LOOK_SECONDS = 2.0
_LINE_SECONDS = 30.0
_SHOWN = 20
# What of a run's words decides on its trials; the rest says where and how they run.
_TRIAL_KEYS = ("data", "protocol", "training", "metrics", "seeds", "methods", "algorithms")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="what a run is doing: done, running, failed, time left; from any terminal",
        description="Shows the newest run in the store, of a suite (suite=NAME), or of the same words as `run`, by reading"
        " the store alone. Exit code: 0; 1 when a trial failed.",
    )
    add_config_arguments(parser)
    parser.epilog = None
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--watch", action="store_true", help="go on until the run ends; a line now and then off a terminal"
    )
    how.add_argument("--json", action="store_true", help="everything, each trial too, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from harness.store.run_status import StatusReader

    store, find = _finder(args.overrides, config_folder_argument(args))
    reader = StatusReader(store)
    status = reader.read(find())
    if args.json:
        print(json.dumps(_as_json(status), indent=2))
    elif args.watch and sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(Text(text_of(status, _width())), auto_refresh=False, transient=True) as live:
            while status.at_work:
                time.sleep(_LOOK_SECONDS)
                status = reader.read(find())
                live.update(Text(text_of(status, _width())), refresh=True)
        print(text_of(status, _width()))
    elif args.watch:
        while status.at_work:
            print(line_of(status), flush=True)
            status = _at_next_line(reader, find)
        print(text_of(status, _width()))
    else:
        print(text_of(status, _width()))
    return 1 if status.counts["failed"] else 0


def _at_next_line(reader: Any, find: Any) -> RunStatus:
    """The status when the next line is due, or when the run has ended."""
    due = time.monotonic() + _LINE_SECONDS
    while True:
        time.sleep(_LOOK_SECONDS)
        status: RunStatus = reader.read(find())
        if time.monotonic() >= due or not status.at_work:
            return status


def _finder(words: list[str], extra: Path | None) -> tuple[Store, Any]:
    """The store that the words name, and a function that finds the run in it.

    Raises:
        UserError: unknown words.
    """
    from harness.config import RunConfig, StoreConfig
    from harness.store.queries import find_run
    from harness.store.store import Store

    given = {key: unquoted(value) for key, equals, value in (word.partition("=") for word in words) if equals}
    if len(given) == len(words) and given.keys() <= {"store.root", "suite"} and all(given.values()):
        store = Store(given.get("store.root", StoreConfig().root))
        return store, lambda: find_run(store, given.get("suite"))

    from harness.config.loading import load_config

    config: RunConfig = load_config(words, extra)
    store = Store(config.store.root)
    return store, lambda: _run_of(config, store)


def _run_of(config: Any, store: Store) -> Path:
    """The newest run that these words would go on with.

    Raises:
        UserError: there is none.
    """
    from harness.store.queries import find_run, run_folders
    from harness.store.records import read_config

    newest, wanted = find_run(store, config.name), asdict(config)
    for folder in reversed(run_folders(store)):
        if folder.parent.name == config.name:
            kept = read_config(folder)
            if all(kept.get(key) == wanted[key] for key in _TRIAL_KEYS):
                return folder
    raise UserError(
        f"The store {store.root} has runs of {config.name}, but none of exactly these words; the newest began at"
        f" {newest.name}: python -m harness status suite={config.name} store.root={shlex.quote(str(store.root))}"
    )


def text_of(status: RunStatus, width: int) -> str:
    """The whole status as plain text of at most `width` columns where words allow it."""
    lines = [f"{status.suite} {status.time} in {status.store}", _who(status), "", counts_of(status)]
    if status.at_work:
        lines.append(_time_left(status))
    running = status.of("running")
    if running:
        lines += ["", "running", *_running_lines(running, time.time())]
    for state in ("failed", "interrupted"):
        rows = status.of(state)
        if rows:
            lines += ["", state, *_reason_lines(rows, width)]
    lines += ["", *_next_step(status)]
    return "\n".join(lines).rstrip()


def counts_of(status: RunStatus) -> str:
    """`12 trials: 3 done, 2 running, 7 pending, 0 failed, 0 interrupted`."""
    return f"{counted(len(status.rows), 'trial')}: " + ", ".join(
        f"{count} {state}" for state, count in status.counts.items()
    )


def line_of(status: RunStatus) -> str:
    """The status in one line, for logs."""
    clock = datetime.now().strftime("%H:%M:%S")
    return f"{clock} {status.suite}: {counts_of(status)}; {_time_left(status)}"


def _who(status: RunStatus) -> str:
    if not status.at_work:
        counts = status.counts
        ending = "stopped before its end" if counts["pending"] or counts["interrupted"] else "ended"
        return ending + ("" if status.holder is None else f"; the store is held by {_process(status.holder)}")
    return "run from another machine" if status.holder is None else f"run by {_process(status.holder)}"


def _process(holder: dict[str, Any]) -> str:
    if not holder.get("pid"):
        return "a process that has not said who it is"
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _time_left(status: RunStatus) -> str:
    if not any(status.counts[state] for state in ("running", "pending", "interrupted")):
        return "no trial is left to run: costs and the report follow"
    if not status.unknown:
        return "time left: " + ("unknown" if status.seconds_left is None else f"about {duration(status.seconds_left)}")
    rest = f"; the rest: about {duration(status.seconds_left)}" if status.seconds_left is not None else ""
    return f"time left: unknown for {some(status.unknown)}{rest}"


def _running_lines(rows: list[TrialStatus], moment: float) -> list[str]:
    width = max(len(row.label) for row in rows)
    lines = []
    for row in rows[:_SHOWN]:
        epoch = f"epoch {row.epoch or 0}/{row.epochs or '?'}"
        dice = f"dice {row.dice:.3f}" if row.dice is not None else "dice -"
        since = f"{duration(moment - datetime.fromisoformat(row.started).timestamp())}" if row.started else ""
        tries = f"attempt {row.attempts}" if row.attempts > 1 else ""
        lines.append(f"  {row.label:<{width}}  {epoch:<13} {dice:<10}  {row.host or ''}  {since}  {tries}".rstrip())
    return lines + _more(rows)


def _reason_lines(rows: list[TrialStatus], width: int) -> list[str]:
    lines = []
    for row in rows[:_SHOWN]:
        tries = f" after {row.attempts} attempts" if row.attempts > 1 else ""
        place = f" at epoch {row.epoch}/{row.epochs}" if row.epochs and row.state == "interrupted" else ""
        lines.append(f"  {row.label}{place}{tries}")
        if row.reason:
            lines += textwrap.wrap(row.reason, max(40, width - 6), initial_indent="    ", subsequent_indent="    ")
    return lines + _more(rows)


def _more(rows: list[TrialStatus]) -> list[str]:
    return [f"  and {len(rows) - _SHOWN} more: --json shows all"] if len(rows) > _SHOWN else []


def _next_step(status: RunStatus) -> list[str]:
    counts = status.counts
    if status.at_work or counts["done"] == len(status.rows):
        return [f"Report: {status.report}"] if status.report and not status.at_work else []
    what = "To try again what failed" if counts["failed"] else "To go on"
    if not status.command:
        return [f"{what}: the same command again."]
    there = f" (in {status.directory})" if status.directory and Path(status.directory) != Path.cwd() else ""
    return [f"{what}{there}:", f"  {shlex.join(status.command)}"]


def duration(seconds: float) -> str:
    """`42 s`, `17 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _as_json(status: RunStatus) -> dict[str, Any]:
    return {
        **{key: value for key, value in asdict(status).items() if key not in ("rows", "store", "report")},
        "store": str(status.store),
        "report": str(status.report) if status.report else None,
        "counts": status.counts,
        "trials": [asdict(row) for row in status.rows],
    }

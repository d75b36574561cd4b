"""`evaluate`: measures masks that another tool made, and puts it on the leaderboard beside the methods of a run."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import config_folder_argument, terminal, unquoted
from harness.data.folder.sample import fault_of_name
from harness.errors import UserError, did_you_mean, near_name

if TYPE_CHECKING:
    from harness.evaluation.external import ExternalMasks
    from harness.evaluation.external.trials import ExternalTrial
    from harness.planning.plan import Plan
    from harness.store.records import SuiteRecord
    from harness.store.store import Store

logger = logging.getLogger(__name__)
_OWN_WORDS = ("predictions", "name", "about", "seed", "nifti", "resize")
_SHOWN = 10
_DESCRIPTION = """\
Measures masks of another tool by the bench's metrics and puts them on the leaderboard, marked as external.

  predictions=DIR   masks as PNG, TIFF, BMP, GIF, WebP, JPEG, NIfTI, NPZ, NPY or MAT, laid out in one of these ways:
                      DIR/<modality>/<domain>/<id>.png           one set; each image's mask comes from a model that
                                                                 was not trained on its domain
                      DIR/<split>/<modality>/<domain>/<id>.png   a set for each split (see `plan`: fold0, fold1, ...)
                      DIR/<id>.png, DIR/<split>/<id>.png         where no two images share an id
  name=NAME         how tables call it
  seed=N            of a tool that was trained several times: evaluate once for each seed
  nifti=AXES        how the axes of NIfTI masks are meant. affine (default): the affine turns them to the image's own, as
                    SimpleITK writes pictures (columns to the left, rows to the back); an identity affine is refused.
                    columns_rows: the first axis is the columns, the second the rows. rows_columns: as NumPy has it
  resize=nearest    bring masks of another size to that of their image; the table marks it. Else they are refused
  card.KEY=VALUE    title, paper, licence, prompt, uses_modality, pretrained, pretrained_on, start (scratch, natural images,
                    medical images: what the weights learnt on before)
  costs.KEY=VALUE   what its makers state: parameters_total, gmacs, image_size, throughput_images_per_second, device, ...
  about=FILE        a YAML file with the same: {card: {...}, costs: {...}}
  data.root=DIR  protocol=NAME  protocol.KEY=VALUE  data.KEY=VALUE  metrics.KEY=VALUE  store.root=DIR   as for `run`

It joins the newest run in the store that has the same splits. A domain with missing masks has no mean: exit code 1.
"""
_EXAMPLE = """\
example:
  python -m harness evaluate predictions=nnunet_masks name=nnunet data.root=/path/to/data costs.parameters_total=33000000
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure another tool's masks and rank them",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see above")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of your own YAML files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    measured = measure_external(args.overrides, config_folder_argument(args), terminal(stderr=True), terminal())
    return _tell(measured, _command(args.overrides))


@dataclass(frozen=True)
class MeasuredMasks:
    """Another tool's masks, measured: the run in the store that they now stand in, and what was matched to what."""

    store: Store
    folder: Path
    masks: ExternalMasks
    trials: list[ExternalTrial]


def measure_external(overrides: list[str], extra: Path | None, console: Any, table: Any | None) -> MeasuredMasks:
    """Measures the masks that the words name, lets them join a run, and writes its report.

    Args:
        extra: a folder of the user's own YAML files.
        console: where progress is shown.
        table: where the leaderboard is printed, if anywhere.
    """
    from harness.config.loading import load_config
    from harness.evaluation.external import match_masks
    from harness.evaluation.external.card import read_description
    from harness.planning.plan import build_plan
    from harness.store.store import Store

    words, described, others = _sorted_words(overrides)
    description = read_description(words["name"], words.get("about"), described)
    config = load_config(others, extra)
    if config.data.root is None:
        raise UserError("data.root=... is missing: the folder of the images that the masks belong to.")
    config.methods = {}  # those of the default suite take no part
    plan = build_plan(config)
    masks = match_masks(Path(words["predictions"]).expanduser(), plan.splits)
    store = Store(config.store.root)
    store.prepare()
    with store.exclusive():
        return _keep_and_report(plan, masks, store, words, description, _command(overrides), console, table)


def _command(overrides: list[str]) -> list[str]:
    return ["python", "-m", "harness", "evaluate", *overrides]


def _sorted_words(overrides: list[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """This command's own words, the description's (card.*, costs.*), and those of the configuration."""
    own: dict[str, str] = {}
    described: dict[str, str] = {}
    others = []
    for word in overrides:
        key, equals, value = word.partition("=")
        if key in _OWN_WORDS:
            # Of a name or a rule the last word holds, as in all commands; of these several may be meant.
            if key in ("predictions", "seed") and own.get(key, unquoted(value)) != unquoted(value):
                raise UserError(
                    f"{key}= is given twice, {own[key]} and {unquoted(value)}: expected one. Evaluate once for each."
                )
            own[key] = unquoted(value)
        elif key.split(".")[0] in ("card", "costs") and equals:
            described[key] = value
        elif key in ("method", "reuse", "seeds") or key.startswith("methods."):
            raise UserError(
                f"evaluate takes no {key}=: it trains nothing. To name the tool: name=NAME; its seed: seed=N."
            )
        else:
            others.append(word)
    for key, example in (("predictions", "predictions=/path/to/masks"), ("name", "name=nnunet")):
        if not own.get(key):
            near = [word for word in others if near_name(word.partition("=")[0], [key])]
            raise UserError(
                f"{key}= is missing: expected for example {example}." + (f" Found {near[0]}." if near else "")
            )
    # Slashes may be: `nnU-Net 2D/3D` is a name.
    if fault := fault_of_name(own["name"].replace("/", "-")):
        raise UserError(f"name={own['name']!r}: expected a name that tables and paths keep as it is, found {fault}.")
    _check_choices(own)
    return own, described, others


def _check_choices(own: dict[str, str]) -> None:
    from harness.data.reading.nifti import AXES

    for key, choices in (("nifti", AXES), ("resize", ("nearest",))):
        if key in own and own[key] not in choices:
            raise UserError(f"{key}={own[key]}: expected {' or '.join(choices)}.{did_you_mean(own[key], choices)}")


def _keep_and_report(
    plan: Plan,
    masks: ExternalMasks,
    store: Store,
    words: dict[str, str],
    description: Any,
    command: list[str],
    console: Any,
    table: Any | None,
) -> MeasuredMasks:
    from rich.progress import Progress

    from harness.cli.run import write_report
    from harness.data.reading.nifti import AFFINE
    from harness.evaluation.external import evaluate_external

    config, name, seed = plan.config, words["name"], _seed(words.get("seed", "0"))
    _refuse_name_of_a_method(store, name)
    with Progress(console=console, transient=True) as display:
        task = display.add_task("Measuring")
        trials = evaluate_external(
            masks, plan.splits, plan.dataset, store, name=name, card=description.card, protocol=config.protocol,
            metrics=config.metrics, data_name=plan.dataset.root.name, seed=seed,
            keep_predictions=config.store.predictions, command=command, axes=words.get("nifti", AFFINE),
            resize="resize" in words,
            progress=lambda done, total: display.update(task, completed=done, total=total),
        )  # fmt: skip
    if description.costs:
        store.write_efficiency(*description.cost_row(name))
    card = store.spec(trials[0].ids).method.card
    folder = _start_run(plan, trials, store, name, seed, card, console)
    write_report(store, folder, console, table)
    return MeasuredMasks(store, folder, masks, trials)


def _seed(word: str) -> int:
    if not word.isdigit():
        raise UserError(f"seed={word}: expected a whole number from 0 up.")
    return int(word)


def _refuse_name_of_a_method(store: Store, name: str) -> None:
    """Rows of one name become one method: masks from elsewhere must not mix with trials of the bench."""
    for ids in (ids for trial_id in store.trial_ids() for ids in store.ids_of(trial_id)):
        spec = store.spec(ids)
        if spec.method.name == name and not spec.is_external:
            raise UserError(f"name={name}: the store {store.root} has trials of a method of that name. Choose another.")


def _start_run(
    plan: Plan, trials: list[ExternalTrial], store: Store, name: str, seed: int, card: dict[str, Any], console: Any
) -> Path:
    """A new run that asks for these trials and those of the run they join."""
    from dataclasses import asdict

    import yaml

    from harness.store.records import TrialEntry

    host = _run_of_same_splits(plan, store)
    ours = [TrialEntry(trial.ids, name, trial.fold, seed) for trial in trials]
    if host is None:
        text = f"No run in {store.root} has these splits: {name} stands alone."
        if store.suites():
            logger.warning("%s To join a run, give the words for data, protocol and metrics that it had.", text)
        else:
            console.print(text, soft_wrap=True, highlight=False)
        host_name, config, others = "external", {**asdict(plan.config), "name": "external"}, []
    else:
        console.print(f"{name} joins the run {host.name}/{host.time}.", soft_wrap=True, highlight=False)
        host_name, config = host.name, host.config
        others = [entry for entry in host.trials if (entry.method, entry.seed) != (name, seed)]
    config = {**config, "methods": {**(config.get("methods") or {}), name: {"card": card}}}
    return store.start_suite(host_name, yaml.safe_dump(config, sort_keys=False, allow_unicode=True), [*others, *ours])


def _run_of_same_splits(plan: Plan, store: Store) -> SuiteRecord | None:
    """The newest run whose trials have exactly these splits, by content, and measured alike."""

    wanted = {split.name: split.fingerprint for split in plan.splits}
    for record in reversed(store.suites()):
        found: dict[str, str] = {}
        alike = True
        for entry in record.trials:
            if entry.fold in found or not (store.measurement_folder(entry.ids) / "spec.json").exists():
                continue
            spec = store.spec(entry.ids)
            found[entry.fold] = spec.split.fingerprint
            alike &= spec.evaluation == plan.config.metrics
        if found == wanted and alike:
            return record
    return None


def _tell(measured: MeasuredMasks, command: list[str]) -> int:
    """Names what is missing and what is left over on standard error; gives the exit code."""
    masks, trials = measured.masks, measured.trials
    if masks.extra:
        names = "\n".join(f"  {path}" for path in masks.extra[:_SHOWN])
        more = f"\n  and {len(masks.extra) - _SHOWN} more" if len(masks.extra) > _SHOWN else ""
        words = "1 mask belongs" if len(masks.extra) == 1 else f"{len(masks.extra)} masks belong"
        print(f"Warning: {words} to no image of the test sets:\n{names}{more}", file=sys.stderr)
    holes = [trial for trial in trials if trial.missing]
    if not holes:
        return 0
    print("Masks are missing; these domains have no result:", file=sys.stderr)
    for trial in holes:
        print(f"  {trial.fold} {trial.domain}: {trial.missing} of {trial.images}", file=sys.stderr)
    keys = [f"{name}/{key}" if masks.per_split else key for name, absent in masks.missing.items() for key in absent]
    names = ", ".join(dict.fromkeys(keys[: _SHOWN * 2]))
    print(f"Expected for example: {names}.", file=sys.stderr)
    print(f"Add them and run again: {shlex.join(command)}", file=sys.stderr)
    return 1

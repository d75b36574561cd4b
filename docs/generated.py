"""Parts of the documentation that are made from the code when the site is built.

A page holds a line `<!-- generated: NAME words -->`; `expand` puts Markdown in its place. So nothing here can be out of date.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from docs.docstrings import api, functions, module_text
from docs.metric_pages import empty_policies, metric_table, one_metric
from docs.notebook_pages import notebook
from docs.result_pages import result_differences, results

_MARKER = re.compile(r"^<!-- generated: (?P<name>[a-z_]+)(?P<words>[^>]*?) -->$", re.MULTILINE)

# Where a page says nothing of methods: to compose all of a suite takes most of the time.
_ONE_METHOD = "method=[otsu]"


def expand(text: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: there is no part of that name, or the part knows no such word.
    """
    return _MARKER.sub(lambda found: PARTS[found["name"]](*found["words"].split()), text)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; cells keep to one line and their column."""
    lines = [list(head), *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", str(value)).replace("\n", " ")


def _comment(group: str, name: str) -> str:
    """The comment that a YAML file begins with."""
    from harness.config.yaml_tree import file_of

    lines = []
    for line in file_of(group, name, None).read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.lstrip("#").strip())
    return " ".join(lines)


def suites() -> str:
    """All suites with their questions."""
    from harness.config.loading import load_config
    from harness.config.yaml_tree import option_names

    rows = []
    for name in option_names("suite"):
        config = load_config([f"suite={name}", _ONE_METHOD])
        rows.append([f"`{name}`", _text(_comment("suite", name)), f"`{config.protocol.name}`"])
    return table(["`suite=`", "question", "protocol"], rows)


def options(group: str) -> str:
    """The choices of a group, each with the comment of its file."""
    from harness.config.yaml_tree import option_names

    return table([f"`{group}=`", "what it is"], [[f"`{n}`", _text(_comment(group, n))] for n in option_names(group)])


def presets() -> str:
    """What each training preset sets."""
    from harness.config.loading import load_config
    from harness.config.yaml_tree import option_names

    names = option_names("training")
    found = {name: load_config([f"training={name}", "training.amp=off", _ONE_METHOD]).training for name in names}
    keys = [item.name for item in fields(found[names[0]]) if item.name != "amp"]
    differing = [key for key in keys if len({str(getattr(config, key)) for config in found.values()}) > 1]
    return table(
        ["key", *(f"`{name}`" for name in names)],
        [[f"`{k}`", *(_value(getattr(found[n], k)) for n in names)] for k in differing],
    )


def methods() -> str:
    """Every shipped method: title, start, size."""
    from harness.config.cards import method_cards, method_counts
    from harness.methods.card import start_of

    counts = method_counts()
    rows = []
    for name, card in method_cards().items():
        count = counts.get(name)
        size = [f"{count.parameters / 1e6:.1f}", f"{count.gmacs:.1f}"] if count else ["", ""]
        rows.append([f"`{name}`", _text(str(card["title"])), start_of(card), card["prompt"], *size])
    return table(["`method=`", "title", "start", "prompt", "parameters (10⁶)", "GMACs at 256"], rows)


def corruptions() -> str:
    """Every corruption, the modalities it belongs to, and its five grades."""
    from harness.data.corruptions.registry import CORRUPTIONS

    return table(
        ["name", "what it does", "modalities"],
        [
            [f"`{n}`", _text(c.definition), ", ".join(c.modalities) + " and others" * c.general]
            for n, c in CORRUPTIONS.items()
        ],
    )


def columns() -> str:
    """Columns of the two tidy tables of `load_results`."""
    from reports.records.tidy import IMAGE_COLUMNS, TRIAL_COLUMNS

    parts = []
    for name, found in (("images", IMAGE_COLUMNS), ("trials", TRIAL_COLUMNS)):
        text = table(["column", "what it is"], [[f"`{key}`", _text(what)] for key, what in found.items()])
        parts.append(f"`Results.{name}`, then one column for each metric:\n\n{text}")
    return "\n\n".join(parts)


def datasets() -> str:
    """The catalogue of public datasets."""
    from harness.data.sources.recipe import recipes

    rows = [
        [f"`{n}`", _text(r.title), ", ".join(r.modalities), r.pairs or "", _text(r.licence)]
        for n, r in recipes().items()
    ]
    return table(["name", "title", "modality", "pairs", "licence"], rows)


def commands() -> str:
    """The help of every command."""
    os.environ["COLUMNS"] = "110"
    from harness.cli import make_parser

    return "\n\n".join(
        f"## `{name}`\n\n```text\n{parser.format_help().rstrip()}\n```" for name, parser in _parsers(make_parser())
    )


def _parsers(parser: Any) -> Iterator[tuple[str, Any]]:
    import argparse

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                nested = [(f"{name} {below}", each) for below, each in _parsers(child)]
                yield from nested or [(name, child)]


def configuration() -> str:
    """Every key of the configuration: what it does, its type, its default without words, what it may be."""
    from harness.config.loading import load_config
    from harness.config.schema import RunConfig

    return "\n\n".join(_section("", RunConfig(), load_config([])))


def _section(prefix: str, schema: Any, current: Any) -> Iterator[str]:
    comments, types = _field_comments(type(schema)), get_type_hints(type(schema))
    rows, below = [], []
    for item in fields(schema):
        key, value = prefix + item.name, getattr(current, item.name)
        if is_dataclass(getattr(schema, item.name)):
            below.append((f"{key}.", getattr(schema, item.name), value))
            continue
        default = "the suite's" if key in ("name", "methods", "algorithms") else _value(value)
        rows.append(
            [f"`{key}`", f"`{_type(types[item.name])}`", default, _allowed(key), _text(comments.get(item.name, ""))]
        )
    said = inspect.getdoc(type(schema)) or ""
    text = _text(said) if not said.startswith(type(schema).__name__ + "(") else ""
    head = prefix.rstrip(".") or "The run itself"
    yield f"## {f'`{head}`' if prefix else head}\n\n{text}\n\n" + table(
        ["key", "type", "default", "allowed", "what it does"], rows
    )
    for each in below:
        yield from _section(*each)


def _type(hint: Any) -> str:
    """As it is written in the code, without what `Annotated` adds."""
    if NoneType in get_args(hint):
        return f"{_type(get_args(hint)[0])} | None"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _allowed(key: str) -> str:
    from harness.config.schema import RunConfig
    from harness.config.validation import OneOf, Range, rule_of

    rule = rule_of(RunConfig, key)
    if isinstance(rule, OneOf):
        return ", ".join(f"`{choice}`" for choice in rule.choices)
    return rule.words if isinstance(rule, Range) else ""


def _field_comments(schema: type) -> dict[str, str]:
    """Field -> the comment lines right above it in the source."""
    lines = inspect.getsource(schema).splitlines()
    (body,) = ast.parse("\n".join(lines)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement in body.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            above, at = [], statement.lineno - 2
            while lines[at].lstrip().startswith("#"):
                above.insert(0, lines[at].lstrip(" #"))
                at -= 1
            found[statement.target.id] = " ".join(above)
    return found


def _value(value: object) -> str:
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _text(text: str) -> str:
    """Text from the code as Markdown: nothing in it is a tag."""
    return " ".join(text.split()).replace("<", "&lt;") if "`" not in text else " ".join(text.split())


PARTS: dict[str, Callable[..., str]] = {
    "api": api,
    "columns": columns,
    "commands": commands,
    "configuration": configuration,
    "corruptions": corruptions,
    "datasets": datasets,
    "empty_policies": empty_policies,
    "functions": functions,
    "methods": methods,
    "metric": one_metric,
    "metric_table": metric_table,
    "module": module_text,
    "notebook": notebook,
    "options": options,
    "presets": presets,
    "result_differences": result_differences,
    "results": results,
    "suites": suites,
}

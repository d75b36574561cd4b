"""Docstrings as Markdown: signatures, text, arguments, results and errors of what a user imports."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

_SECTIONS = ("Args", "Returns", "Raises", "Attributes", "Yields")


def api(module: str, *names: str) -> str:
    """The named objects of a module, or all of its `__all__`.

    Raises:
        AttributeError: the module has no such object.
    """
    found = importlib.import_module(module)
    chosen = names or tuple(found.__all__)
    return "\n\n".join(_entry(module, name, getattr(found, name)) for name in chosen)


def functions(module: str) -> str:
    """All functions that a module defines and does not hide."""
    found = vars(importlib.import_module(module))
    return api(
        module, *(n for n, f in found.items() if inspect.isfunction(f) and f.__module__ == module and n[0] != "_")
    )


def module_text(module: str) -> str:
    """The docstring of a module, as it is written."""
    return f"```text\n{inspect.getdoc(importlib.import_module(module))}\n```"


def _entry(module: str, name: str, value: Any) -> str:
    head = f"### `{module}.{name}`"
    if inspect.isclass(value):
        parts = [head, _code(f"class {name}{_signature(value)}"), markdown(_doc(value))]
        for method_name, method in _public_methods(value):
            parts += [_code(f"{name}.{method_name}{_signature(method)}"), markdown(_doc(method))]
        return "\n\n".join(part for part in parts if part)
    if callable(value):
        return "\n\n".join([head, _code(f"{name}{_signature(value)}"), markdown(_doc(value))])
    if inspect.ismodule(value):
        return "\n\n".join([head, markdown(inspect.getdoc(value) or "")])
    text = ", ".join(f"`{key}`" for key in value) if isinstance(value, dict) else f"`{value}`"
    return f"{head}\n\n{text}"


def _doc(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    # What dataclass writes where nobody wrote anything is the signature again.
    return "" if inspect.isclass(value) and text.startswith(f"{value.__name__}(") else text


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _signature(value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
    short = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature)
    short = re.sub(r"(?:numpy\.typing|npt|typing|collections\.abc|pathlib)\.", "", short)
    return re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "...", short)


def _public_methods(value: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(value).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        function = function.fget if isinstance(function, property) else function
        if not name.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
            yield name, function


def markdown(docstring: str) -> str:
    """A docstring's text, with its sections (`Args:` and the like) as lists."""
    parts: list[str] = []
    section, lines = "", list[str]()
    for line in [*docstring.splitlines(), "End:"]:
        title = line.rstrip(":")
        if line == "End:" or (line.endswith(":") and title in _SECTIONS):
            parts.append(_section(section, lines))
            section, lines = title, []
        else:
            lines.append(line)
    return "\n\n".join(part for part in parts if part)


def _section(title: str, lines: list[str]) -> str:
    text = inspect.cleandoc("\n".join(lines))
    if not text:
        return ""
    if not title:
        return _escaped(text)
    if title in ("Returns", "Yields"):
        return f"**{title}**\n\n{_escaped(text)}"
    items: list[str] = []
    for line in text.splitlines():
        if line.startswith(" ") and items:
            items[-1] += " " + line.strip()
        elif line.strip():
            items.append(line.strip())
    return f"**{title}**\n\n" + "\n".join(f"- {_escaped(_named(item))}" for item in items)


def _named(item: str) -> str:
    name, colon, text = item.partition(": ")
    return f"`{name}`: {text}" if colon and "`" not in name else item


def _escaped(text: str) -> str:
    """Markdown in which only code spans and fences are marked up."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else re.sub(r"([<*\[\]#$])", r"\\\1", part) for part in parts)

"""The house stays one that a newcomer can walk through: few rooms, each says what it owns, no long file or function."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path for package in ("harness", "reports", "delightsam", "baselines") for path in (ROOT / package).rglob("*.py")
)


def rooms(package: str) -> list[Path]:
    """Its folders, and the single files beside them."""
    found = [path for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"]
    return [path for path in found if not path.name.startswith("__")]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of its body, without docstring and the functions and classes within."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    inside = [node for node in ast.walk(function) if isinstance(node, kinds) and node is not function]
    lines = set(range(function.body[0].lineno, (function.end_lineno or 0) + 1))
    for node in inside:
        lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    if ast.get_docstring(function) is not None:
        lines -= set(range(function.lineno, (function.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_the_bench_and_its_reports_have_at_most_thirty_rooms() -> None:
    assert 20 < len(rooms("harness") + rooms("reports")) <= 30


def test_each_folder_says_what_it_is_for() -> None:
    said = {
        path.parent: ast.get_docstring(ast.parse(path.read_text("utf-8")))
        for path in FILES
        if path.name == "__init__.py"
    }
    assert said.keys() == {path.parent for path in FILES}
    assert [folder for folder, text in said.items() if len((text or "").split()) < 5] == []


def test_no_file_is_over_400_lines_and_no_function_over_60() -> None:
    long = []
    for path in FILES:
        text = path.read_text("utf-8")
        long += [path] if len(text.splitlines()) > 400 else []
        nodes = ast.walk(ast.parse(text))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        long += [(path, function.name) for function in functions if lines_of(function) > 60]
    assert long == []

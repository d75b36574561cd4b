"""Every command in the README and the documentation is one that works: words, keys, names, targets, extras."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from harness.cli import evaluate, make_parser
from harness.config.loading import load_config
from harness.config.schema import RunConfig
from harness.data.corruptions.registry import CORRUPTIONS
from harness.data.sources.recipe import recipes
from harness.metrics import REGISTRY

from .pages import BLOCKS, COMMANDS, FILES, PAGES, ROOT, words_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LANGUAGES = {"bash", "python", "yaml", "toml", "text", "{toctree}", "{include} ../CHANGELOG.md", ""}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages show."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


@cache
def _composed(words: tuple[str, ...], own: Path | None) -> RunConfig:
    return load_config(words, own)


def harness_command(words: list[str], folder: Path) -> None:
    """Parses as the command line does; what is a configuration composes, what is a name exists."""
    if words and set(words[-1]) == {"."}:
        return
    try:
        args = make_parser().parse_args([word.replace("~", "/home/me") for word in words])
    except SystemExit as end:
        assert end.code == 0 and words[-1] in ("--help", "--version"), words
        return
    overrides = list(getattr(args, "overrides", []))
    if args.command in ("run", "plan", "measure", "sweep", "evaluate"):
        others = evaluate._sorted_words(overrides)[2] if args.command == "evaluate" else overrides
        # Any folder will do for a root, and commands that differ in it alone are composed once.
        others = [word for word in others if not word.startswith(("data.root=", "store.root="))]
        config = _composed(tuple(others), folder / args.config_dir if args.config_dir else None)
        assert args.command != "sweep" or config.sweep.parameters
    elif args.command in ("status", "report", "doctor"):
        assert all(word.startswith("store.root=") for word in overrides)
    if getattr(args, "only", None):
        assert set(str(args.only).split(",")) <= set(REGISTRY)
    if words[:2] == ["data", "prepare"]:
        assert args.name in recipes()
    if words[:2] == ["data", "corrupt"]:
        assert set(args.name) <= set(CORRUPTIONS)


def delightsam_command(words: list[str], folder: Path) -> None:
    from delightsam.__main__ import _parser

    assert not words or _parser().parse_args(words)


def make_target(words: list[str], folder: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


def pip_install(words: list[str], folder: Path) -> None:
    for word in words:
        extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
        if extras:
            assert set((extras[1] or "dev").split(",")) <= set(PROJECT["optional-dependencies"])
        else:
            assert any(word in line for lines in PROJECT["optional-dependencies"].values() for line in lines)


def ray_start(words: list[str], folder: Path) -> None:
    from ray.scripts.scripts import start

    start.make_context("start", words)


def download(words: list[str], folder: Path) -> None:
    assert any(words[-1] in path.read_text("utf-8") for path in (ROOT / "suites").rglob("*.yaml"))


def pytest_run(words: list[str], folder: Path) -> None:
    assert all((ROOT / word).exists() for word in words if not word.startswith("-"))


def gpu_check(words: list[str], folder: Path) -> None:
    from tests.performance.gpu_check import make_parser

    make_parser().parse_args(words)


def shell_completion(words: list[str], folder: Path) -> None:
    script = f'eval "{words[0]}"; complete -p delightsam-bench'
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert "argcomplete" in done.stdout, done.stderr


def nothing(words: list[str], folder: Path) -> None:
    """Known, and nothing more to check."""


CHECKS: dict[str, Callable[[list[str], Path], None]] = {
    "python -m harness": harness_command,
    "python -m delightsam": delightsam_command,
    "python -m pytest": pytest_run,
    "python -m tests.performance.gpu_check": gpu_check,
    "pip install": pip_install,
    "make": make_target,
    "ray start": ray_start,
    "hf download": download,
    "eval": shell_completion,
    "pre-commit install": nothing,
    ". .venv/bin/activate": nothing,
}


# Of a command that several pages show, the first.
@pytest.mark.parametrize(("command", "page"), {command: page for page, command in reversed(COMMANDS)}.items())
def test_every_command_is_one_that_works(command: str, page: str, newcomer: Path) -> None:
    words = [word.removeprefix(".venv/bin/") if word != ".venv/bin/activate" else word for word in words_of(command)]
    for start, check in CHECKS.items():
        number = len(start.split())
        if words[:number] == start.split():
            check(words[number:], newcomer)
            return
    pytest.fail(f"{page}: no check knows the command: {command}")


def test_no_shell_reads_a_list_itself() -> None:
    for page, command in COMMANDS:
        for word in shlex.split(command, posix=False, comments=True):
            assert "[" not in word or word.startswith("'"), f"{page}: zsh takes {word} for a pattern of file names"


def test_every_block_says_what_it_is() -> None:
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block.page}: {block.language}"
        if block.language == "yaml":
            assert block.file, f"{block.page}: no test uses this, for the sentence above names no file:\n{block.text}"
        elif block.language == "toml":
            assert all(
                key.startswith("delightsam_bench.") for key in tomllib.loads(block.text)["project"]["entry-points"]
            )
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/start.md", "docs/guides/method.md"}
    assert "README.md" in PAGES

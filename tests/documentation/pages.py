"""What the README and the documentation tell people to type, page by page."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


def _texts(notebook: Path) -> str:
    """What a notebook says between its code, which runs in a test of its own."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    # Of a version that is past, commands may be as well.
    if path.name != "CHANGELOG.md"
}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PAGES |= {path.relative_to(ROOT).as_posix(): _texts(path) for path in NOTEBOOKS}
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w/]+\.(?:py|yaml))`[^`]*\n\n```(?:python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?(?:python -m|make|pip install|pre-commit|ray start|hf) ?[^`\n]*)`")
_PROMPTS = ("bash", "console", "sh", "")


@dataclass(frozen=True)
class Block:
    """A fenced block. `file`: the name that the sentence above gives it."""

    page: str
    language: str
    text: str
    file: str | None


def _blocks(page: str, text: str) -> list[Block]:
    names = {body: name for name, body in _FILE.findall(text)}
    return [Block(page, language.strip(), body, names.get(body)) for language, body in _FENCE.findall(text)]


BLOCKS = [block for page, text in PAGES.items() for block in _blocks(page, text)]
FILES = {block.file: block.text for block in BLOCKS if block.file}
"""Files of a newcomer's, in the folder that commands are typed in."""


def _commands() -> list[tuple[str, str]]:
    found = []
    for block in BLOCKS:
        if block.language in _PROMPTS:
            lines = block.text.replace("\\\n", " ").splitlines()
            found += [(block.page, line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    for page, text in PAGES.items():
        found += [(page, command) for command in _INLINE.findall(_FENCE.sub("", text))]
    return list(dict.fromkeys(found))


COMMANDS = _commands()
SNIPPETS = [block for block in BLOCKS if block.language == "python" and block.file is None]


def words_of(command: str) -> list[str]:
    """The words of a command without its comment."""
    return shlex.split(command, comments=True)

"""Notebooks as pages of the site: text, code, and the text that was printed. Nothing is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("notebooks")


def notebook(name: str) -> str:
    """The notebook `name` as Markdown, with a link to the file below its heading."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))["cells"]
    text = "\n\n".join(part for cell in cells for part in _parts(cell))
    download = (
        f"This page is a notebook: {{download}}`{name}.ipynb <{name}.ipynb>`. Open it in Jupyter or VS Code with the Python of the"
        " bench's `.venv`. Its figures are not shown here."
    )
    heading, _, rest = text.partition("\n\n")
    # Between notebooks: from page to page.
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", f"{heading}\n\n{download}\n\n{rest}")


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    # A file that the cell writes is shown as what it is.
    magic, _, body = source.partition("\n")
    written = re.fullmatch(r"%%writefile (\S+\.(\w+))", magic)
    if written:
        yield f"`{written[1]}`:"
        yield _fenced({"py": "python"}.get(written[2], written[2]), body)
        return
    yield _fenced("python", source)
    for output in cell["outputs"]:
        yield _fenced("text", "".join(output.get("text") or output["data"]["text/plain"]))


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"

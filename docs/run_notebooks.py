"""Runs the notebooks in docs/notebooks and keeps what they print: `make notebooks`. Pictures are not kept."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted(Path(__file__).with_name("notebooks").glob("*.ipynb"))
LONGEST_CELL = 600
"""Seconds: a cell that takes longer hangs."""


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook at `path` with the text that its cells print when they run in `folder`.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=LONGEST_CELL, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in map(_as_text, cell.outputs) if output is not None]
    return notebook


def _as_text(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """The output without pictures and HTML; None where nothing is left, and for warnings of libraries."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    text = output.get("data", {}).get("text/plain", "")
    if output.output_type != "execute_result":
        return None
    lines = [line.rstrip() for line in text.splitlines()]
    return nbformat.v4.new_output("execute_result", {"text/plain": "\n".join(lines)}, execution_count=None)


def main() -> int:
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        nbformat.write(notebook, path)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

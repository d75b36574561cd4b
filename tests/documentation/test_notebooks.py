"""The notebooks run from a folder with nothing in it, and print what they are kept with."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from docs.run_notebooks import NOTEBOOKS, executed

pytestmark = pytest.mark.e2e


def _printed(notebook: nbformat.NotebookNode) -> list[tuple[list[str], int]]:
    """Of each code cell's output: the words of the first line, and the number of lines. Numbers differ between machines."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = ["\n".join(str(o.get("text") or o.data["text/plain"]) for o in cell.outputs) for cell in cells]
    return [(text.partition("\n")[0].split(), text.count("\n")) for text in texts]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_is_kept_with(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = tmp_path / "place"
    place.mkdir()
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert _printed(executed(path, place)) == _printed(kept)
    assert path.stat().st_size < 40_000, "Outputs of pictures are not kept: make notebooks"
    assert all(
        set(o.get("data", {"text/plain": ""})) == {"text/plain"} for c in kept.cells for o in c.get("outputs", ())
    )


def test_both_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["analysis", "own_method"]

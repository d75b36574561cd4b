"""The notebooks run from a folder with nothing in it, with the smallest budget, and print what they are kept with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.provisioning import local_provisioner

from docs.run_notebooks import NOTEBOOKS, executed
from tests.e2e.forked import Forked

pytestmark = pytest.mark.e2e

LESS = {
    '"data.phantoms.images_per_domain=8"': '"data.phantoms.images_per_domain=2"',
    '"efficiency_seconds=0.1"': '"efficiency_seconds=0.1", "efficiency_image_size=32"',
    '"training.epochs=6"': '"training.epochs=1", "methods.unet.model.encoder_name=mobilenet_v2", '
    '"+methods.unet.model.decoder_channels=[16,16,8,8,8]"',
}


class _Kernel(Forked):
    """A kernel as `jupyter_client` starts one, forked from a process that has loaded the libraries."""

    stdin = stdout = stderr = None

    def __init__(self, command: list[str], *, cwd: str, env: dict[str, str], **_: Any) -> None:
        # Of the variables that this test sets: a fork has those with which the first fork's server began.
        own = {name: env[name] for name in ("IPYTHONDIR", "OMP_NUM_THREADS")}
        super().__init__(command[command.index("-f") :], Path(cwd), program="ipykernel.kernelapp", **own)

    terminate = Forked.kill


def _with_less(path: Path, folder: Path) -> Path:
    """A copy of the notebook that trains for one epoch, on fewer images, a lighter network, whose costs are of small images."""
    text = path.read_text("utf-8")
    for much, less in LESS.items():
        much, less = (json.dumps(words)[1:-1] for words in (much, less))
        assert much in text
        text = text.replace(much, less)
    copy = folder / path.name
    copy.write_text(text, "utf-8")
    return copy


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
    monkeypatch.setattr(local_provisioner, "launch_kernel", _Kernel)
    # It is in the process group of these tests: signals are for it alone.
    monkeypatch.setattr(local_provisioner.LocalProvisioner, "pgid", property(lambda _: None, lambda *_: None))
    place = tmp_path / "place"
    place.mkdir()
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert _printed(executed(_with_less(path, tmp_path), place)) == _printed(kept)
    assert path.stat().st_size < 40_000, "Outputs of pictures are not kept: make notebooks"
    assert all(
        set(o.get("data", {"text/plain": ""})) == {"text/plain"} for c in kept.cells for o in c.get("outputs", ())
    )


def test_both_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["analysis", "own_method"]

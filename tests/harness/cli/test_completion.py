"""What TAB offers, asked as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = "import sys; sys.argv[0] = 'delightsam-bench'; from harness.cli import main; sys.exit(main())"


def offered(line: str, folder: Path) -> list[str]:
    """The answer to TAB at the end of `line`, typed in `folder`; argcomplete writes it to the descriptor 8."""
    asked = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_COMP_WORDBREAKS": " =", "COMP_LINE": line,
        "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
    }  # fmt: skip
    answer = folder / "answer"
    # Another file takes the place of the descriptor 8 in the child alone.
    script = f'exec 8>"{answer}" 9>/dev/null; exec "$0" -c "$1"'
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, ASK],
        env=os.environ | asked | {"PYTHONPATH": root},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return answer.read_text().splitlines()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("delightsam-bench data pre", ["prepare"]),
        ("delightsam-bench run su", ["suite="]),
        ("delightsam-bench run suite=dom", ["domain_generalization"]),
        ("delightsam-bench run method=unet,ots", ["unet,otsu"]),
        ("delightsam-bench plan training.geometry=", ["stretch", "letterbox", "tiles"]),
        ("delightsam-bench run suite=paper training.ep", ["training.epochs="]),
        ("delightsam-bench run data.root=im", ["images/"]),
        ("delightsam-bench run training.epochs=", []),
        ("delightsam-bench run --config-dir mine method=my_", ["my_net"]),
        ("delightsam-bench run --config-dir nothing_here method=ots", ["otsu"]),
    ],
)
def test_tab(line: str, some: list[str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "mine/method").mkdir(parents=True)
    (tmp_path / "mine/method/my_net.yaml").touch()
    assert offered(line, tmp_path) == some

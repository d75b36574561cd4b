"""What the README tells a newcomer to type works as it is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.config.loading import load_config
from harness.metrics import REGISTRY

from .conftest import Bench

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
COMMANDS = [line for line in README.splitlines() if line.startswith("python -m harness ")]
COMMANDS += re.findall(r"^\| `(python -m harness [^`]*)`", README, re.MULTILINE)
# Files of a newcomer's: their name stands in the sentence above the block.
FILES = dict(re.findall(r"`(my_[\w/]+\.\w+)`[^`]*\n\n```(?:python|yaml)\n(.*?)```", README, re.DOTALL))
TINY = (
    "executor=serial",
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.epochs=1",
)


@pytest.fixture
def newcomer(tmp_path: Path) -> Path:
    """A folder with the README's files in it."""
    assert set(FILES) == {
        "my_method.py",
        "my_configs/method/mine.yaml",
        "my_configs/suite/ours.yaml",
        "my_configs/sweep/mine.yaml",
    }
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.split()[3] in ("run", "plan", "measure")])
def test_every_run_of_the_readme_composes(line: str, newcomer: Path) -> None:
    words = [word.replace("~", "/home/me") for word in shlex.split(line)[4:]]
    folder = newcomer / words.pop(words.index("--config-dir") + 1) if "--config-dir" in words else None
    if "--only" in words:
        names = words.pop(words.index("--only") + 1).split(",")
        assert set(names) <= set(REGISTRY)
    config = load_config([word for word in words if word not in ("--config-dir", "--only")], folder)
    assert ("mine" in config.methods) == (folder is not None)


@pytest.mark.parametrize("line", COMMANDS)
def test_no_shell_reads_a_list_of_the_readme_itself(line: str) -> None:
    for word in shlex.split(line, posix=False):
        assert "[" not in word or word.startswith("'"), f"zsh takes {word} for a pattern of file names"


@pytest.mark.e2e
def test_the_readmes_own_method_runs_as_printed(newcomer: Path, bench: Bench) -> None:
    lines = [shlex.split(line)[4:] for line in COMMANDS if "my_configs" in line]
    assert len(lines) == 2  # the method's, and the suite's
    for words in lines:
        planned = bench("plan", *words, *TINY)
        assert planned.returncode == 0, planned.stderr
        assert "mine" in planned.stdout
    # Without U-Net, which other tests train: a newcomer's own class is the question here.
    done = bench("run", *lines[0], *TINY, "method=[mine,otsu]", "protocol.max_folds=1")
    assert done.returncode == 0, done.stderr
    (table,) = (newcomer / "runs").glob("suites/domain_generalization/*/report/leaderboard.csv")
    assert "mine" in table.read_text("utf-8")


def test_the_readmes_own_metric_is_registered_and_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    import reports.tables.columns
    from harness.metrics import evaluate_pair

    (code,) = [text for text in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "register_column" in text]
    monkeypatch.setattr(reports.tables.columns, "_EXTRA", [])
    try:
        exec(code, {})
        prediction, reference = np.eye(4, dtype=bool), np.tri(4, dtype=bool)
        values = evaluate_pair(prediction, reference, metrics=["volume_similarity"])
        assert values == {"volume_similarity": pytest.approx(1 - 6 / 14)}
        (column,) = reports.tables.columns.extra_columns()
        assert column.cell({"dice": 0.5, "gmacs": 2.0, "dice_per_gmac": 0.25}).main == "0.250"
    finally:
        REGISTRY.pop("volume_similarity", None)

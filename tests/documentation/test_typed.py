"""A newcomer's folder: what the pages show is run there as printed, on drawn images and with the smallest budget."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.metrics import REGISTRY

from .pages import COMMANDS, FILES, SNIPPETS, Block, words_of

pytestmark = pytest.mark.e2e

TINY = (
    "executor=serial",
    "data.modalities=[dermoscopy,xray]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.epochs=1",
    "training.amp=off",
    "efficiency_seconds=0.1",
    "protocol.max_folds=1",
)
LIGHT = ("methods.unet.model.encoder_name=mobilenet_v2",)
PLACES = {"/path/to/data": "phantoms", "/your/data": "phantoms", "runs_before": "runs", "runs_after": "runs"}
FIRST = "python -m harness run --config-dir my_configs suite=domain_generalization 'method=[mine,unet,otsu]'"
"""Whose results the other commands look at; the first suite's name is theirs too."""
CHEAP = ("doctor", "list", "plan", "status", "measure", "report", "compare")
RUNS = [
    command for _, command in COMMANDS if command.startswith("python -m harness run --config-dir") and command != FIRST
]
KEEPS = "register_column"


def typed(command: str) -> None:
    words = [PLACES.get(word, word) for word in words_of(command)[3:]]
    words = [word.replace("/your/data", "phantoms").replace("/shared/runs", "runs") for word in words]
    assert main(words) == 0, command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the pages' files, phantoms, and a finished run; everything is typed in it."""
    place = tmp_path_factory.mktemp("newcomer")
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        patch.setenv("HOME", str(place))
        assert main(["data", "phantoms", "--out", "phantoms", "--images-per-domain", "4", "--image-size", "64"]) == 0
        for domain in (place / "phantoms" / "ultrasound").iterdir():
            shutil.copytree(domain, place / "scans" / domain.name)
        for mask in (place / "phantoms").glob("*/*/masks/*.png"):
            modality, name = mask.parts[-4], mask.parts[-3]
            (place / "nnunet_masks" / modality / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, place / "nnunet_masks" / modality / name / mask.name)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(place / "eye.png")
        assert main([*words_of(FIRST)[3:], *TINY, *LIGHT]) == 0
        yield place


def test_own_files_are_the_pages() -> None:
    assert set(FILES) == {
        "my_method.py",
        "my_algorithm.py",
        "my_configs/method/mine.yaml",
        "my_configs/algorithm/noise.yaml",
        "my_configs/suite/ours.yaml",
        "my_configs/training/short.yaml",
        "my_configs/sweep/mine.yaml",
        "published.yaml",
    }


def test_the_own_method_is_in_the_table(folder: Path) -> None:
    (table,) = (folder / "runs").glob("suites/domain_generalization/*/report/leaderboard.csv")
    assert "mine" in table.read_text("utf-8")


@pytest.mark.parametrize("command", RUNS)
def test_runs_with_files_of_ones_own(folder: Path, command: str) -> None:
    # A store of their own: `runs` stays that of the first.
    words = [*words_of(command)[3:], *TINY, *LIGHT, "store.root=others", "data.cache=runs/cache"]
    assert main([word for word in words if "unet" not in word or "suite=ours" not in words]) == 0


@pytest.mark.parametrize(
    "command",
    [c for _, c in COMMANDS if c.startswith("python -m harness") and words_of(c)[3:4] and words_of(c)[3] in CHEAP],
)
def test_cheap_commands_run(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(command)
    if words[3] == "plan" or words[3] == "measure":
        if "--only" in words or words[3] == "measure":
            # As the run that is measured.
            words += ["--config-dir", "my_configs", "method=[mine,unet,otsu]"]
        words += [*TINY, *(LIGHT if "unet" in command or words[3] == "measure" else ())]
    words = [PLACES.get(word, word).replace("/shared/runs", "runs") for word in words]
    if "suite=equal_starts" in words or "suite=universality" in words:
        words.remove("protocol.max_folds=1")
    try:
        code = main(words[3:])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [c for _, c in COMMANDS if re.match(r"python -m harness data (?!prepare|phantoms|add)\w", c)]
)
def test_data_commands_run(folder: Path, command: str) -> None:
    words = [PLACES.get(word, word).replace("~/images", "phantoms") for word in words_of(command)[3:]]
    for option in ("--out",):
        if option in words:
            shutil.rmtree(folder / words[words.index(option) + 1], ignore_errors=True)
    assert main(words) == 0


def test_data_add_runs(folder: Path) -> None:
    (command,) = {c for _, c in COMMANDS if c.startswith("python -m harness data add")}
    assert main([word.replace("~", str(folder)) for word in words_of(command)[3:]] + ["--yes"]) == 0
    assert (folder / "images" / "manifest.csv").is_file()


def test_masks_of_another_tool_are_ranked(folder: Path) -> None:
    (command,) = {c for _, c in COMMANDS if c.startswith("python -m harness evaluate predictions")}
    words = [word.replace("/your/data", "phantoms") for word in words_of(command)[3:]]
    assert main([*words, "data.modalities=[dermoscopy]", "protocol.max_folds=1", "store.root=ranked"]) == 0


def _name(block: Block) -> str:
    return f"{block.page}: {block.text.strip().splitlines()[0]}"


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if KEEPS not in s.text], ids=_name)
def test_snippets_run(folder: Path, snippet: Block) -> None:
    if "model.safetensors" in snippet.text:
        import delightsam

        modalities = tuple(range(6))
        delightsam.save(delightsam.DeLightSAM(delightsam.DeLightSAMConfig(modalities=modalities)), "model.safetensors")
    code = snippet.text
    if "run(*words" in code:
        code = code.replace("words = [", "words = ['data.phantoms.images_per_domain=4', 'store.root=others', ")
    exec(compile(code, snippet.page, "exec"), {})


def test_the_own_metric_is_registered_and_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    import reports.tables.columns
    from harness.metrics import evaluate_pair

    (snippet,) = [s for s in SNIPPETS if KEEPS in s.text]
    monkeypatch.setattr(reports.tables.columns, "_EXTRA", [])
    try:
        exec(snippet.text, {})
        prediction, reference = np.eye(4, dtype=bool), np.tri(4, dtype=bool)
        values = evaluate_pair(prediction, reference, metrics=["volume_similarity"])
        assert values == {"volume_similarity": pytest.approx(1 - 6 / 14)}
        (column,) = reports.tables.columns.extra_columns()
        assert column.cell({"dice": 0.5, "gmacs": 2.0, "dice_per_gmac": 0.25}).main == "0.250"
    finally:
        REGISTRY.pop("volume_similarity", None)

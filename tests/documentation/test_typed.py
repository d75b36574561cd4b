"""A newcomer's folder: what the pages show is run there as printed, on drawn images and with the smallest budget."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.metrics import REGISTRY

from .pages import COMMANDS, FILES, ROOT, SNIPPETS, words_of

pytestmark = pytest.mark.e2e

TINY = (
    "executor=serial",
    "data.modalities=[dermoscopy,fundus]",
    "data.phantoms.images_per_domain=4",
    "data.phantoms.image_size=64",
    "training.image_size=64",
    "training.epochs=1",
    "training.amp=off",
    "efficiency_seconds=0.1",
    "efficiency_image_size=32",
    "protocol.max_folds=1",
)
LIGHT = ("methods.unet.model.encoder_name=mobilenet_v2", "+methods.unet.model.decoder_channels=[16,16,8,8,8]")
PLACES = {"/path/to/data": "phantoms", "~/images": "phantoms", "/your/data": "phantoms", "/shared/runs": "runs"}
PLACES |= {"results/real_benchmark_v8.zip": str(ROOT / "results" / "real_benchmark_v8.zip")}
FIRST = "python -m harness run --config-dir my_configs suite=domain_generalization 'method=[mine,unet,otsu]'"
"""Whose results the other commands look at; the first suite's name is theirs too."""
RUN_HERE = ("algorithm=[erm,noise]", "suite=ours")
"""Words of the other runs with files of one's own; that of a trainer outside is killed and resumed in its own test."""
CHEAP = ("doctor", "list", "plan", "status", "measure", "report", "compare", "data verify", "data fingerprint")
CHEAP += ("data corrupt", "data list")
KEEPS = "register_column"
"""Is in the snippet that changes what all of the process share: it has a test of its own."""
ONCE = list(dict.fromkeys(command for _, command in COMMANDS if command.startswith("python -m harness ")))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the pages' files, in which everything is typed."""
    place = tmp_path_factory.mktemp("newcomer")
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        patch.setenv("HOME", str(place))
        yield place


@pytest.fixture(scope="module")
def folder(bare: Path) -> Path:
    """The same with phantoms, masks of another tool, and a finished run."""
    assert main(["data", "phantoms", "--out", "phantoms", "--images-per-domain", "4", "--image-size", "64"]) == 0
    for own, phantom in (("mary", "probe_a"), ("beta", "probe_b")):
        shutil.copytree(bare / "phantoms" / "ultrasound" / phantom, bare / "scans" / own)
    for mask in (bare / "phantoms").glob("*/*/masks/*.png"):
        place = bare / "nnunet_masks" / mask.parts[-4] / mask.parts[-3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(mask, place / mask.name)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(bare / "eye.png")
    with pytest.MonkeyPatch.context() as patch:
        _only_once(patch)
        assert main([*words_of(FIRST)[3:], *TINY, *LIGHT]) == 0
    assert main(["submit", "--without-masks", "--out", "ours.zip"]) == 0
    for copy in ("runs_before", "runs_after"):
        shutil.copytree(bare / "runs", bare / copy)
    return bare


def typed(command: str, *more: str) -> None:
    """A command as it is printed, but for its places, and with further words."""
    for place, own in PLACES.items():
        command = command.replace(place, own)
    try:
        code = main([*words_of(command)[3:], *more])
    except SystemExit as end:  # --help
        code = int(end.code or 0)
    assert code == 0, command


def chosen(*starts: str) -> list[str]:
    return [
        command for command in ONCE if f"{command} ".startswith(tuple(f"python -m harness {word} " for word in starts))
    ]


def test_files_of_ones_own_are_all_used() -> None:
    assert set(FILES) == {
        "my_method.py",
        "my_algorithm.py",
        "my_trainer.py",
        "my_configs/method/mine.yaml",
        "my_configs/method/threshold.yaml",
        "my_configs/algorithm/noise.yaml",
        "my_configs/suite/ours.yaml",
        "my_configs/training/short.yaml",
        "my_configs/sweep/mine.yaml",
        "published.yaml",
    }


def test_what_looks_at_a_run_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one test, since every worker would run what its tests look at."""
    (table,) = (folder / "runs").glob("suites/domain_generalization/*/report/leaderboard.csv")
    assert "mine" in table.read_text("utf-8")
    _only_once(monkeypatch)
    for command in chosen(*CHEAP):
        kind = words_of(command)[3]
        more: tuple[str, ...] = ()
        if kind == "measure":
            # As the run that is measured.
            more = ("--config-dir", "my_configs", "method=[mine,unet,otsu]", *TINY, *LIGHT)
        elif kind == "plan":
            more = TINY
        if "--out" in command:
            shutil.rmtree(folder / words_of(command)[words_of(command).index("--out") + 1], ignore_errors=True)
        with monkeypatch.context() as patch:
            # That shipped methods can be built has tests of its own.
            if kind == "plan" and "--config-dir" not in command:
                patch.setattr("harness.planning.checks.check_methods", lambda _: None)
            typed(command, *more)
    _mask_tools(folder)
    _snippets(folder)


def _only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what other tests show: the page's figures, their files, other processes that import and measure."""
    monkeypatch.setattr("reports.figures.all_figures.draw_figures", lambda *_, **__: [])
    monkeypatch.setattr("reports.figures.all_figures.FORMATS", ("svg",))
    for kind in ("dice_against_cost", "latency_by_size", "rank_map", "critical_difference_diagram", "distributions"):
        monkeypatch.setattr(f"reports.figures.all_figures.{kind}", lambda *_, **__: None)
    monkeypatch.setattr("harness.execution.measuring.measuring_pool", lambda _: nullcontext(map))
    monkeypatch.setattr("harness.cli.doctor.facts.import_probe", lambda names: dict.fromkeys(names, ""))


def _mask_tools(folder: Path) -> None:
    (command,) = chosen("evaluate predictions=nnunet_masks")
    typed(command, "data.modalities=[dermoscopy]", "protocol.max_folds=1", "store.root=ranked")
    for command in chosen("data add"):
        words = [word.replace("~", str(folder)) for word in words_of(command)[3:]]
        assert main([*words, "--yes"]) == 0
    assert (folder / "images" / "manifest.csv").is_file()


def _snippets(folder: Path) -> None:
    import delightsam

    delightsam.save(delightsam.DeLightSAM(delightsam.DeLightSAMConfig(image_size=64)), "model.safetensors")
    for snippet in SNIPPETS:
        if KEEPS in snippet.text:
            continue
        small = "'data.phantoms.images_per_domain=4', 'data.phantoms.image_size=64', 'store.root=others', "
        code = snippet.text.replace("words = [", f"words = [{small}")
        names: dict[str, object] = {}
        exec(compile(code, snippet.page, "exec"), names)
        if "segment" in code:
            assert names["mask"].shape == (60, 80)  # type: ignore[attr-defined]
    assert (folder / "heat_map.pdf").is_file()


@pytest.mark.parametrize("word", RUN_HERE)
def test_runs_with_files_of_ones_own(bare: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_once(monkeypatch)
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    command = next(c for c in chosen("run --config-dir") if word in c and c != FIRST)
    own = ("method=[mine,otsu]",) if word == "suite=ours" else LIGHT
    assert main([*words_of(command)[3:], *TINY, *own, "store.root=others"]) == 0
    typed(command.replace(" run ", " plan ", 1), *TINY)


def test_the_sweep_of_a_suite_ends_in_a_report(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_once(monkeypatch)
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{bare}")  # where Ray's workers find the page's method
    command = next(command for command in chosen("sweep suite=equal_starts") if "data.root" in command)
    rates = "sweep.parameters={training.learning_rate:{grid:[0.01]}}"
    small = ("--config-dir", "my_configs", "method=[mine,otsu]", rates, "seeds=[0,1]", "store.root=tuned")
    typed(command.replace("data.root=/path/to/data", ""), *small, *TINY)
    (page,) = (bare / "tuned").glob("suites/equal_starts_tuned/*/report/leaderboard.html")
    assert "nested search</abbr>" in page.read_text("utf-8")


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

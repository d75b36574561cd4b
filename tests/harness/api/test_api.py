"""The bench from Python: what importing it loads, runs and plans, tidy tables, figures, trained methods, and the examples."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import harness
import harness.api
import harness.api.figures
import harness.api.results
import harness.api.running
from harness import Results, evaluate, figures, load_results, plan, run
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.metrics import shown_metrics
from harness.store.store import Store
from reports.records.tidy import IMAGE_COLUMNS, TRIAL_COLUMNS
from tests.harness.cli.conftest import write_toys
from tests.reports.simulated_store import Simulated, write_store


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """One failed trial (U-Net, fold 2) and one never begun (Otsu, fold 1)."""
    return write_store(tmp_path_factory.mktemp("holed"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load_results(write_store(tmp_path_factory.mktemp("complete"), faults={}, seeds=(0, 1)).root)


@pytest.fixture
def no_open_figures() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def small(shared_dataset: Path, tmp_path: Path) -> list[str]:
    """Words of a small run."""
    return [
        f"data.root={shared_dataset}",
        f"store.root={tmp_path / 'runs'}",
        "executor=serial",
        "training.image_size=32",
        "efficiency_seconds=0.1",
    ]


@pytest.mark.parametrize("module", [harness.api.results, harness.api.running, harness.api.figures])
@pytest.mark.usefixtures("no_open_figures")
def test_the_examples_in_docstrings_run(
    module: Any, holed: Simulated, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    names = {**vars(module), "load_results": load_results, "store": holed.root, "small": small, "folder": tmp_path}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    tests = [test for test in finder.find(module, globs=names) if test.examples]
    assert tests
    for test in tests:
        said: list[str] = []
        assert runner.run(test, out=said.append).failed == 0, "".join(said)


def test_importing_the_bench_loads_nothing_heavy() -> None:
    program = (
        "import json, sys; before = {*sys.modules}; import harness; assert 'run' in dir(harness); "
        "print(json.dumps(sorted({name.split('.')[0] for name in {*sys.modules} - before})))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert {*loaded} - sys.stdlib_module_names == {"harness"}
    with pytest.raises(AttributeError, match="'harness' has no attribute 'rnu'"):
        harness.rnu  # noqa: B018
    for name in ("harness", "reports", "delightsam"):
        assert (Path(harness.__file__).parents[1] / name / "py.typed").is_file()


def test_a_notebook_without_widgets_shows_no_warning_of_tqdm() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.resetwarnings()
        importlib.reload(harness.api)
        warnings.warn("IProgress not found. Please update jupyter and ipywidgets.", stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another"]


def test_tables_have_the_documented_columns_and_one_row_for_each_image_and_trial(holed: Simulated) -> None:
    results = load_results(holed.root)
    assert list(results.images) == [*IMAGE_COLUMNS, *shown_metrics()]
    assert list(results.trials) == [*TRIAL_COLUMNS, *shown_metrics()]
    assert not results.images.duplicated(["method", "fold", "seed", "role", "key"]).any()
    starts = {"delightsam": "scratch", "unet": "scratch", "boxed": "scratch", "otsu": "none"}
    for table in (results.images, results.trials):
        assert dict(zip(table["method"], table["start"], strict=True)) == starts
    assert len(results.trials) == 12 and not results.complete
    failed = results.trials.query("state == 'failed'").iloc[0]
    assert (failed["method"], failed["fold"]) == ("unet", "fold2")
    assert "NaN in epoch 2" in failed["reason"]
    assert failed[shown_metrics()].isna().all()
    for name in (*shown_metrics(), "seconds", "epochs"):
        assert results.trials[name].dtype == float


def test_a_trials_metric_is_the_mean_over_images_and_then_over_domains(complete: Results) -> None:
    tests = complete.images.query("role == 'test' and method == 'unet' and fold == 'fold0' and seed == 1")
    (row,) = complete.trials.query("method == 'unet' and fold == 'fold0' and seed == 1").to_dict("records")
    assert row["dice"] == pytest.approx(tests.groupby(["modality", "domain"])["dice"].mean().mean())
    assert row["images"] == len(tests)


def test_a_metric_that_was_not_measured_is_nan(tmp_path: Path) -> None:
    store = write_store(
        tmp_path, faults={}, folds=1, predictions=False, change=lambda method, frame: frame.drop(columns="cldice")
    )
    results = load_results(store.root)
    assert results.images["cldice"].isna().all() and results.images["cldice"].dtype == float
    assert results.trials["cldice"].isna().all() and results.trials["dice"].notna().all()


def test_a_part_of_the_results(complete: Results) -> None:
    part = complete.select(methods=["unet"], seeds=[1])
    assert set(part.images["method"]) == {"unet"} and set(part.trials["seed"]) == {1}
    assert part.leaderboard["method"].tolist() == ["unet"]
    with pytest.raises(UserError, match="Did you mean 'unet'"):
        complete.select(methods=["unett"])
    with pytest.raises(UserError, match="expected a list"):
        complete.select(methods="unet")


def test_a_store_without_that_run(holed: Simulated, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'simulated'"):
        load_results(holed.root, suite="simulatd")
    with pytest.raises(UserError, match="Expected runs of suites"):
        load_results(tmp_path / "nothing")


@pytest.mark.usefixtures("no_open_figures")
def test_figures_are_axes_and_leave_matplotlib_as_it_was(complete: Results) -> None:
    backend, size = matplotlib.get_backend(), matplotlib.rcParams["font.size"]
    mine, _ = plt.subplots()
    drawn = [
        *(figures.dice_against_cost(complete, cost) for cost in figures.COSTS), figures.latency_by_size(complete),
        figures.seen_and_unseen(complete), figures.rank_map(complete), figures.critical_differences(complete),
        figures.learning_curves(complete), figures.heat_map(complete),
    ]  # fmt: skip
    panels = figures.distributions(complete)
    assert list(panels) == complete.records.domains and len({axes.figure for axes in panels.values()}) == 1
    assert all(isinstance(axes, Axes) and axes.get_title() for axes in drawn)
    assert plt.fignum_exists(mine.number)
    assert len(plt.get_fignums()) == 2 + len(drawn)
    assert (matplotlib.get_backend(), matplotlib.rcParams["font.size"]) == (backend, size)
    assert figures.heat_map(complete.select(methods=["unet"])).get_title().startswith("Unseen Dice by domain")


@pytest.mark.usefixtures("no_open_figures")
def test_pictures_of_chosen_images(complete: Results, tmp_path: Path) -> None:
    rows = complete.images.query("role == 'test' and method == 'unet'").nsmallest(5, "dice")
    panels = figures.pictures(complete, rows)
    assert len({axes.figure for axes in panels}) == 1
    for axes, (key, dice) in zip(panels, rows[["key", "dice"]].values, strict=True):
        assert axes.get_title() == f"{key}\nunet: Dice {dice:.3f}"
        assert axes.images[0].get_array().shape[:2] == (64, 64)
        outlines = [line.get_edgecolor()[0] for line in axes.collections]
        assert len(outlines) == 2 and any(outlines[0] != outlines[1])
    with pytest.raises(UserError, match="lack fold, seed"):
        figures.pictures(complete, rows.drop(columns=["fold", "seed"]))
    with pytest.raises(UserError, match=r"Expected 1 to 64 rows .* found 0"):
        figures.pictures(complete, rows.head(0))
    with pytest.raises(UserError, match="no trial method=unett"):
        figures.pictures(complete, rows.assign(method="unett"))


@pytest.mark.usefixtures("no_open_figures")
def test_pictures_say_which_mask_or_image_is_gone(tmp_path: Path) -> None:
    results = load_results(write_store(tmp_path, folds=1).root)
    rows = results.images.query("role == 'test'").head(1)
    (key,) = rows["key"]
    for mask in tmp_path.rglob(f"predictions/*/test/{key}.png"):
        mask.unlink()
    with pytest.raises(UserError, match=f"The mask of {key} by .* was not kept"):
        figures.pictures(results, rows)
    with pytest.raises(UserError, match="The image dermoscopy/atlas/nothing is no longer in the dataset"):
        figures.pictures(results, rows.assign(key="dermoscopy/atlas/nothing"))


def test_a_figure_that_the_data_dont_allow_says_why(complete: Results) -> None:
    with pytest.raises(UserError, match="it needs two complete automatic methods"):
        figures.rank_map(complete.select(methods=["unet"]))
    with pytest.raises(UserError, match="Did you mean 'gmacs'"):
        figures.dice_against_cost(complete, "gmac")


@pytest.mark.usefixtures("no_open_figures")
def test_run_and_predict(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.run._measure_costs", lambda *_: None)
    words = [*small, "method=[tinyconv,otsu]", "training.epochs=1", "protocol.max_folds=1", "training.amp=off"]
    ours = write_toys(tmp_path / "ours")
    planned = plan(*words, config_dir=ours)
    assert planned.trials["done"].tolist() == [False, False]
    assert planned.splits["test"].tolist() == [8]
    mine, _ = plt.subplots()
    results = run(*words, config_dir=ours, quiet=True)
    assert plt.get_fignums() == [mine.number]  # the report leaves open figures alone
    assert results.complete and results.report.is_file()
    assert plan(*words, config_dir=ours).trials["done"].all()
    assert results.trials["trial"].tolist() == planned.trials["trial"].tolist()
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    assert run(*words, config_dir=ours, quiet=True).images.equals(results.images)  # nothing is run again

    network = results.trained(method="tinyconv", device="cpu")
    assert network.id == results.trials.set_index("method").loc["tinyconv", "trial"]
    store, (record,) = Store(results.store), [trial for trial in results.records.trials if trial.method == "tinyconv"]
    assert record.spec is not None
    keys = record.spec.split.test[:3]
    images = Dataset.open(Path(record.spec.data.root)).by_key()
    masks = network.predict([images[key].image for key in keys])
    for key, mask in zip(keys, masks, strict=True):
        assert np.array_equal(mask, read_mask(store.mask(record.ids, "test", key)))
    with pytest.raises(UserError, match=r"found float64 of shape \(4, 4, 3\)"):
        network.predict([np.zeros((4, 4, 3))])
    with pytest.raises(UserError, match="was not trained on modality"):
        results.trained(network.id[:10], device="cpu").predict([], "xray")
    with pytest.raises(UserError, match="either a trial's id or method"):
        results.trained()


def test_run_says_what_is_wrong_before_it_makes_anything(small: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'unet'"):
        run(*small, "method=unett")
    with pytest.raises(UserError, match="is a search"):
        run(*small, "sweep=asha", "method=unet")
    with pytest.raises(UserError, match=r"write \*words"):
        plan([*small, "method=otsu"])  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_evaluate_gives_results_with_holes(shared_dataset: Path, tmp_path: Path) -> None:
    from PIL import Image

    for sample in Dataset.open(shared_dataset).samples:
        if sample.id != "case_0" or sample.domain != "clinic_a":
            path = tmp_path / "masks" / f"{sample.key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(read_mask(sample.mask)).save(path)
    results = evaluate(
        tmp_path / "masks", "perfect tool", f"data.root={shared_dataset}", f"store.root={tmp_path / 'runs'}", quiet=True
    )
    assert set(results.trials["method"]) == {"perfect tool"}
    assert not results.complete
    done = results.trials.query("state == 'done'")
    assert (done["dice"] == 1).all() and done["epochs"].isna().all()
    assert pd.isna(results.leaderboard.loc[0, "dice"])


@pytest.mark.usefixtures("no_open_figures")
def test_the_guides_lines_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(harness.__file__).parents[1] / "docs" / "guides" / "python.md").read_text("utf-8")
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "heat_map" in text]
    write_store(tmp_path, faults={}, predictions=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["dice"].notna().all()
    assert (tmp_path / "heat_map.pdf").stat().st_size > 1000

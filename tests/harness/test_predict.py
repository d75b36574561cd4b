"""`predict`: masks and overlays of a folder of images, by a finished trial or a weights file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.cli import main

if TYPE_CHECKING:
    from harness.config import RunConfig


@pytest.fixture
def store(toy_config: Callable[..., RunConfig]) -> Path:
    """A store with one finished run of a toy network, which keeps its weights."""
    from harness.store import Store
    from harness.suite import build_suite, cache_folder
    from harness.trial import TrialContext, run_trial

    config = toy_config("TinyConv")
    suite, store = build_suite(config), Store(config.store.root)
    store.prepare()
    store.start_suite(
        "toys",
        "",
        [
            {"id": trial.id, "method": trial.method, "fold": trial.spec["split"]["name"], "seed": 0}
            for trial in suite.trials
        ],
    )
    context = TrialContext(str(store.root), str(cache_folder(config)))
    for trial in suite.trials:
        assert run_trial(trial.id, trial.spec, context)["state"] == "done"
    return store.root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(random.integers(0, 256, (50, 30), dtype=np.uint8)).save(folder / "deep" / "b.tif")
    (folder / "notes.txt").write_text("no image")
    return folder


def trial_of(store: Path) -> str:
    return next(folder.name for folder in (store / "trials").iterdir() if (folder / "spec.json").exists())


def test_a_trial_writes_what_its_test_would(store: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = pictures.parent / "out"
    words = ["predict", trial_of(store)[:10], "--store", str(store), "--images", str(pictures), "--out", str(out)]
    assert main(words) == 0
    table = pd.read_csv(out / "predictions.csv")
    assert list(table.file) == ["a.png", "deep/b.tif"]
    for row, size in zip(table.itertuples(), [(60, 40), (30, 50)], strict=True):
        mask = np.asarray(Image.open(out / row.mask))
        assert (mask.shape[1], mask.shape[0]) == (row.width, row.height) == size
        assert set(np.unique(mask)) <= {0, 255}
        assert row.foreground_fraction == pytest.approx((mask > 0).mean(), abs=1e-6)
    assert len(list((out / "overlays").rglob("*.*"))) == 2
    assert "notes.txt" in capsys.readouterr().err

    # The same words again would replace files.
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    before = (out / table["mask"][0]).read_bytes()
    assert main([*words, "--overwrite"]) == 0
    assert (out / table["mask"][0]).read_bytes() == before


def test_masks_equal_those_of_the_trials_own_test(store: Path, small_dataset: Path, tmp_path: Path) -> None:
    trial = store / "trials" / trial_of(store)
    kept = sorted((trial / "predictions").rglob("*.png"))
    folder = small_dataset / kept[0].relative_to(trial / "predictions").parent / "images"
    out = tmp_path / "out"
    assert (
        main(["predict", "--method", "tinyconv", "--store", str(store), "--images", str(folder), "--out", str(out)])
        == 0
    )
    for mask in kept:
        if mask.parent == kept[0].parent:
            again = np.asarray(Image.open(out / "masks" / mask.name)) > 0
            assert np.array_equal(again, np.asarray(Image.open(mask)).astype(bool))


def test_an_unreadable_image_is_named_and_the_others_are_done(
    store: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG not really")
    out = pictures.parent / "out"
    words = ["predict", "--method", "tinyconv", "--store", str(store), "--images", str(pictures), "--out", str(out)]
    assert main(words) == 1
    assert "broken.png" in capsys.readouterr().err
    assert len(pd.read_csv(out / "predictions.csv")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ffff"], "neither"),
        (["--method", "tinyconf"], "Did you mean 'tinyconv'"),
        (["nothing.safetensors"], "nothing.safetensors"),
        ([], "tinyconv"),
    ],
)
def test_what_can_not_be_found_is_told(
    store: Path, pictures: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = pictures.parent / "out"
    assert main(["predict", *words, "--store", str(store), "--images", str(pictures), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_folders_without_images_are_told(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for folder, message in (("empty", "no files"), ("absent", "nothing at")):
        words = ["predict", "--method", "tinyconv", "--store", str(store), "--images", str(tmp_path / folder)]
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err


def test_a_weights_file_of_the_library(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from delightsam import DeLightSAM, save

    model = DeLightSAM(modalities=(2, 3), image_size=64).eval()
    save(model, tmp_path / "model.safetensors")
    words = ["predict", str(tmp_path / "model.safetensors"), "--images", str(pictures), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "--modality" in capsys.readouterr().err
    assert main([*words, "--modality", "xray"]) == 2
    assert "not made for modality 1 xray" in capsys.readouterr().err
    assert main([*words, "--modality", "fundus"]) == 0
    expected = model.segment(np.asarray(Image.open(pictures / "a.png")), "fundus")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png")) > 0, expected)

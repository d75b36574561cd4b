"""`predict`: the trial's own masks come out again, odd files are reported, mistakes write nothing."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.cli import main
from harness.data.reading import read_image, read_mask
from harness.errors import UserError
from harness.inference.image_folder import find_images
from harness.inference.overlay import LINE, outlined
from harness.planning.plan import Plan
from harness.store.queries import best_trial
from harness.store.records import TrialEntry
from harness.store.store import Store
from harness.trial import TrialContext, run_trial
from harness.trial_spec import TrialIds

MakeSuite = Callable[..., Plan]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def finish(suite: Plan, store: Store, tmp_path: Path, **context: Any) -> list[str]:
    """Runs the suite's trials into the store, as `run` does; their ids."""
    store.prepare()
    entries = [TrialEntry.of(trial) for trial in suite.trials]
    store.start_suite(suite.config.name, "{}", entries)
    for trial in suite.trials:
        settings = TrialContext(str(store.root), str(tmp_path / "cache"), **context)
        assert run_trial(trial, settings)["state"] == "done"
    return [trial.id for trial in suite.trials]


def predict(store: Store, images: Path, out: Path, *words: str) -> int:
    return main(["predict", "--store", str(store.root), "--images", str(images), "--out", str(out), *words])


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def picture(path: Path, height: int = 20, width: int = 30, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def pictures(folder: Path, count: int) -> None:
    for number in range(count):
        picture(folder / f"{number}.png", 20, 20)


@pytest.mark.e2e
def test_a_trials_masks_come_out_again(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, shared_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = toy_plan("TinyConv")
    (trial_id,) = finish(suite, store, tmp_path)
    out = tmp_path / "out"
    assert predict(store, shared_dataset, out, trial_id[:8]) == 0
    error = capsys.readouterr().err
    assert "Skipped 24, a dataset's mask" in error
    assert "tinyconv fold0 seed 0" in error
    assert "Wrote 24 masks" in error
    (trial,) = suite.trials
    stored = store.prediction_folder(trial.ids) / "test"
    tested = sorted(stored.rglob("*.png"))
    assert len(tested) == 8
    for path in tested:
        modality, domain, name = path.relative_to(stored).parts
        mask = out / "masks" / modality / domain / "images" / name
        assert np.array_equal(read_mask(mask), read_mask(path))
        assert set(np.unique(np.asarray(Image.open(mask)))) <= {0, 255}
        assert (
            Image.open(out / "overlays" / mask.relative_to(out / "masks").with_suffix(".jpg")).size
            == Image.open(mask).size
        )
    table = pd.read_csv(out / "predictions.csv")
    assert len(table) == 24
    row = table.iloc[5]
    mask = read_mask(out / row["mask"])
    assert (row["height"], row["width"]) == mask.shape == read_image(shared_dataset / row["file"]).shape[:2]
    assert row["foreground_fraction"] == pytest.approx(mask.mean(), abs=1e-6)
    assert row["seconds"] > 0


def test_odd_files_are_reported_and_the_others_are_predicted(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trial_id,) = finish(toy_plan("Floor"), store, tmp_path)
    images = tmp_path / "images"
    picture(images / "a.png")
    picture(images / "a.jpg", 12, 50)
    picture(images / "deep" / "er" / "b.png", 1, 3)
    Image.fromarray(np.full((9, 8), 40000, np.uint16)).save(images / "grey16.png")
    Image.new("CMYK", (7, 6)).save(images / "cmyk.tif")
    Image.new("P", (5, 6)).save(images / "palette.gif")
    Image.new("RGBA", (5, 6)).save(images / "alpha.png")
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:60])
    (images / "notes.txt").write_text("hello")
    (images / ".hidden.png").write_bytes(b"")
    out = images / "out"
    assert predict(store, images, out, str(store.trial_folder(trial_id))) == 1
    error = capsys.readouterr().err
    assert "Skipped 1, not an image (.txt): notes.txt" in error
    assert "1 image could not be read:\n  " in error
    assert "broken.png: expected an image" in error
    masks = {"a.png.png", "a.jpg.png", "deep/er/b.png", "grey16.png", "cmyk.png", "palette.png", "alpha.png"}
    assert tree(out / "masks") == masks
    assert Image.open(out / "masks" / "a.jpg.png").size == (50, 12)

    assert predict(store, images, out, trial_id) == 2
    assert "holds files already. Give another folder, or --overwrite" in capsys.readouterr().err
    (images / "broken.png").unlink()
    assert predict(store, images, out, trial_id, "--overwrite") == 0  # what it wrote is no image to segment
    assert len(pd.read_csv(out / "predictions.csv")) == 7
    assert predict(store, images / "a.png", tmp_path / "one", trial_id) == 0
    assert tree(tmp_path / "one") == {"predictions.csv", "masks/a.png", "overlays/a.jpg"}


def test_a_batch_holds_no_more_than_some_pixels(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial_id,) = finish(toy_plan("Floor"), store, tmp_path)
    pictures(tmp_path / "images", 5)
    sizes: list[int] = []
    from harness.inference.predictors import TrialPredictor

    segment = TrialPredictor.segment
    monkeypatch.setattr(TrialPredictor, "segment", lambda self, i: (sizes.append(len(i)), segment(self, i))[1])
    monkeypatch.setattr("harness.cli.predict.PIXELS_AT_ONCE", 500)
    assert predict(store, tmp_path / "images", tmp_path / "out", trial_id) == 0
    assert sizes == [2, 2, 1]


def test_one_batch_is_read_and_one_is_written_while_one_is_predicted(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of four batches is done only after the third was read and the first was written: in one thread it never is."""
    from harness.cli import predict as command
    from harness.inference.predictors import TrialPredictor

    (trial_id,) = finish(toy_plan("Floor"), store, tmp_path)
    pictures(tmp_path / "images", 4)
    monkeypatch.setattr(command, "PIXELS_AT_ONCE", 300)
    events = {name: threading.Event() for name in ("2.png read", "0.png written")}
    read, write, segment, batches = read_image, command._write_pictures, TrialPredictor.segment, count()

    def noted_read(path: Path, *rest: Any) -> Any:
        image = read(path, *rest)
        events.get(f"{path.name} read", threading.Event()).set()
        return image

    def noted_write(out: Path, target: Path, *rest: Any) -> None:
        write(out, target, *rest)
        events.get(f"{target.name} written", threading.Event()).set()

    def waiting_segment(self: TrialPredictor, images: Any) -> Any:
        assert next(batches) != 1 or all(event.wait(60) for event in events.values())
        return segment(self, images)

    monkeypatch.setattr("harness.data.reading.read_image", noted_read)
    monkeypatch.setattr(command, "_write_pictures", noted_write)
    monkeypatch.setattr(TrialPredictor, "segment", waiting_segment)
    assert predict(store, tmp_path / "images", tmp_path / "out", trial_id) == 0
    assert list(pd.read_csv(tmp_path / "out/predictions.csv").file) == [f"{number}.png" for number in range(4)]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (OSError(errno.ENOSPC, "full"), 2)])
def test_what_was_written_before_a_stop_is_in_the_table(
    error: BaseException, code: int, toy_plan: MakeSuite, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.inference.predictors import TrialPredictor

    (trial_id,) = finish(toy_plan("Floor"), store, tmp_path)
    pictures(tmp_path / "images", 4)
    monkeypatch.setattr("harness.cli.predict.PIXELS_AT_ONCE", 300)
    segment, batches = TrialPredictor.segment, count()

    def stopped_segment(self: TrialPredictor, images: Any) -> Any:
        if next(batches) == 2:
            raise error
        return segment(self, images)

    monkeypatch.setattr(TrialPredictor, "segment", stopped_segment)
    assert predict(store, tmp_path / "images", tmp_path / "out", trial_id) == code
    named = list(pd.read_csv(tmp_path / "out/predictions.csv")["mask"])
    assert named == ["masks/0.png", "masks/1.png"]
    assert tree(tmp_path / "out/masks") == {"0.png", "1.png"}


def test_the_modality_is_given_or_guessed_where_the_method_needs_it(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = toy_plan("TinyConv", "GuessesModality")
    plain, guessing = finish(suite, store, tmp_path)
    picture(tmp_path / "images" / "a.png")

    def modality(trial_id: str, name: str, *words: str) -> Any:
        assert predict(store, tmp_path / "images", tmp_path / name, trial_id, *words) == 0
        return pd.read_csv(tmp_path / name / "predictions.csv", keep_default_na=False)["modality"].item()

    assert modality(plain, "1") == ""
    assert modality(plain, "2", "--modality", "dermoscopy") == "dermoscopy"
    assert modality(guessing, "3", "--modality", "auto") == "ultrasound"
    assert predict(store, tmp_path / "images", tmp_path / "4", plain, "--modality", "ultrasond") == 2
    assert "was not trained on modality 'ultrasond'. Did you mean 'ultrasound'?" in capsys.readouterr().err
    config = replace(suite.config, methods={k: _using_modality(v) for k, v in suite.config.methods.items()})
    from harness.planning.plan import build_plan

    (needs, _) = finish(build_plan(replace(config, seeds=(1,))), store, tmp_path)
    assert predict(store, tmp_path / "images", tmp_path / "5", needs) == 2
    assert "needs to know what the images show: --modality dermoscopy|ultrasound" in capsys.readouterr().err
    assert predict(store, tmp_path / "images", tmp_path / "5", needs, "--modality", "auto") == 2
    assert "can't tell an image's modality" in capsys.readouterr().err
    assert not (tmp_path / "5").exists()


def _using_modality(method: dict[str, Any]) -> dict[str, Any]:
    return {**method, "card": {**method["card"], "uses_modality": True}}


def test_the_best_trial_is_chosen_by_validation_never_by_test(
    toy_config: Callable[..., Any], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.planning.plan import build_plan

    ids = finish(build_plan(replace(toy_config("Floor"), seeds=(0, 1, 2))), store, tmp_path)
    load = Store.load

    def scored(self: Store, which: TrialIds) -> Any:
        record = load(self, which)
        samples = record.samples
        assert samples is not None
        rank = ids.index(which.training)
        samples["dice"] = np.where(samples["role"] == "validation", [0.2, 0.9, 0.5][rank], [1.0, 0.0, 0.5][rank])
        return record

    monkeypatch.setattr(Store, "load", scored)
    found, why = best_trial(store, "floor")
    assert found == ids[1]
    assert "the best of 3 by validation Dice of floor in toys" in why
    with pytest.raises(UserError, match="Did you mean 'floor'"):
        best_trial(store, "flor")
    with pytest.raises(UserError, match=r"Finished in .*: floor"):
        best_trial(store, None)
    with pytest.raises(UserError, match="Run a suite first"):
        best_trial(Store(tmp_path / "empty"), "floor")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zz"], "found 'zz', which is neither (1 trials there)"),
        (["TRIAL", "--method", "floor"], "found both"),
        ([], "Finished in"),
        (["missing.safetensors"], "missing.safetensors; there is none"),
        (["TRIAL", "--images", "/nonexistent"], "Expected a folder of images, found nothing at /nonexistent"),
        (["TRIAL", "--images", "RUNS"], "Expected images"),
        (["TRIAL", "--out", "IMAGES"], "--out is the folder of the images"),
        (["TRIAL", "--out", "IMAGES/a.png"], "is a file: expected a folder"),
        (["TRIAL", "--device", "cuda"], "torch finds no GPU"),
    ],
)
def test_a_mistake_is_reported_and_nothing_is_written(
    words: list[str],
    said: str,
    toy_plan: MakeSuite,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (trial_id,) = finish(toy_plan("Floor"), store, tmp_path, predictions=False)
    picture(tmp_path / "images" / "a.png")
    names = {"TRIAL": trial_id, "RUNS": str(store.root), "IMAGES": str(tmp_path / "images")}
    for name, value in names.items():
        words = [word.replace(name, value) for word in words]
    assert predict(store, tmp_path / "images", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert said in error
    assert not (tmp_path / "out").exists()


def test_trials_that_cannot_predict_say_why(
    toy_plan: MakeSuite, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = toy_plan("TinyConv", "Floor")
    (whole, other) = finish(suite, store, tmp_path)
    picture(tmp_path / "images" / "a.png")

    def message(trial_id: str) -> str:
        assert predict(store, tmp_path / "images", tmp_path / "out", trial_id) == 2
        return capsys.readouterr().err

    weights = store.weights(whole)
    content = weights.read_bytes()
    weights.write_bytes(content[:-40])
    assert "does not fit tinyconv" in message(whole)
    weights.unlink()
    assert "store.keep_weights=false" in message(whole)
    (store.trial_folder(other) / "result.json").unlink()
    assert "has no result yet" in message(other)
    assert "begins 2 trials" in message("")


def test_weights_files_of_the_library_are_used_by_their_path(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import delightsam

    torch.manual_seed(0)
    model = delightsam.DeLightSAM(modalities=(0, 3), stem="pixel", image_size=32, controllers="none").eval()
    delightsam.save(model, tmp_path / "model.safetensors")
    picture(tmp_path / "images" / "a.png", 40, 25)
    words = [str(tmp_path / "model.safetensors"), "--modality", "fundus"]
    assert predict(store, tmp_path / "images", tmp_path / "out", *words) == 0
    expected = model.segment(read_image(tmp_path / "images" / "a.png"), "fundus")
    assert np.array_equal(read_mask(tmp_path / "out" / "masks" / "a.png"), expected)
    for wrong, said in (([*words[:2], "xray"], "it knows 0 dermoscopy, 3 fundus"), (words[:1], "needs to know")):
        assert predict(store, tmp_path / "images", tmp_path / "no", *wrong) == 2
        assert said in capsys.readouterr().err


def test_a_folder_without_images_names_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_text("")
    with pytest.raises(UserError, match=r"found 1 files that are not an image \(.dcm\)"):
        find_images(tmp_path)


def test_the_outline_surrounds_the_mask_and_leaves_it_alone() -> None:
    image = np.full((40, 50, 3), 100, np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:20, 30:] = True  # cut by the frame
    drawn = outlined(image, mask)
    line = (drawn == LINE).all(axis=2)
    assert (drawn[mask] == 100).all()
    assert line[9, 30:].all()
    assert line[9:21, 29].all()
    assert line.sum() == 12 + 2 * 20
    assert (image == 100).all()


@pytest.mark.parametrize("level", ["0", "-5", "70000"])
def test_an_impossible_white_level(level: str) -> None:
    from harness.cli.predict import _white_level

    with pytest.raises(UserError, match=f"--white-level {level}: expected a number above 0"):
        _white_level(float(level), [])

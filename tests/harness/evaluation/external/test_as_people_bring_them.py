"""Folders of masks as other tools leave them: linked, of another size, of odd titles, one set for a split named as a modality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.config import MetricsConfig, ProtocolConfig
from harness.data.dataset import Dataset
from harness.data.reading import read_mask
from harness.errors import UserError
from harness.evaluation.external import evaluate_external, match_masks
from harness.protocols.rules import make_splits
from harness.store.store import Store


@pytest.fixture
def dataset(shared_dataset: Path) -> Dataset:
    return Dataset.open(shared_dataset)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tests that don't read it: to write it takes longer than all else."""
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)


@pytest.fixture
def masks(dataset: Dataset, tmp_path: Path) -> Path:
    """The truth as another tool's masks."""
    for sample in dataset.samples:
        path = tmp_path / "masks" / f"{sample.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_mask(sample.mask)).save(path)
    return tmp_path / "masks"


def evaluated(dataset: Dataset, masks: Path, *words: str) -> tuple[int, list[dict[str, object]]]:
    """Exit code, and the rows of the report."""
    store = masks.parent / "runs"
    code = main(
        ["evaluate", f"predictions={masks}", "name=tool", f"data.root={dataset.root}", f"store.root={store}", *words]
    )
    boards = sorted(store.glob("suites/*/*/report/leaderboard.json"))
    return code, json.loads(boards[-1].read_text())["methods"] if boards else []


def shrink(masks: Path) -> int:
    """Halves every second mask."""
    files = sorted(masks.rglob("*.png"))[::2]
    for file in files:
        picture = Image.open(file)
        picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.NEAREST).save(file)
    return len(files)


def test_another_size_is_refused_and_says_how_to_have_it_resized(
    dataset: Dataset, masks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shrink(masks)
    assert evaluated(dataset, masks)[0] == 2
    assert "or have it done: resize=nearest, which the table marks" in capsys.readouterr().err


def test_resized_masks_are_marked_and_kept_at_their_images_size(dataset: Dataset, masks: Path, tmp_path: Path) -> None:
    count = shrink(masks)
    code, (row,) = evaluated(dataset, masks, "resize=nearest")
    assert code == 0 and 0.8 < float(str(row["dice"])) < 1
    store = Store(tmp_path / "runs")
    for entry in store.suites()[-1].trials:
        spec = store.spec(entry.ids)
        assert spec.method.card["resized"] == count
        for key in spec.split.test:
            sample = dataset.by_key()[key]
            assert read_mask(store.mask(entry.ids, "test", key)).shape == (sample.height, sample.width)
    (page,) = (tmp_path / "runs").glob("suites/*/*/report/leaderboard.html")
    assert f"{count} masks resized" in page.read_text()
    assert f'title="{count} of its masks had another size' in page.read_text(), (
        "in the ranking, where it is seen at once"
    )


@pytest.mark.parametrize("word", ["resize=linear", "nifti=auto", "nifti=column_rows", "resize="])
def test_unknown_choices(dataset: Dataset, masks: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(dataset, masks, word)[0] == 2
    key = word.partition("=")[0]
    assert f"{key}=" in capsys.readouterr().err


TITLES = (
    "nnU-Net: 2D", "1.10", "No", "on", "2024-05-01", "[ours] U-Net", "null", "{x}", "# 1", "U-Net # 2", "50%", "@home", "*", "a: b: c",
    "'quoted", "<b>bold</b>", "&amp;", "~", "0x10", "1e3", "| x |",
)  # fmt: skip


@pytest.mark.parametrize("title", TITLES)
def test_titles_stay_as_they_were_typed(title: str) -> None:
    from harness.evaluation.external.card import read_description

    assert read_description("tool", None, {"card.title": title}).card["title"] == title


@pytest.mark.parametrize("value", ["1.10", "no", "2024-05-01", "null", "[a]", "{a: b}", "7", "''"])
@pytest.mark.parametrize("key", ["title", "paper", "licence", "pretrained"])
def test_texts_that_yaml_takes_for_something_else_are_named(tmp_path: Path, key: str, value: str) -> None:
    from harness.evaluation.external.card import read_description

    (tmp_path / "about.yaml").write_text(f"card:\n  {key}: {value}\n")
    with pytest.raises(UserError, match=f"card.{key}=.*: expected a text, found .* Write it in quotes"):
        read_description("tool", str(tmp_path / "about.yaml"), {})


@pytest.mark.parametrize("name", ["a\nb", " a", "a ", "a\tb", "a\\b", "x" * 201, "\x1b[31m"])
def test_names_that_would_not_come_back(
    dataset: Dataset, masks: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(dataset, masks, f"name={name}")[0] == 2
    assert "expected a name that tables and paths keep as it is" in capsys.readouterr().err


def test_links_to_folders_are_followed_and_circles_end(dataset: Dataset, masks: Path, tmp_path: Path) -> None:
    (masks / "ultrasound").rename(tmp_path / "elsewhere")
    (masks / "ultrasound").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere/again").symlink_to(masks, target_is_directory=True)
    found = match_masks(masks, make_splits(dataset, ProtocolConfig()))
    assert not found.missing and not found.extra


def test_a_dead_link_is_refused_by_name(dataset: Dataset, masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = sorted(masks.rglob("*.png"))[0]
    link.unlink()
    link.symlink_to("gone.png")
    assert evaluated(dataset, masks)[0] == 2
    assert f"{link.name}: expected a mask, found a link to nothing" in capsys.readouterr().err


def test_a_split_that_is_named_as_a_modality(dataset: Dataset, masks: Path, tmp_path: Path) -> None:
    """`in_domain` with one model for each modality: the layout is recognised by which one fits the files."""
    protocol = ProtocolConfig(name="in_domain", scope="per_modality")
    splits = make_splits(dataset, protocol)
    assert {split.name for split in splits} == {"dermoscopy", "ultrasound"}
    one = match_masks(masks, splits)
    assert not one.per_split and not one.missing
    for split in splits:
        for key in split.test:
            target = tmp_path / "sets" / split.name / f"{key}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((masks / f"{key}.png").read_bytes())
    each = match_masks(tmp_path / "sets", splits)
    assert each.per_split and not each.missing


def test_masks_read_by_a_rule_are_said(
    dataset: Dataset, masks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = sorted(masks.rglob("*.png"))[0]
    mask = read_mask(file)
    file.unlink()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file.with_suffix(".jpg"), quality=95)
    splits, store = make_splits(dataset, ProtocolConfig()), Store(tmp_path / "runs")
    store.prepare()
    evaluate_external(
        match_masks(masks, splits), splits, dataset, store, name="other", card={"title": "Other"}, protocol=ProtocolConfig(),
        metrics=MetricsConfig(), data_name="small",
    )  # fmt: skip
    assert f"{file.with_suffix('.jpg')}: the file's compression changes values" in caplog.text


@pytest.mark.usefixtures("no_report")
def test_references_in_place_of_predictions_are_noticed(
    dataset: Dataset, masks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A domain by a domain: one other pixel in one mask, and they are no copy."""
    for path in [sorted((masks / "dermoscopy" / domain).glob("*.png"))[0] for domain in ("clinic_a", "clinic_b")]:
        mask = np.array(Image.open(path))
        mask[0, 0] = not mask[0, 0]
        Image.fromarray(mask).save(path)
    assert evaluated(dataset, masks)[0] == 0
    (warning,) = [record.getMessage() for record in caplog.records if "equal the references" in record.message]
    assert warning.startswith(
        "All masks of dermoscopy/clinic_c, ultrasound/scanner_a, ultrasound/scanner_b, ultrasound/sc"
    )
    for path in masks.rglob("*.png"):
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    caplog.clear()
    assert evaluated(dataset, masks)[0] == 0 and "equal the references" not in caplog.text


def test_identical_tools_share_their_rank_and_are_reported_as_equal(
    dataset: Dataset, masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
        evaluated(dataset, masks)
    _, rows = evaluated(dataset, masks, "name=twin")
    assert [row["rank"] for row in rows] == ["1–2", "1–2"]
    board = sorted((masks.parent / "runs/suites").glob("*/*/report/leaderboard.json"))[-1]
    notes = " ".join(json.loads(board.read_text())["notes"])
    assert "and twin share the highest" in notes or "and tool share the highest" in notes
    assert "Identical results, the same Dice on every image: tool, twin." in notes
    assert "excludes 0" not in notes


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sides", [(12, 20), (12, 12)])
def test_images_that_are_stored_turned_are_found_where_their_size_does_not_show_it(
    tmp_path: Path, orientation: int, sides: tuple[int, int]
) -> None:
    from harness.data.reading.picture import turned_unseen

    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("jpg", "webp"):
        Image.new("RGB", sides).save(tmp_path / f"a.{suffix}", exif=exif)
        shown_by_size = orientation >= 5 and sides[0] != sides[1]
        assert turned_unseen(tmp_path / f"a.{suffix}") == (1 if shown_by_size else orientation)


@pytest.mark.usefixtures("no_report")
def test_a_mask_of_a_turned_image_is_never_scored_without_a_word(
    small_dataset: Path, masks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = Dataset.open(small_dataset)
    sample = dataset.samples[0]
    exif = Image.Exif()
    exif[0x0112] = 3
    image, mask = Image.open(sample.image), Image.open(sample.mask)
    image.save(sample.image.with_suffix(".jpg"), exif=exif)
    mask.convert("RGB").save(sample.mask.with_suffix(".webp"), exif=exif, lossless=True)
    sample.image.unlink()
    sample.mask.unlink()
    (dataset.root / "manifest.csv").unlink()
    assert evaluated(dataset, masks)[0] == 0
    assert f"{masks / sample.key}.png: its image is stored turned or mirrored (EXIF orientation 3)" in caplog.text

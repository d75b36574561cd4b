"""`data add` on folders as people have them: right by itself, or one question."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageDraw

from harness.data.sources import guess
from harness.data.sources.add import readings_of, write_choice
from harness.data.sources.archives import read_sources
from harness.data.sources.guess import Choice
from harness.errors import UserError

H, W = 24, 32
RANDOM = np.random.default_rng(7)


def picture() -> np.ndarray:
    return RANDOM.integers(0, 255, (H, W, 3), dtype=np.uint8)


def blob(number: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[2 + number : 9 + number, 3 : 12 + number] = 255
    return mask


def put(root: Path, path: str, values: np.ndarray, **options: object) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(root / path, **options)


def read(root: Path) -> list[Choice]:
    with readings_of([root], root.parent / "out", "xray", "mine") as choices:
        return choices


def written(root: Path, choice: int = 0) -> dict[str, np.ndarray]:
    """Id -> mask, as `data add` writes them."""
    out = root.parent / "out"
    with readings_of([root], out, "xray", "mine") as choices:
        outcome = write_choice(choices[choice].pairs, out, "test")
    assert not outcome.failed, outcome.failed
    return {one.id: np.asarray(Image.open(out / one.mask)) for one in outcome.pairs}


Build = Callable[[Path, int], None]


def _images_labels(root: Path, n: int) -> None:
    put(root, f"images/case{n}.jpg", picture())
    put(root, f"labels/case{n}.png", blob(n))


def _nnunet(root: Path, n: int) -> None:
    put(root, f"imagesTr/case_{n:03d}_0000.png", picture())
    put(root, f"labelsTr/case_{n:03d}.png", blob(n) // 255)


def _suffix_mask(root: Path, n: int) -> None:
    put(root, f"images/scan {n}.png", picture())
    put(root, f"masks/scan {n}_mask.png", blob(n))


def _segmentation_of_isic(root: Path, n: int) -> None:
    put(root, f"ISIC_Training_Input/ISIC_000{n}.jpg", picture())
    put(root, f"ISIC_Training_GroundTruth/ISIC_000{n}_segmentation.png", blob(n))


def _subfolders(root: Path, n: int) -> None:
    part = ("train", "val", "test")[n % 3]
    put(root, f"{part}/images/{n}.png", picture())
    put(root, f"{part}/masks/{n}.png", blob(n))


def _subfolders_within(root: Path, n: int) -> None:
    part = ("train", "test")[n % 2]
    put(root, f"images/{part}/{n}.png", picture())
    put(root, f"annotations/{part}/{n}.png", blob(n))


def _mixed(root: Path, n: int) -> None:
    put(root, f"us{n}.png", picture())
    put(root, f"us{n}_mask.png", blob(n))


def _mixed_by_suffix_alone(root: Path, n: int) -> None:
    put(root, f"frame{n}.jpg", picture())
    put(root, f"frame{n}.png", blob(n))


def _silent_folders(root: Path, n: int) -> None:
    put(root, f"A/{n}.png", picture())
    put(root, f"B/{n}.png", blob(n))


def _folder_of_each(root: Path, n: int) -> None:
    put(root, f"patient{n}/image.png", picture())
    put(root, f"patient{n}/mask.png", blob(n))


def _instances(root: Path, n: int) -> None:
    put(root, f"id{n}/images/id{n}.png", picture())
    left, right = blob(n), blob(n)
    left[:, 6:], right[:, :6] = 0, 0
    put(root, f"id{n}/masks/aa{n}.png", left)
    put(root, f"id{n}/masks/bb{n}.png", right)


def _numbered_masks(root: Path, n: int) -> None:
    put(root, f"lesion ({n}).png", picture())
    left, right = blob(n), blob(n)
    left[:, 6:], right[:, :6] = 0, 0
    put(root, f"lesion ({n})_mask.png", left)
    put(root, f"lesion ({n})_mask_1.png", right)


def _jpeg_masks(root: Path, n: int) -> None:
    put(root, f"images/{n}.jpg", picture())
    put(root, f"masks/{n}.jpg", blob(n), quality=60)


def _voc(root: Path, n: int) -> None:
    put(root, f"JPEGImages/{n}.jpg", picture())
    mask = Image.fromarray(blob(n) // 255)
    mask.putpalette([0, 0, 0, 128, 0, 0])
    (root / "SegmentationClass").mkdir(exist_ok=True)
    mask.save(root / f"SegmentationClass/{n}.png")


def _nifti(root: Path, n: int) -> None:
    for folder, values in (("imagesTr", picture()[..., 0]), ("labelsTr", blob(n) // 255)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        name = f"c{n}_0000" if folder == "imagesTr" else f"c{n}"
        nibabel.save(nibabel.Nifti1Image(values.T[..., None], np.eye(4)), root / folder / f"{name}.nii.gz")


def _bmp_and_gz(root: Path, n: int) -> None:
    put(root, f"Images/IMD{n}.bmp", picture())
    put(root, f"Lesion masks/IMD{n}_lesion.bmp", blob(n))


LAYOUTS: list[Build] = [
    _images_labels, _nnunet, _suffix_mask, _segmentation_of_isic, _subfolders, _subfolders_within, _mixed, _mixed_by_suffix_alone,
    _silent_folders, _folder_of_each, _instances, _numbered_masks, _jpeg_masks, _voc, _nifti, _bmp_and_gz,
]  # fmt: skip


@pytest.mark.parametrize("build", LAYOUTS, ids=lambda build: build.__name__.strip("_"))
def test_right_by_itself(build: Build, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for n in range(6):
        build(root, n)
    choices = read(root)
    assert len(choices) == 1, [choice.words for choice in choices]
    masks = written(root)
    assert len(masks) == 6 and not choices[0].lone
    found = sorted(mask.tobytes() for mask in masks.values())
    assert found == sorted(blob(n).tobytes() for n in range(6))
    by_number = {
        int("".join(c for c in name.replace("0000", "") if c.isdigit()) or "0"): mask for name, mask in masks.items()
    }
    for n, mask in by_number.items():  # each image has its own mask
        assert (mask == blob(n)).all()


def test_splits_and_repeated_names(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for part in ("train", "val", "test"):
        for n in range(3):
            put(root, f"{part}/images/{n}.png", picture())
            put(root, f"{part}/masks/{n}.png", blob(n))
    pairs = read(root)[0].pairs
    assert [pair.id for pair in pairs] == [f"{part}_{n}" for part in ("test", "train", "val") for n in range(3)]
    assert {pair.id.split("_")[0]: pair.split for pair in pairs} == {
        "train": "train",
        "val": "validation",
        "test": "test",
    }


def test_sets_that_share_no_image_are_no_question(tmp_path: Path) -> None:
    """Nothing is lost of a small test part, and two hospitals may name masks in two ways."""
    for n in range(10):
        part = "Tr" if n < 8 else "Ts"
        put(tmp_path / "mine", f"images{part}/lung_{n:03}_0000.png", picture())
        put(tmp_path / "mine", f"labels{part}/lung_{n:03}.png", blob(n % 6))
        put(tmp_path / "two", f"a/img/{n}.png" if n < 5 else f"b/case{n}.png", picture())
        put(tmp_path / "two", f"a/ground truth/{n}.png" if n < 5 else f"b/case{n}_mask.png", blob(n % 6))
    for name, words in (("mine", "10 pairs, masks: labels"), ("two", "10 pairs, masks: ground truth and mask")):
        (choice,) = read(tmp_path / name)
        assert (choice.words, choice.lone) == (words, [])


class TestOneQuestion:
    def test_two_readers(self, tmp_path: Path) -> None:
        root = tmp_path / "mine"
        for n in range(4):
            put(root, f"images/{n:02d}.png", picture())
            put(root, f"manual1/{n:02d}.png", blob(n))
            put(root, f"manual2/{n:02d}.png", blob(n + 1))
        choices = read(root)
        assert len(choices) == 3 and "united" in choices[-1].words
        chosen = next(
            number
            for number, choice in enumerate(choices)
            if "manual2" in choice.words and "united" not in choice.words
        )
        assert (written(root, chosen)["02"] == blob(3)).all()

    def test_field_of_view_beside_vessels(self, tmp_path: Path) -> None:
        root = tmp_path / "mine"
        for n in range(4):
            put(root, f"images/{n:02d}_h.jpg", picture())
            put(root, f"manual1/{n:02d}_h.tif", blob(n))
            put(root, f"mask/{n:02d}_h_mask.tif", np.full((H, W), 255, np.uint8))
        words = [choice.words for choice in read(root)]
        assert len(words) == 3 and any("manual1" in one for one in words)

    def test_left_and_right_are_united_first(self, tmp_path: Path) -> None:
        root = tmp_path / "mine"
        for n in range(4):
            put(root, f"images/{n}.png", picture())
            put(root, f"leftMask/{n}.png", blob(n))
            put(root, f"rightMask/{n}.png", np.fliplr(blob(n)))
        assert (written(root)["2"] == np.maximum(blob(2), np.fliplr(blob(2)))).all()

    def test_several_labels(self, tmp_path: Path) -> None:
        root = tmp_path / "mine"
        for n in range(4):
            put(root, f"images/{n}.png", picture())
            mask = blob(n) // 255
            mask[-2:] = 2
            put(root, f"labels/{n}.png", mask)
        choices = read(root)
        assert [choice.words.split(", ")[-1] for choice in choices] == ["2)", "label 1 alone", "label 2 alone"]
        assert (written(root, 1)["3"] == blob(3) * (np.arange(H) < H - 2)[:, None]).all()


def test_two_folders_with_the_same_names_are_not_mixed(tmp_path: Path) -> None:
    """What was looked at in one source does not stand for a file of the same name in another."""
    for number, source in enumerate(("a", "b")):
        put(tmp_path / source, "labels/x.png", blob(number))
    members = read_sources([tmp_path / "a", tmp_path / "b"], tmp_path / "scratch")
    looks = [np.asarray(Image.open(guess._copy(member, tmp_path / "scratch"))) for member in members]
    assert (looks[0] == blob(0)).all() and (looks[1] == blob(1)).all()


def test_colours_are_said(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for n in range(3):
        put(root, f"images/{n}.png", picture())
        mask = np.zeros((H, W, 3), np.uint8)
        mask[:4], mask[4:8] = (200, 0, 0), (0, 90, 0)
        put(root, f"masks/{n}.png", mask)
    (choice,) = read(root)
    assert choice.words.endswith("all colours but black")
    assert (written(root)["1"][:, 0] == np.where(np.arange(H) < 8, 255, 0)).all()


class TestOutlines:
    POINTS = ((4, 3), (20, 3), (20, 15), (4, 15))

    def filled(self) -> np.ndarray:
        canvas = Image.new("L", (W, H))
        ImageDraw.Draw(canvas).polygon(self.POINTS, fill=255, outline=255)
        return np.asarray(canvas)

    @pytest.fixture
    def root(self, tmp_path: Path) -> Iterator[Path]:
        root = tmp_path / "mine"
        for n in range(3):
            put(root, f"images/f{n}.png", picture())
        yield root
        masks = written(root)
        assert sorted(masks) == ["f0", "f1", "f2"]
        assert all((mask == self.filled()).all() for mask in masks.values())

    def test_coco(self, root: Path) -> None:
        flat = [number for point in self.POINTS for number in point]
        content = {
            "images": [{"id": n, "file_name": f"f{n}.png", "width": W, "height": H} for n in range(3)],
            "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": [flat]} for n in range(3)],
            "categories": [{"id": 1, "name": "polyp"}],
        }
        (root / "annotations.json").write_text(json.dumps(content))

    def test_coco_run_lengths(self, root: Path) -> None:
        flat = (self.filled().T > 0).ravel()
        edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        content = {
            "images": [{"id": n, "file_name": f"f{n}.png"} for n in range(3)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1, "segmentation": {"size": [H, W], "counts": runs}}
                for n in range(3)
            ],
            "categories": [{"id": 1, "name": "polyp"}],
        }
        (root / "annotations.json").write_text(json.dumps(content))

    def test_labelme(self, root: Path) -> None:
        for n in range(3):
            shape = {"label": "polyp", "points": self.POINTS, "shape_type": "polygon"}
            (root / f"images/f{n}.json").write_text(json.dumps({"imagePath": f"f{n}.png", "shapes": [shape]}))

    def test_cvat(self, root: Path) -> None:
        points = ";".join(f"{x},{y}" for x, y in self.POINTS)
        images = "".join(
            f'<image id="{n}" name="f{n}.png"><polygon label="polyp" points="{points}"/></image>' for n in range(3)
        )
        (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")


def test_labels_of_outlines_are_a_question(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    put(root, "images/f0.png", picture())
    shapes = [{"label": name, "points": [[1, 1], [5, 5]], "shape_type": "rectangle"} for name in ("polyp", "tool")]
    (root / "images/f0.json").write_text(json.dumps({"shapes": shapes}))
    words = [choice.words for choice in read(root)]
    assert len(words) == 3 and "label tool alone" in words[2]


class TestRefused:
    def test_a_volume_is_named_as_the_user_knows_it_and_not_as_our_copy(self, tmp_path: Path) -> None:
        for part, top in (("images", 255), ("masks", 2)):
            (tmp_path / "mine" / part).mkdir(parents=True)
            volume = RANDOM.integers(0, top, (H, W, 3)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "mine" / part / "0.nii.gz")
        with pytest.raises(UserError, match=r"mine: (masks/)?0\.nii\.gz: expected one mask of two axes"):
            read(tmp_path / "mine")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        with pytest.raises(UserError, match="mine: expected images and masks, found no file"):
            read(tmp_path / "mine")

    def test_no_masks(self, tmp_path: Path) -> None:
        put(tmp_path / "mine", "images/a.png", picture())
        with pytest.raises(UserError, match=r"found 1 picture in (\.|images)"):
            read(tmp_path / "mine")

    def test_no_pictures(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/readme.txt").write_text("x")
        with pytest.raises(UserError, match=r"mine: .* found only 1 file of \.txt \(for example readme\.txt\)"):
            read(tmp_path / "mine")

    def test_masks_of_other_names(self, tmp_path: Path) -> None:
        put(tmp_path / "mine", "images/a.png", picture())
        put(tmp_path / "mine", "images/b.png", picture())
        put(tmp_path / "mine", "masks/x.png", blob(1))
        with pytest.raises(UserError, match="belong together by name"):
            read(tmp_path / "mine")

"""Phantoms are the same every time, look like what their domain says, and are written whole or not at all."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from harness.data import phantoms
from harness.data.dataset import Dataset
from harness.data.phantoms import canvas, optics, shapes
from harness.errors import UserError

ALL = [(modality, domain) for modality in phantoms.modalities() for domain in phantoms.domains(modality)]
SIZE = 96
# Foreground that a mask of the modality may cover, least and most.
PLAUSIBLE = {
    "dermoscopy": (0.003, 0.65),
    "xray": (0.10, 0.60),
    "ultrasound": (0.003, 0.30),
    "fundus": (0.03, 0.20),
    "microscopy": (0.02, 0.40),
    "colonoscopy": (0.004, 0.40),
}


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pictures() -> dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]]:
    """Six images and masks of every domain."""
    return {
        (modality, domain): [phantoms.draw_phantom(modality, domain, index, SIZE)[:2] for index in range(6)]
        for modality, domain in ALL
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "root"
    phantoms.write_phantoms(root, images_per_domain=3, image_size=64)
    return root


def test_every_modality_has_three_domains_that_differ_in_parameters():
    assert phantoms.modalities() == ["dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "colonoscopy"]
    for modality in phantoms.modalities():
        domains = phantoms.domains(modality)
        assert len(domains) >= 3
        assert len({str(dataclasses.astuple(domain)) for domain in domains.values()}) == len(domains)
        assert all(domain.description for domain in domains.values())


def test_a_phantom_is_the_same_whatever_is_drawn_before():
    for modality, domain in ALL:
        first_image, first_mask, first_subject = phantoms.draw_phantom(modality, domain, 3, 64, seed=5)
        phantoms.draw_phantom(modality, domain, 0, 64, seed=5)
        image, mask, subject = phantoms.draw_phantom(modality, domain, 3, 64, seed=5)
        assert np.array_equal(first_image, image) and np.array_equal(first_mask, mask) and first_subject == subject


def test_two_folders_hold_the_same_bytes(written: Path, tmp_path: Path):
    phantoms.write_phantoms(tmp_path / "again", images_per_domain=3, image_size=64)
    assert content(written) == content(tmp_path / "again")


def test_fewer_images_or_modalities_do_not_change_the_others(written: Path, tmp_path: Path):
    phantoms.write_phantoms(
        tmp_path / "some", images_per_domain=2, image_size=64, modalities=["ultrasound", "fundus", "fundus"]
    )
    whole, some = content(written), content(tmp_path / "some")
    pictures = {name for name in some if name.endswith(".png")}
    assert len(pictures) == 2 * 3 * 2 * 2
    assert all(some[name] == whole[name] for name in pictures)


def test_another_seed_gives_other_images(pictures):
    for modality, domain in ALL:
        other = phantoms.draw_phantom(modality, domain, 0, SIZE, seed=1)
        assert not np.array_equal(other[0], pictures[modality, domain][0][0])
        assert not np.array_equal(other[1], pictures[modality, domain][0][1])


def test_no_two_masks_of_a_domain_are_alike(pictures):
    for drawn in pictures.values():
        assert len({hashlib.sha256(mask.tobytes()).digest() for _, mask in drawn}) == len(drawn)


def test_masks_cover_a_plausible_part_and_images_fit_them(pictures):
    for (modality, domain), drawn in pictures.items():
        least, most = PLAUSIBLE[modality]
        for image, mask in drawn:
            assert mask.dtype == bool and image.dtype == np.uint8
            assert image.shape[:2] == mask.shape
            assert least <= mask.mean() <= most, (modality, domain, mask.mean())


def step_across(image: np.ndarray, mask: np.ndarray) -> float:
    """How much the image changes across the outline of the mask, in grey values (green where it is coloured)."""
    grey = image if image.ndim == 2 else image[..., 1]
    inner = mask & ~ndimage.binary_erosion(mask, iterations=2)
    outer = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
    return abs(float(np.median(grey[inner])) - float(np.median(grey[outer])))


def test_masks_sit_exactly_on_what_they_mark(pictures):
    """Moved by two pixels in any direction, a mask fits its image worse; put elsewhere, far worse."""
    for key, drawn in pictures.items():
        steps = {
            shift: np.mean([step_across(image, np.roll(mask, shift, (0, 1))) for image, mask in drawn])
            for shift in ((0, 0), (2, 2), (2, -2), (-2, 2), (-2, -2), (17, 11), (-13, 19))
        }
        here = steps.pop((0, 0))
        assert here > 1.3 * (steps[17, 11] + steps[-13, 19]) / 2, (key, here, steps)
        assert here > max(steps[near] for near in ((2, 2), (2, -2), (-2, 2), (-2, -2))), (key, here, steps)


def test_domains_of_a_modality_differ_measurably(pictures):
    """Between any two domains, mean colour or contrast differs by more than the standard error can explain."""
    for modality in phantoms.modalities():
        features = {}
        for domain in phantoms.domains(modality):
            images = [image if image.ndim == 3 else image[..., None] for image, _ in pictures[modality, domain]]
            features[domain] = np.array(
                [[*image.reshape(-1, image.shape[2]).mean(0), image.mean(2).std()] for image in images]
            )
        names = list(features)
        for position, one in enumerate(names):
            for other in names[position + 1 :]:
                a, b = features[one], features[other]
                error = np.sqrt((a.var(0, ddof=1) + b.var(0, ddof=1)) / len(a)) + 0.5
                shift = np.abs(a.mean(0) - b.mean(0))
                assert (shift / error).max() > 4.0 and shift.max() > 6.0, (modality, one, other, shift)


# Means over six images of grey value and of mask, rounded: the figures that a change of the generator moves. Pixels
# themselves may differ in the last bit between versions of NumPy and SciPy, so no hash is kept here.
GOLDEN: dict[tuple[str, str], tuple[float, float]] = {
    ("dermoscopy", "clinic_a"): (142.8, 0.084),
    ("dermoscopy", "clinic_b"): (143.8, 0.040),
    ("dermoscopy", "clinic_c"): (121.6, 0.163),
    ("xray", "hospital_a"): (154.0, 0.318),
    ("xray", "hospital_b"): (211.0, 0.453),
    ("xray", "hospital_c"): (100.7, 0.198),
    ("ultrasound", "probe_a"): (131.8, 0.052),
    ("ultrasound", "probe_b"): (83.2, 0.034),
    ("ultrasound", "probe_c"): (134.3, 0.040),
    ("fundus", "camera_a"): (77.9, 0.118),
    ("fundus", "camera_b"): (50.9, 0.120),
    ("fundus", "camera_c"): (90.6, 0.132),
    ("microscopy", "stain_lab_a"): (174.5, 0.160),
    ("microscopy", "stain_lab_b"): (138.6, 0.133),
    ("microscopy", "fluorescence_c"): (28.8, 0.079),
    ("colonoscopy", "scope_a"): (124.8, 0.060),
    ("colonoscopy", "scope_b"): (87.9, 0.053),
    ("colonoscopy", "scope_c"): (103.2, 0.090),
}


def test_statistics_are_those_of_this_generator_version(pictures):
    assert phantoms.GENERATOR_VERSION == 1, "a new version needs new figures here"
    assert set(GOLDEN) == set(ALL)
    for key, drawn in pictures.items():
        grey = np.mean([image.mean() for image, _ in drawn])
        foreground = np.mean([mask.mean() for _, mask in drawn])
        assert grey == pytest.approx(GOLDEN[key][0], abs=0.3), key
        assert foreground == pytest.approx(GOLDEN[key][1], abs=0.002), key


def test_anatomy_keeps_its_proportions_at_another_size(pictures):
    for modality in phantoms.modalities():
        domains = phantoms.domains(modality)
        large = np.mean([mask.mean() for domain in domains for _, mask in pictures[modality, domain]])
        small = np.mean(
            [phantoms.draw_phantom(modality, name, index, 48)[1].mean() for name in domains for index in range(6)]
        )
        assert 0.5 < small / large < 2.0, (modality, small, large)


def test_the_manifest_tells_the_truth(written: Path):
    rows = rows_of(written)
    assert len(rows) == len(ALL) * 3
    assert list(rows[0]) == [*["modality", "domain", "id", "image", "mask", "width", "height", "foreground_fraction"],
                             "sha256_image", "sha256_mask", "subject"]  # fmt: skip
    for row in rows:
        image, mask = Image.open(written / row["image"]), np.asarray(Image.open(written / row["mask"]))
        assert image.format == "PNG" and image.mode in ("RGB", "L")
        assert image.size == (int(row["width"]), int(row["height"])) == (mask.shape[1], mask.shape[0])
        assert set(np.unique(mask)) == {0, 255}
        assert float(row["foreground_fraction"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
        for part in ("image", "mask"):
            assert hashlib.sha256((written / row[part]).read_bytes()).hexdigest() == row[f"sha256_{part}"]
    sizes = {(row["width"], row["height"]) for row in rows}
    assert len(sizes) > 1, "native sizes vary"


def test_the_dataset_reader_accepts_the_folder(written: Path):
    dataset = Dataset.open(written)
    assert len(dataset.samples) == len(ALL) * 3
    assert dataset.modalities() == phantoms.modalities()
    for modality in phantoms.modalities():
        assert sorted(dataset.domains(modality)) == sorted(phantoms.domains(modality))


def test_subjects_group_images_where_they_are_known(written: Path):
    for modality, domain in ALL:
        subjects = [
            row["subject"] for row in rows_of(written) if (row["modality"], row["domain"]) == (modality, domain)
        ]
        per_subject = phantoms.domains(modality)[domain].images_per_subject
        if per_subject is None:
            assert subjects == ["", "", ""]
        else:
            assert per_subject == 2 and subjects[0] == subjects[1] != subjects[2]
    groups = {phantoms.domains(modality)[domain].images_per_subject for modality, domain in ALL}
    assert groups == {None, 2}


def test_images_of_a_subject_share_its_traits():
    """Skin tone varies less between two images of a subject than between subjects."""
    means = np.array([phantoms.draw_phantom("dermoscopy", "clinic_c", index, 64)[0].mean() for index in range(40)])
    pairs = means.reshape(20, 2)
    assert pairs.std(1).mean() < 0.75 * means.std()


def test_a_finished_folder_is_kept_and_a_damaged_one_drawn_again(tmp_path: Path):
    arguments = {"images_per_domain": 1, "image_size": 32, "modalities": ["xray"]}
    root = tmp_path / "root"
    phantoms.write_phantoms(root, **arguments)
    before, files = content(root), {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    phantoms.write_phantoms(root, **arguments)
    assert files == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    next(root.rglob("masks/*.png")).unlink()
    phantoms.write_phantoms(root, **arguments)
    assert content(root) == before


def test_other_arguments_replace_phantoms(tmp_path: Path):
    phantoms.write_phantoms(tmp_path / "root", images_per_domain=1, image_size=32, modalities=["xray"])
    phantoms.write_phantoms(tmp_path / "root", images_per_domain=2, image_size=32, modalities=["fundus"])
    assert {row["modality"] for row in rows_of(tmp_path / "root")} == {"fundus"}
    assert json.loads((tmp_path / "root" / "phantoms.json").read_text())["images_per_domain"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.csv", "dermoscopy"])
def test_other_peoples_files_are_never_replaced(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="Choose another folder"):
        phantoms.write_phantoms(tmp_path, images_per_domain=1, image_size=32)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure):
    drawn = []

    def stop_at_third(*arguments: object) -> object:
        drawn.append(arguments)
        if len(drawn) == 3:
            raise failure
        return original(*arguments)

    original = phantoms.draw_phantom
    monkeypatch.setattr(phantoms, "draw_phantom", stop_at_third)
    with pytest.raises(failure):
        phantoms.write_phantoms(tmp_path / "root", images_per_domain=2, image_size=32)
    assert len(drawn) == 3
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_keeps_the_old_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "root"
    phantoms.write_phantoms(root, images_per_domain=1, image_size=32, modalities=["xray"])
    before = content(root)
    monkeypatch.setattr(phantoms, "draw_phantom", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        phantoms.write_phantoms(root, images_per_domain=2, image_size=32)
    assert content(root) == before


def test_phantoms_that_another_process_wrote_meanwhile_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "root"
    arguments = {"images_per_domain": 1, "image_size": 32, "modalities": ["xray"]}
    original = phantoms._write_all

    def overtaken(folder: Path, wanted: dict) -> None:
        original(folder, wanted)
        monkeypatch.setattr(phantoms, "_write_all", original)
        phantoms.write_phantoms(root, **arguments)
        inodes.append(root.stat().st_ino)

    inodes: list[int] = []
    monkeypatch.setattr(phantoms, "_write_all", overtaken)
    phantoms.write_phantoms(root, **arguments)
    assert inodes == [root.stat().st_ino]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"modalities": ["dermoscpy"]}, "Did you mean 'dermoscopy'"),
        ({"modalities": []}, "at least one modality"),
        ({"images_per_domain": 0}, "images_per_domain"),
        ({"image_size": 16}, "image_size"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: dict, words: str):
    with pytest.raises(UserError, match=words):
        phantoms.write_phantoms(tmp_path / "root", **{"images_per_domain": 1, "image_size": 32, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_domain_is_named():
    with pytest.raises(UserError, match="Did you mean 'clinic_a'"):
        phantoms.draw_phantom("dermoscopy", "clinica", 0, 32)
    with pytest.raises(UserError, match="Did you mean 'fundus'"):
        phantoms.domains("fundos")


def test_noise_is_standardised_and_has_the_wavelength_it_is_asked_for():
    board = canvas.Canvas(128, 96, 0.5)
    rng = canvas.generator("noise")
    for field in (optics.fractal_noise(rng, board, 30.0), optics.band_noise(rng, board, 16.0, 0.2)):
        assert field.shape == (128, 96) and field.dtype == np.float32
        assert abs(field.mean()) < 1e-3 and field.std() == pytest.approx(1.0, abs=1e-3)
    power = np.abs(np.fft.rfft2(optics.band_noise(rng, board, 16.0, 0.2))) ** 2
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(96)[None]) * board.scale
    assert (power * frequency).sum() / power.sum() == pytest.approx(1 / 16.0, rel=0.1)


def test_tubes_measure_the_distance_to_their_surface():
    board = canvas.Canvas(65, 65, 2.0)
    line = shapes.bezier([(0.0, -8.0), (0.0, 0.0), (0.0, 8.0)], 0.2)
    distance = shapes.tubes(board, line, np.full(len(line), 1.5, np.float32), reach=3.0)
    y, x = np.broadcast_arrays(board.y, board.x)
    exact = np.hypot(y, np.maximum(np.abs(x) - 8.0, 0.0)) - 1.5
    near = np.abs(exact) < 1.0
    assert near.sum() > 100 and np.abs(distance - exact)[near].max() < 0.02
    assert np.all(distance[exact > 3.1] == 3.0) and np.all(distance[exact < -1.0] < -0.9)


def test_an_outline_cut_by_the_border_is_the_same_as_on_a_larger_canvas():
    centres, radii = np.array([[5.0, -70.0], [-20.0, 30.0], [60.0, 75.0]]), np.array([12.0, 8.0, 15.0])
    small = shapes.spots(canvas.generator("spot"), canvas.Canvas(64, 80, 0.5), centres, radii, 0.2)
    large = shapes.spots(canvas.generator("spot"), canvas.Canvas(128, 160, 0.5), centres, radii, 0.2)
    assert (small < 1.0).any() and np.array_equal(small < 1.0, large[32:96, 40:120] < 1.0)
    assert (large < 1.0).sum() == pytest.approx(np.pi * (radii**2).sum() * 0.25, rel=0.25)

"""The whole examination: faults make it fail, copies are found, nothing is changed."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.dataset import Dataset
from harness.data.folder.sample import Problem
from harness.data.reading import read_image
from harness.data.validation.duplicates import NEAR, fingerprints
from harness.data.validation.integrity import Report, verify
from harness.errors import UserError


@pytest.fixture
def root(small_dataset: Path) -> Path:
    """Without a manifest, so that files can be added and changed freely."""
    (small_dataset / "manifest.csv").unlink()
    return small_dataset


def copy_pair(root: Path, source: str, target: str) -> None:
    """`source` and `target` are keys."""
    for part in ("images", "masks"):
        paths = [root / key.rpartition("/")[0] / part / f"{key.rpartition('/')[2]}.png" for key in (source, target)]
        shutil.copy(*paths)


def kinds(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.kind for problem in problems]


def detailed(seed: int, height: int = 300, width: int = 400) -> Image.Image:
    """A picture with structure at several scales, as photographs have."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for scale in (4, 8, 16, 32):
        coarse = Image.fromarray(random.integers(0, 256, (scale, scale, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=float) / scale
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


class TestVerify:
    def test_sound(self, small_dataset: Path) -> None:
        report = verify(small_dataset)
        assert report.ok and report.pairs == 24 and report.problems == () and report.warnings == ()
        assert "24 pairs checked" in report.text() and "the dataset is sound" in report.text()

    def test_its_verdict_serves_opening(self, small_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        verify(small_dataset)
        monkeypatch.setattr("harness.data.dataset.examine_pairs", lambda *_: pytest.fail("checked again"))
        assert len(Dataset.open(small_dataset).samples) == 24

    def test_without_manifest_nothing_is_written(self, root: Path) -> None:
        assert verify(root).ok
        assert sorted(path.name for path in root.iterdir()) == ["dermoscopy", "ultrasound"]

    def test_old_verdicts_count_for_nothing(self, small_dataset: Path) -> None:
        """Bits rot without a trace in size and time: only reading everything shows it."""
        Dataset.open(small_dataset)
        image = small_dataset / "ultrasound/scanner_c/images/case_1.png"
        status, content = image.stat(), bytearray(image.read_bytes())
        content[-1] ^= 1
        image.write_bytes(content)
        os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
        Dataset.open(small_dataset)
        report = verify(small_dataset)
        assert not report.ok
        assert report.problems[0].file == "ultrasound/scanner_c/images/case_1.png"

    def test_every_kind_of_fault_at_once(self, small_dataset: Path) -> None:
        root = small_dataset
        (root / "dermoscopy/clinic_a/images/case_0.png").unlink()
        (root / "dermoscopy/clinic_a/images/case_1.png").write_bytes(b"GIF")
        Image.fromarray(np.full((5, 5), 9, np.uint8)).save(root / "dermoscopy/clinic_b/masks/case_0.png")
        Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "dermoscopy/clinic_b/masks/case_1.png")
        mask = np.array(Image.open(root / "dermoscopy/clinic_c/masks/case_0.png"))
        Image.fromarray(255 - mask).save(root / "dermoscopy/clinic_c/masks/case_0.png")
        shutil.copy(root / "ultrasound/scanner_a/images/case_0.png", root / "ultrasound/scanner_a/images/new.png")
        report = verify(root)
        assert {problem.kind: problem.file for problem in report.problems} == {
            "missing file": "dermoscopy/clinic_a/images/case_0.png",
            "unreadable image": "dermoscopy/clinic_a/images/case_1.png",
            "unusable mask": "dermoscopy/clinic_b/masks/case_0.png",
            "sizes differ": "dermoscopy/clinic_b/masks/case_1.png",
            "hash differs": "dermoscopy/clinic_c/masks/case_0.png",
            "orphan file": "ultrasound/scanner_a/images/new.png",
        }
        assert len(report.problems) == 6 and not report.ok
        assert not (root / ".verified.json").exists()

    def test_unpaired_files(self, root: Path) -> None:
        (root / "dermoscopy/clinic_a/images/case_0.png").unlink()
        (root / "dermoscopy/clinic_a/masks/case_1.png").unlink()
        assert kinds(verify(root).problems) == ["mask without image", "image without mask"]

    def test_empty_masks_are_pointed_out(self, root: Path) -> None:
        mask = root / "ultrasound/scanner_a/masks/case_0.png"
        Image.fromarray(np.zeros_like(np.array(Image.open(mask)))).save(mask)
        report = verify(root)
        assert report.ok
        assert [(w.kind, w.file) for w in report.warnings] == [("empty mask", "ultrasound/scanner_a/masks/case_0.png")]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"expected manifest\.csv, or folders"):
            verify(tmp_path)

    def test_half_canonical(self, root: Path) -> None:
        """What lies beside sound domains and would be passed over in silence."""
        shutil.copytree(root / "ultrasound/scanner_a", root / "xray")
        (root / "fundus/drive/images").mkdir(parents=True)
        (root / "fundus/drive/masks").mkdir()
        report = verify(root)
        assert [(p.kind, p.file) for p in report.problems] == [
            ("no domain", "xray/images"), ("no domain", "xray/masks"), ("empty domain", "fundus/drive"),
        ]  # fmt: skip
        assert "Move it to xray/<domain>/images." in report.text()


class TestCopies:
    def test_across_domains_is_a_problem(self, root: Path) -> None:
        copy_pair(root, "dermoscopy/clinic_a/case_0", "dermoscopy/clinic_c/stolen")
        report = verify(root)
        assert kinds(report.problems) == ["copy across domains"]
        assert report.problems[0].file == "dermoscopy/clinic_c/images/stolen.png"
        assert "dermoscopy/clinic_a/images/case_0.png" in report.problems[0].message
        assert report.warnings == ()

    def test_in_another_container(self, root: Path) -> None:
        """Other bytes, the same pixels."""
        copy_pair(root, "dermoscopy/clinic_a/case_0", "dermoscopy/clinic_c/stolen")
        path = root / "dermoscopy/clinic_c/images/stolen.png"
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
        assert kinds(verify(root).problems) == ["copy across domains"]

    @pytest.mark.parametrize("target", ["dermoscopy/clinic_a/again", "ultrasound/scanner_a/again"])
    def test_elsewhere_is_a_warning(self, root: Path, target: str) -> None:
        copy_pair(root, "dermoscopy/clinic_a/case_0", target)
        report = verify(root)
        assert report.ok
        assert kinds(report.warnings) == ["copy"]

    def test_near_copies(self, root: Path) -> None:
        for part, name in (("images", "original"), ("masks", "original")):
            mask = Image.fromarray(np.zeros((300, 400), np.uint8))
            mask.paste(255, (10, 10, 30, 30))
            (detailed(1) if part == "images" else mask).save(root / f"dermoscopy/clinic_a/{part}/{name}.png")
        copy_pair(root, "dermoscopy/clinic_a/original", "dermoscopy/clinic_b/recompressed")
        recompressed = root / "dermoscopy/clinic_b/images/recompressed.png"
        Image.open(recompressed).save(recompressed.with_suffix(".jpg"), quality=70)
        recompressed.unlink()
        report = verify(root)
        assert report.ok
        near = [warning for warning in report.warnings if warning.kind == "near copy"]
        assert len(near) == 1
        assert near[0].file == "dermoscopy/clinic_b/images/recompressed.jpg"
        assert "dermoscopy/clinic_a/images/original.png" in near[0].message

    def put(self, root: Path, key: str, image: Image.Image) -> None:
        """Adds a pair; the mask is some rectangle."""
        folder, _, name = key.rpartition("/")
        mask = Image.new("L", image.size)
        mask.paste(255, (10, 10, 30, 30))
        image.save(root / folder / "images" / f"{name}.png")
        mask.save(root / folder / "masks" / f"{name}.png")

    def test_repeats_in_a_domain(self, root: Path, tmp_path: Path) -> None:
        for number in range(3):
            self.put(root, f"ultrasound/scanner_a/frame{number}", detailed(number // 2))
        self.put(root, "ultrasound/scanner_a/frame1", _recompressed(detailed(0), 60))
        report = verify(root, pictures=tmp_path / "pictures")
        (found,) = [warning for warning in report.warnings if warning.kind == "near copies in a domain"]
        assert found.file == "ultrasound/scanner_a" and found.message.startswith("1 picture is nearly the same")
        assert found.images == tuple(f"ultrasound/scanner_a/images/frame{n}.png" for n in (1, 0))
        both = np.asarray(Image.open(report.pictures[found.images[0]]))
        assert (
            both.shape == (256, 2 * 256 + 4, 3) and np.abs(both[:192, :256].astype(int) - both[:192, 260:]).mean() < 10
        )

    def test_a_subject_keeps_repeats_together(self, root: Path) -> None:
        for number in range(2):
            self.put(root, f"ultrasound/scanner_a/frame{number}", _recompressed(detailed(0), 60 + 20 * number))
        Dataset.open(root)
        path = root / "manifest.csv"
        rows = list(csv.DictReader(path.open(newline="")))
        for row in rows:
            row["subject"] = "P1" if row["id"].startswith("frame") else ""
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        assert "near copies in a domain" not in kinds(verify(root).warnings)

    def test_detail_tells_copies_from_pictures_of_one_kind(self, root: Path) -> None:
        """Two round frames on black with the same shading: their hashes agree, what is in them does not."""
        y, x = np.ogrid[:300, :300]
        inside = (y - 150) ** 2 + (x - 150) ** 2 < 140**2
        shading = (120 + 0.3 * (x + y) / 2)[..., None] * inside[..., None]
        for number in range(2):
            noise = np.asarray(
                Image.fromarray(np.random.default_rng(number).integers(0, 24, (150, 150), dtype=np.uint8))
            )
            fine = np.kron(noise, np.ones((2, 2)))[..., None] * inside[..., None]
            picture = np.repeat(np.clip(shading + fine, 0, 255), 3, axis=2).astype(np.uint8)
            self.put(root, f"ultrasound/scanner_{'ab'[number]}/eye", Image.fromarray(picture))
        looks = [fingerprints(read_image(root / f"ultrasound/scanner_{s}/images/eye.png")).look for s in "ab"]
        assert (looks[0] != looks[1]).sum() <= NEAR  # the hash alone is wrong
        (found,) = [warning for warning in verify(root).warnings if warning.kind == "near copy"]
        assert "detail does not" in found.message

    @pytest.mark.parametrize("change", ["jpeg", "smaller", "brighter", "grey"])
    def test_perceptual_hash(self, change: str) -> None:
        distances = []
        for seed in range(10):
            original = detailed(seed)
            changed = {
                "jpeg": lambda image: _recompressed(image, 50),
                "smaller": lambda image: image.resize((200, 150)),
                "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.15))),
                "grey": lambda image: image.convert("L").convert("RGB"),
            }[change](original)
            looks = [fingerprints(np.asarray(image)).look for image in (original, changed, detailed(seed + 100))]
            distances.append(((looks[0] != looks[1]).sum(), (looks[0] != looks[2]).sum()))
        assert max(near for near, _ in distances) <= NEAR < min(far for _, far in distances)


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content)


class TestNotes:
    def test_one_domain_and_unknown_modality(self, root: Path) -> None:
        (root / "dermoscopy").rename(root / "mri")
        for domain in ("scanner_b", "scanner_c"):
            shutil.rmtree(root / "ultrasound" / domain)
        report = verify(root)
        assert report.ok
        assert report.notes[0] == "ultrasound has one domain: leave_one_domain_out needs two."
        assert report.notes[1].startswith("mri is none of the six known modalities (dermoscopy, ")
        assert "methods that use the modality number give it a number of its own" in report.notes[1]
        assert "Did you mean" not in report.notes[1]
        assert all(f"Note: {note}" in report.text() for note in report.notes)
        assert report.as_dict()["notes"] == list(report.notes)

    def test_several(self, root: Path) -> None:
        for modality, name in (("dermoscopy", "dermscopy"), ("ultrasound", "ct")):
            (root / modality).rename(root / name)
            for domain in sorted((root / name).iterdir())[1:]:
                shutil.rmtree(domain)
        one, unknown = verify(root).notes
        assert one == "ct, dermscopy have one domain each: leave_one_domain_out needs two."
        assert (
            unknown.startswith("ct, dermscopy are none of the six")
            and "dermscopy: Did you mean 'dermoscopy'?" in unknown
        )

    def test_none_without_need(self, root: Path) -> None:
        assert verify(root).notes == () and "Note" not in verify(root).text()


def test_jpeg_masks_are_one_cause(root: Path) -> None:
    masks = sorted(root.glob("dermoscopy/*/masks/*.png"))
    for number, mask in enumerate(masks):  # half of them as colour JPEGs
        Image.open(mask).convert("RGB" if number % 2 else "L").save(mask.with_suffix(".jpg"), quality=5)
        mask.unlink()
    Image.fromarray(np.full((5, 5), 9, np.uint8)).save(root / "ultrasound/scanner_a/masks/case_0.png")
    report = verify(root)
    assert kinds(report.problems) == ["lossy mask"] * 12 + ["unusable mask"]
    text = report.text()
    assert text.count("12 x lossy mask: dermoscopy/clinic_a/masks/case_0.jpg: expected a binary mask") == 1
    also = "Also: dermoscopy/clinic_a/masks/case_1.jpg, dermoscopy/clinic_a/masks/case_2.jpg and 9 more."
    assert also in text and len(text.splitlines()) == 5


def test_images_that_are_masks(root: Path) -> None:
    folder = root / "ultrasound/scanner_a"
    (folder / "images/case_0.png").rename(folder / "swap.png")
    shutil.copy(folder / "masks/case_0.png", folder / "images/case_0.png")
    (folder / "swap.png").unlink()
    assert "image like a mask" in kinds(verify(root).warnings)
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(folder / "images/case_1.png")  # black: not even two values
    assert kinds(verify(root).warnings).count("image like a mask") == 1


def test_all_causes_at_once_stay_readable(tmp_path: Path) -> None:
    problems = tuple(Problem(f"cause {n % 14}", f"f{n}", "why") for n in range(1000))
    warnings = tuple(Problem(("copy", "near copy", "empty mask")[n % 3], f"f{n}", "why") for n in range(99))
    lines = Report(tmp_path, 500, problems, warnings, 1.0, ("one", "two")).text().splitlines()
    assert len(lines) <= 22
    assert all(sum(f" cause {n}:" in line for line in lines) == 1 for n in range(14))


def test_long_reports_are_cut_for_people_and_whole_for_programs(tmp_path: Path) -> None:
    problems = tuple(Problem("orphan file", f"f{number}", "why") for number in range(500))
    report = Report(tmp_path, 500, problems, (), 1.0)
    assert len(report.text().splitlines()) < 25 and "500 x orphan file" in report.text()
    assert len(report.as_dict()["problems"]) == 500


@pytest.mark.real
def test_real_images_have_no_copies(real_data: Path, tmp_path: Path) -> None:
    """A fourth of each domain's images, linked: the perceptual threshold must not cry wolf on pictures known to differ."""
    with (real_data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::4]:
        for name in ("image", "mask"):
            (tmp_path / "part" / row[name]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "part" / row[name]).symlink_to(real_data / row[name])
    report = verify(tmp_path / "part")
    assert report.ok, report.text()
    assert [warning for warning in report.warnings if warning.kind == "near copy"] == []
    sample = Dataset.open(real_data, verify=False).samples[0]
    assert read_image(sample.image).shape == (sample.height, sample.width, 3)

"""Preparing: goes on after a stop, keeps other domains, says what was not taken."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.data.dataset import Dataset
from harness.data.sources import prepare
from harness.data.sources import recipe as recipe_file
from harness.data.sources.public import prepare_public
from harness.data.sources.recipe import Layout, Recipe, Subjects, compile_pattern, read_recipe, recipe
from harness.errors import UserError

RANDOM = np.random.default_rng(3)
MONTGOMERY = recipe("montgomery")


def download(folder: Path, numbers: range, size: int = 32) -> Path:
    """A folder as MontgomerySet is."""
    for n in numbers:
        name = f"MCUCXR_{n:04d}_0.png"
        for part in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
            values = RANDOM.integers(0, 255, (size, size), dtype=np.uint8)
            if part != "CXR_png":
                values = np.zeros((size, size), np.uint8)
                values[3:9, 3:9] = 255
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / part / name)
    return folder


def state_of(root: Path) -> dict[str, bytes]:
    """All that a reader of the folder sees; the journal's order is that of threads."""
    files = (
        path for path in root.rglob("*") if path.is_file() and path.name not in (".prepared.jsonl", ".verified.json")
    )
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


class TestAgain:
    def test_nothing_is_done_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, root = download(tmp_path / "in", range(5)), tmp_path / "root"
        assert len(prepare_public(MONTGOMERY, [source], root).outcome.taken) == 5
        before = state_of(root)
        monkeypatch.setattr(prepare, "converted", lambda *_: pytest.fail("converted again"))
        outcome = prepare_public(MONTGOMERY, [source], root).outcome
        assert (len(outcome.kept), outcome.taken) == (5, [])
        assert state_of(root) == before

    def test_a_second_part_adds_to_the_first(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        prepare_public(MONTGOMERY, [download(tmp_path / "part1", range(3))], root)
        outcome = prepare_public(MONTGOMERY, [download(tmp_path / "part2", range(3, 5))], root).outcome
        assert (len(outcome.taken), len(outcome.kept)) == (2, 3)
        assert len(Dataset.open(root).samples) == 5

    def test_a_changed_file_is_taken_anew(self, tmp_path: Path) -> None:
        source, root = download(tmp_path / "in", range(3)), tmp_path / "root"
        prepare_public(MONTGOMERY, [source], root)
        download(source, range(1, 2))
        outcome = prepare_public(MONTGOMERY, [source], root).outcome
        assert (len(outcome.taken), len(outcome.kept)) == (1, 2)
        Dataset.open(root)

    def test_an_image_in_another_container_leaves_no_copy(self, tmp_path: Path) -> None:
        values = np.full((16, 16), 90, np.uint8)
        for suffix in (".jpg", ".png"):
            Image.fromarray(values).save(tmp_path / f"a{suffix}")
        Image.fromarray(values // 90 * 255).save(tmp_path / "a_mask.png")
        for suffix in (".jpg", ".png"):
            layout = Layout(image=f"{{id}}{suffix}", masks=("{id}_mask.png",))
            prepare_public(
                replace(MONTGOMERY, layouts=(layout,)),
                [tmp_path / f"a{suffix}", tmp_path / "a_mask.png"],
                tmp_path / "root",
            )
        images = tmp_path / "root/xray/montgomery/images"
        assert [path.name for path in images.iterdir()] == ["a.png"]

    def test_a_table_of_subjects_that_comes_later_counts_and_stays(self, tmp_path: Path) -> None:
        table = tmp_path / "patients.csv"
        table.write_text("id,patient\nMCUCXR_0000_0,P7\n")
        with_table = replace(MONTGOMERY, subjects=Subjects("patients.csv", "id", "patient"))
        with_table = replace(with_table, layouts=tuple(replace(one, subject="") for one in with_table.layouts))
        source, root = download(tmp_path / "in", range(2)), tmp_path / "root"
        for sources in ([source], [source, table], [source]):
            outcome = prepare_public(with_table, sources, root).outcome
            assert len(outcome.pairs) == 2
        assert len(outcome.kept) == 2
        assert [sample.subject for sample in Dataset.open(root).samples] == ["P7", None]

    def test_killed_at_any_moment_ends_with_the_same_bytes(self, tmp_path: Path) -> None:
        source = download(tmp_path / "in", range(60), size=256)
        prepare_public(MONTGOMERY, [source], tmp_path / "whole")
        root = tmp_path / "root"
        begun = 0
        for seconds in (0.05, 0.1, 0.2, 0.3):
            process = multiprocessing.get_context("fork").Process(
                target=prepare_public, args=(MONTGOMERY, [source], root)
            )
            process.start()
            time.sleep(seconds)
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
                begun += 1
            process.join()
        assert begun
        prepare_public(MONTGOMERY, [source], root)
        assert state_of(root) == state_of(tmp_path / "whole")
        assert not list(tmp_path.rglob(".unpacked*")) and not (root / ".prepare").exists()

    @pytest.mark.parametrize("left", [b"", b'{"id": "M\xc3'], ids=["nothing", "half a line, cut within a letter"])
    def test_killed_before_the_first_line_of_the_journal_was_whole(self, tmp_path: Path, left: bytes) -> None:
        source, root = download(tmp_path / "in", range(3)), tmp_path / "root"
        prepare_public(MONTGOMERY, [source], root)
        before = state_of(root)
        (root / "xray/montgomery" / prepare.JOURNAL).write_bytes(left)
        outcomes = [prepare_public(MONTGOMERY, [source], root).outcome for _ in range(2)]
        assert [(len(one.taken), len(one.kept)) for one in outcomes] == [(3, 0), (0, 3)]
        assert state_of(root) == before


class TestFolder:
    def test_other_domains_keep_their_rows(self, small_dataset: Path, tmp_path: Path) -> None:
        before = (small_dataset / "manifest.csv").read_text().splitlines()
        prepare_public(MONTGOMERY, [download(tmp_path / "in", range(3))], small_dataset)
        dataset = Dataset.open(small_dataset)
        assert len(dataset.samples) == len(before) - 1 + 3
        assert {s.subject for s in dataset.samples if s.domain == "montgomery"} == {
            f"MCUCXR_{n:04d}_0" for n in range(3)
        }

    @pytest.mark.parametrize(
        "own",
        [
            lambda text: text.replace("modality,domain,id", "Modality,DOMAIN,Id"),
            lambda text: text.replace(",", ";").replace(";0.", ";0,"),
            lambda text: "\n".join(
                f"{line},{name}" for line, name in zip(text.splitlines(), ["Patient ID", *"abcdefgh"], strict=False)
            ),
        ],
    )
    def test_a_manifest_of_ones_own_means_the_same_afterwards(
        self, small_dataset: Path, tmp_path: Path, own: Callable[[str], str]
    ) -> None:
        path = small_dataset / "manifest.csv"
        path.write_text(own(path.read_text()))
        before = Dataset.open(small_dataset).samples
        prepare_public(MONTGOMERY, [download(tmp_path / "in", range(2))], small_dataset)
        assert [one for one in Dataset.open(small_dataset).samples if one.domain != "montgomery"] == list(before)

    @pytest.mark.parametrize(
        ("own", "said"),
        [
            (lambda text: text.replace("case_0", "caf\xe9", 1).encode("latin-1"), "Save it again in UTF-8"),
            (lambda text: text.encode() + b"xray,a\n", "expected as many values as there are columns"),
            (lambda text: text.replace("\n", ",1,2\n").replace("1,2", "note,note", 1).encode(), "found note twice"),
            (lambda text: b"", "expected at least the columns"),
        ],
    )
    def test_a_manifest_that_can_not_be_read_is_refused_before_any_work(
        self, small_dataset: Path, tmp_path: Path, own: Callable[[str], bytes], said: str
    ) -> None:
        path = small_dataset / "manifest.csv"
        path.write_bytes(own(path.read_text()))
        before = state_of(small_dataset)
        with pytest.raises(UserError, match=said):
            prepare_public(MONTGOMERY, [download(tmp_path / "in", range(2))], small_dataset)
        assert {name: data for name, data in state_of(small_dataset).items() if ".lock" not in name} == before

    def test_other_domains_without_a_manifest(self, small_dataset: Path, tmp_path: Path) -> None:
        count = len(Dataset.open(small_dataset).samples)
        (small_dataset / "manifest.csv").unlink()
        prepare_public(MONTGOMERY, [download(tmp_path / "in", range(3))], small_dataset)
        assert len(Dataset.open(small_dataset).samples) == count + 3

    def test_files_of_others_are_not_touched(self, tmp_path: Path) -> None:
        own = tmp_path / "root/xray/montgomery/images/mine.png"
        own.parent.mkdir(parents=True)
        own.write_bytes(b"mine")
        with pytest.raises(UserError, match="holds files that `data prepare` did not write"):
            prepare_public(MONTGOMERY, [download(tmp_path / "in", range(2))], tmp_path / "root")
        assert own.read_bytes() == b"mine"

    def test_two_at_once(self, tmp_path: Path) -> None:
        from filelock import FileLock

        (tmp_path / "root").mkdir()
        with FileLock(tmp_path / "root/.prepare.lock"), pytest.raises(UserError, match="another process prepares"):
            prepare_public(MONTGOMERY, [download(tmp_path / "in", range(2))], tmp_path / "root")

    def test_source_says_whose_it_is(self, tmp_path: Path) -> None:
        prepare_public(MONTGOMERY, [download(tmp_path / "in", range(2))], tmp_path / "root")
        about = yaml.safe_load((tmp_path / "root/xray/montgomery/SOURCE.yaml").read_text())
        assert about["licence"] == MONTGOMERY.licence and about["citation"] and about["pairs"] == 2


class TestWhatIsLeftOut:
    def test_damaged_files_are_named_and_the_others_taken(self, tmp_path: Path) -> None:
        source = download(tmp_path / "in", range(4))
        (source / "CXR_png/MCUCXR_0001_0.png").write_bytes(b"no picture")
        (source / "ManualMask/leftMask/MCUCXR_0002_0.png").write_bytes(b"\x89PNG cut")
        outcome = prepare_public(MONTGOMERY, [source], tmp_path / "root").outcome
        assert len(outcome.taken) == 2
        assert sorted(problem.file for problem in outcome.failed) == [f"CXR_png/MCUCXR_000{n}_0.png" for n in (1, 2)]
        assert not any(".prepare" in problem.message for problem in outcome.failed)
        assert len(Dataset.open(tmp_path / "root").samples) == 2

    def test_images_without_a_mask(self, tmp_path: Path) -> None:
        source = download(tmp_path / "in", range(3))
        (source / "ManualMask/rightMask/MCUCXR_0001_0.png").unlink()
        result = prepare_public(MONTGOMERY, [source], tmp_path / "root")
        assert [problem.file for problem in result.skipped] == ["CXR_png/MCUCXR_0001_0.png"]
        assert "rightMask" in result.skipped[0].message and not result.complete

    def test_sizes_that_differ(self, tmp_path: Path) -> None:
        source = download(tmp_path / "in", range(2))
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(source / "CXR_png/MCUCXR_0000_0.png")
        outcome = prepare_public(MONTGOMERY, [source], tmp_path / "root").outcome
        assert len(outcome.taken) == 1 and "16 x 16 pixels, its mask 32 x 32" in outcome.failed[0].message

    def test_nothing_fits(self, tmp_path: Path) -> None:
        (tmp_path / "in/pictures").mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "in/pictures/a.png")
        with pytest.raises(UserError, match=r"found no pair of Montgomery County in 1 files \(folders: pictures\)"):
            prepare_public(MONTGOMERY, [tmp_path / "in"], tmp_path / "root")
        assert not (tmp_path / "root").exists()


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"no dataset 'montgomry'\. Did you mean 'montgomery'"):
        recipe("montgomry")


def test_patterns() -> None:
    pattern = compile_pattern("images/{id:\\d{2}}_{eye}*.jpg")
    found = pattern.fullmatch("a/b/IMAGES/07_left (copy).JPG")
    assert found and found["id"] == "07" and found["eye"]
    assert not pattern.fullmatch("images/7_left.jpg") and not pattern.fullmatch("images/sub/07_left.jpg")
    assert not compile_pattern("mask.png").fullmatch("notmask.png")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("'> 127'", "above 127", r"layouts\[0\]\.foreground=above 127: expected nonzero, > 127.*, found 'above 127'\."),
        ("foreground: '> 127'", "fit: imgae", r"layouts\[0\]\.fit=imgae is unknown: .*Did you mean 'image'\?"),
        ("foreground: '> 127'", "masks_as: svg", r"layouts\[0\]\.masks_as=svg is unknown: expected one of .*aperio"),
        ("foreground:", "foregruond:", r"layouts\[0\]\.foregruond is unknown\. Did you mean 'foreground'\?"),
        ("pairs: 1000", "pairs: 0", r"pairs=0 is out of range: expected 1 or more\."),
        ("licence:", "license:", r"licence is missing: expected a text\."),
        ("traps:", "subjects: {table: a.csv}\ntraps:", r"subjects: expected table, key and column, or ranges\."),
        ("masks/{id:", "masks/{name:", r"layouts\[0\]: nothing joins"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (Path(recipe_file.__file__).parents[1] / "catalogue/kvasir_seg.yaml").read_text("utf-8")
    assert old in text
    (tmp_path / "mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=rf"(?s)mine\.yaml is no recipe.*{said}"):
        read_recipe(tmp_path / "mine.yaml")


def test_a_recipe_without_lines_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- a\n")
    with pytest.raises(UserError, match=r"mine\.yaml is no recipe.*expected one of its keys"):
        read_recipe(tmp_path / "mine.yaml")


def test_a_recipe_joins_by_something() -> None:
    assert isinstance(MONTGOMERY, Recipe) and MONTGOMERY.layouts[0].shared == ("id",)

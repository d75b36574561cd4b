"""Bad input at the command line: exit code 2, one clear message, no traceback, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.phantoms import write_phantoms

from .conftest import PLAIN, SMALL, Bench
from .forked import Forked

pytestmark = pytest.mark.e2e

SERIAL = ("executor=serial",)


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The command ended with 2 and said each of `parts`, without a traceback."""
    assert done.returncode == 2, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, f"'{part}' is not in:\n{done.stderr}"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A small folder in the canonical layout, without a manifest."""
    root = tmp_path / "images"
    write_phantoms(root, images_per_domain=2, image_size=64, modalities=["dermoscopy", "xray"])
    (root / "manifest.csv").unlink()
    (root / "phantoms.json").unlink(missing_ok=True)
    return root


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("rnu",), ("unknown command 'rnu'", "Did you mean 'run'")),
        (("run", "suite=domain_generalisation"), ("domain_generalisation", "Did you mean 'domain_generalization'")),
        (("run", "method=[unett]"), ("unett", "Did you mean 'unet'")),
        (("run", "data.rot=/x"), ("data.rot", "Did you mean 'data.root'")),
        (("run", "training.epochs=many"), ("training.epochs", "many")),
        (("run", "metrics.empty=diagnal"), ("metrics.empty", "Did you mean 'diagonal'")),
        (("run", "training=quik"), ("quik", "Did you mean 'quick'")),
        (("run", "data.root=/no/such/folder"), ("/no/such/folder",)),
        (("list", "metods"), ("metods", "Did you mean 'methods'")),
    ],
)
def test_wrong_words(bench: Bench, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused(bench(*words), *parts)


def test_empty_folder(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(bench("run", *SERIAL, "data.root=empty"), "empty")


def test_faulty_files_are_all_named(bench: Bench, dataset: Path) -> None:
    one, two, *_ = sorted((dataset / "xray").iterdir())
    lonely_image, lonely_mask = sorted((one / "images").iterdir())[0], sorted((one / "masks").iterdir())[1]
    (one / "masks" / lonely_image.name).unlink()
    (one / "images" / lonely_mask.name).unlink()
    grey, cut = sorted((two / "masks").iterdir())[0], sorted((two / "images").iterdir())[1]
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).resize(Image.open(grey).size).save(grey)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    refused(bench("run", *SERIAL, f"data.root={dataset}"), lonely_image.name, lonely_mask.name)
    shutil.rmtree(one)
    refused(bench("run", *SERIAL, f"data.root={dataset}"), grey.name, cut.name)


def test_one_domain_cannot_leave_one_out(bench: Bench, dataset: Path) -> None:
    first, *others = sorted((dataset / "dermoscopy").iterdir())
    for domain in others:
        shutil.rmtree(domain)
    refused(bench("run", *SERIAL, f"data.root={dataset}"), "dermoscopy", first.name)


def test_copied_image_is_a_leak(bench: Bench, dataset: Path) -> None:
    first, second, *_ = sorted((dataset / "dermoscopy").iterdir())
    source, target = sorted((first / "images").iterdir())[0], sorted((second / "images").iterdir())[0]
    mask, target_mask = first / "masks" / source.name, second / "masks" / target.name
    shutil.copy(source, target)
    shutil.copy(mask, target_mask)
    refused(bench("run", *SERIAL, f"data.root={dataset}"), source.name, target.name)


def test_two_runs_at_once(tmp_path: Path, shared_cache: Path, bench: Bench) -> None:
    words = ("run", *SMALL, "executor=serial", "training.epochs=200", f"data.cache={shared_cache}")
    first = Forked(words, tmp_path, **PLAIN)
    try:
        limit = time.monotonic() + 60
        while not (tmp_path / "runs" / "run.holder.json").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        refused(bench("run", *SMALL, "executor=serial"), "in use by process", str(first.pid), "store.root=")
    finally:
        first.kill()
        first.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting small file systems takes root")
@pytest.mark.parametrize("options", ["size=3m", "ro"])
def test_full_disk_and_read_only_store(options: str, bench: Bench, tmp_path: Path) -> None:
    target = tmp_path / "disk"
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        part = "read-only" if options == "ro" else "disk is full"
        refused(bench("run", *SMALL, "executor=serial", f"store.root={target / 'runs'}"), part, str(target))
        assert not list(target.rglob("*.tmp")), "temporary files were left behind"
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_failing_method_ends_with_1_and_the_others_go_on(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "broken_method.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Module):\n"
        "    def __init__(self, modalities):\n"
        "        super().__init__(); self.weight = torch.nn.Parameter(torch.zeros(1))\n"
        "    def predict(self, images, modality):\n"
        "        return images[:, :1] * self.weight\n"
        "    def training_loss(self, batch, step):\n"
        "        return self.weight.sum() * float('nan'), {}\n"
    )
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "broken.yaml").write_text(
        "# @package methods.broken\n"
        "card: {title: Broken, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none,"
        " pretrained_on: []}\n"
        "version: 1\n"
        "model: {_target_: broken_method.Broken}\n"
        "training: {}\n"
    )
    words = [word for word in SMALL if not word.lstrip("+").startswith("method")]
    done = bench("run", "--config-dir", "mine", *words, "method=[broken,mean_mask]", "protocol.max_folds=2", *SERIAL)
    assert done.returncode == 1, done.stderr
    assert "2 trials failed" in done.stderr and "loss became nan" in done.stderr
    assert len(list((tmp_path / "runs").glob("trials/*/result.json"))) == 2
    (html,) = (tmp_path / "runs").glob("suites/*/*/report/leaderboard.html")
    assert "loss became nan" in html.read_text("utf-8")

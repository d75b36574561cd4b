"""What tests of all packages share: small data, the real images where they are, one thread for torch."""

from __future__ import annotations

import os

# Before anything imports torch or numpy: tests that share a machine must not fight for its cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
# Ray reads its token from the home folder once in a process, and some tests have another home.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Where costs are measured by all cores: a thread that waits for one whose core is taken sleeps, and doesn't spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import contextlib
import gc
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.hardware import free_main_memory, usable_cores


def _memory_folder() -> str | None:
    """A new folder in memory, where that is plenty and the environment asks for no other place."""
    memory = Path("/dev/shm")
    free = shutil.disk_usage(memory).free if os.access(memory, os.W_OK) else 0
    if "TMPDIR" in os.environ or min(free / 4, free_main_memory() / 12) < 2**30:
        return None
    return tempfile.mkdtemp(prefix="tests-", dir=memory)


# Folders of tests lie there: on a disk, to write and delete them takes a fifth of all time.
FOLDER = _memory_folder()
if FOLDER is not None:
    os.environ["TMPDIR"] = tempfile.tempdir = FOLDER

DOMAINS = {"dermoscopy": ("clinic_a", "clinic_b", "clinic_c"), "ultrasound": ("scanner_a", "scanner_b", "scanner_c")}
IMAGES_PER_DOMAIN = 4

# A GPU machine without network may lack it, and no test marked `gpu` draws examples.
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import HealthCheck, settings

    # On a busy machine drawing an example may take long; that says nothing of what is tested.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, where memory allows: while a test waits, its core runs another.

    A process that runs tests grows to 3 GB, what it starts comes on top.
    """
    cores = usable_cores()
    return cores + (free_main_memory() > (cores + 1) * 4 * 2**30)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: begun last, one of them keeps a process busy when all others have ended."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


def pytest_collection_finish() -> None:
    """Takes libraries and tests out of the search for garbage, which is else a tenth of all time.

    Once: what a test holds at a later moment would be kept for good.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Gives the memory back; the folders of failed tests stay, as in any other place."""
    if FOLDER is not None and not list(Path(FOLDER).glob("pytest-of-*/pytest-*/*")):
        shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """Light encoders of 4 attention blocks in place of 10, for files whose tests show the same at any depth."""
    from support.depth import SHALLOW, depth

    with depth(SHALLOW):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images: `$DELIGHTSAM_REAL_DATA`, or `../shared/data/real` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
    root = Path(os.environ.get("DELIGHTSAM_REAL_DATA") or beside)
    if not (root / "manifest.csv").is_file():
        pytest.skip(f"no real images at {root}; set DELIGHTSAM_REAL_DATA")
    return root


@pytest.fixture
def extra_metric() -> Iterator[Any]:
    """The metric of `support.extra_metric`, registered for one test."""
    from harness.metrics import REGISTRY

    sys.modules.pop("support.extra_metric", None)
    yield importlib.import_module("support.extra_metric").METRIC
    REGISTRY.pop("volume_similarity", None)


@pytest.fixture
def small_dataset(shared_dataset: Path, tmp_path: Path) -> Path:
    """A fresh copy of a canonical dataset: 2 modalities x 3 domains x 4 pairs of 48 to 64 pixels, with a manifest."""
    # A verdict is valid only in the folder that was checked.
    without = shutil.ignore_patterns(".verified.json")
    return Path(shutil.copytree(shared_dataset, tmp_path / "small_dataset", ignore=without))


@pytest.fixture(scope="session")
def shared_dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `small_dataset` is a copy of, for what only reads it: copying it and checking the copy takes longer than many tests."""
    from harness.data.dataset import Dataset

    root = tmp_path_factory.mktemp("data") / "small_dataset"
    number = 0
    for modality, domains in DOMAINS.items():
        for domain_number, domain in enumerate(domains):
            for image_number in range(IMAGES_PER_DOMAIN):
                write_pair(root, modality, domain, f"case_{image_number}", number, domain_number)
                number += 1
    Dataset.open(root)  # writes the manifest
    before = _states(root.rglob("*.*"))
    yield root
    assert _states(root.rglob("*.*")) == before, _CHANGED


@pytest.fixture(autouse=True)
def _leaves_the_shared_dataset(request: pytest.FixtureRequest) -> Iterator[None]:
    """Names the test that changes its manifest; all is looked at when the last test has ended."""
    if "shared_dataset" not in request.fixturenames:
        yield
        return
    manifest = request.getfixturevalue("shared_dataset") / "manifest.csv"
    before = _states([manifest])
    yield
    assert _states([manifest]) == before, _CHANGED


_CHANGED = "a test changed `shared_dataset`; it needs `small_dataset`, a copy of its own"


def _states(paths: Iterable[Path]) -> set[tuple[Path, int, int]]:
    return {(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


def write_pair(root: Path, modality: str, domain: str, name: str, number: int, domain_number: int) -> None:
    """A dark ellipse on a lighter, noisy ground; each domain has its own light."""
    random = np.random.default_rng([7, number])
    height, width = (int(side) for side in random.integers(48, 65, 2))
    y, x = np.mgrid[:height, :width]
    centre_y, centre_x = height * random.uniform(0.35, 0.65), width * random.uniform(0.35, 0.65)
    radius_y, radius_x = height * random.uniform(0.15, 0.3), width * random.uniform(0.15, 0.3)
    mask = ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 <= 1
    ground = np.array([200.0, 160.0, 140.0]) if modality == "dermoscopy" else np.array([120.0, 120.0, 120.0])
    image = (
        np.where(mask[..., None], ground * 0.45, ground) - 25 * domain_number + random.normal(0, 8, (height, width, 1))
    )
    folder = root / modality / domain
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")

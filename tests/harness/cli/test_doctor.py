"""`doctor`: facts of faked machines, what follows from them, and that nothing makes it crash or hang."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.cli.doctor import checkup, facts
from harness.cli.doctor.checkup import Checkup, examine, is_pair

GIB = 2**30
WORKS = {"torch": "", "torchvision": "", "ray": "", "threads": 2, "cuda": None, "gpus": [], "gpu_bfloat16": False}


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything imports, without the seconds that importing takes."""
    monkeypatch.setattr(facts, "import_probe", lambda names: WORKS)
    monkeypatch.setattr(facts, "_version", {"torch": "2.9.1", "torchvision": "0.24.1", "ray": "2.52.0"}.get)
    monkeypatch.setattr(facts, "read_packages", lambda: facts.Packages((), {"networks": ("monai",), "sam": ()}))


@pytest.fixture
def fake_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Modules that stand before the installed ones in processes that are started from here."""

    def write(**sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / "fake" / name).mkdir(parents=True)
            (tmp_path / "fake" / name / "__init__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))

    return write


def state(found: Checkup, name: str) -> tuple[str, str, str]:
    (finding,) = [each for each in found.findings if each.name == name]
    return finding.state, finding.found, finding.advice


@pytest.mark.usefixtures("sound")
def test_a_sound_machine_is_ready_and_nothing_is_left_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"store.root={tmp_path / 'new' / 'runs'}"]) == 0
    shown = capsys.readouterr().out
    names = ("python", "packages", "torch", "ray", "device", "formats", "cores", "memory", "disk", "weights", "extras")
    for name in (*names, "browser", "network"):
        assert f" {name} " in shown
    assert "Ready: python -m harness run suite=domain_generalization" in shown
    assert "pip install '.[networks]'" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("sound")
def test_json_has_every_fact_and_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", f"store.root={tmp_path}"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["ready"] is True
    assert content["versions"]["torch"] == {"name": "torch", "version": "2.9.1", "fault": ""}
    assert content["disk"]["store"] == str(tmp_path)
    assert {finding["state"] for finding in content["findings"]} <= {"ok", "note", "problem"}
    assert all(finding["advice"] for finding in content["findings"])


@pytest.mark.parametrize(
    ("torch", "torchvision", "fits"),
    [
        ("2.9.1", "0.24.1", True),
        ("2.14.1+cpu", "0.29.1+cpu", True),
        ("2.9.1", "0.23.0", False),
        ("2.10.0", "0.24.1", False),
        ("2.9.0a0+git1", "0.24.0a0", True),
        ("nightly", "0.24.1", True),
    ],
)
def test_torch_and_torchvision_are_released_as_pairs(torch: str, torchvision: str, fits: bool) -> None:
    assert is_pair(torch, torchvision) is fits


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(
    ("versions", "probe", "name", "said"),
    [
        ({"torch": "2.9.1", "ray": "2.52.0"}, {}, "torch", "torchvision not installed"),
        ({"torch": "2.9.1", "torchvision": "0.22.0", "ray": "2.52.0"}, {}, "torch", "do not belong together"),
        (None, {"torchvision": "operator torchvision::nms does not exist"}, "torch", "import torchvision fails"),
        ({"torch": "2.9.1", "torchvision": "0.24.1"}, {}, "ray", "not installed"),
        (None, {"ray": "no module named _raylet"}, "ray", "import fails: no module named _raylet"),
    ],
)
def test_a_broken_library_is_a_problem_with_a_way_out(
    versions: dict[str, str] | None,
    probe: dict[str, str],
    name: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if versions is not None:
        monkeypatch.setattr(facts, "_version", versions.get)
    monkeypatch.setattr(facts, "import_probe", lambda names: WORKS | probe)
    kind, found, advice = state(examine(tmp_path), name)
    assert (kind, said in found) == ("problem", True)
    assert "pip install" in advice
    assert main(["doctor", f"store.root={tmp_path}"]) == 1
    assert f"Not ready yet: {name}." in capsys.readouterr().out


def test_imports_are_tried_in_a_process_of_their_own(fake_modules: Callable[..., None]) -> None:
    fake_modules(
        torch="raise ImportError('libcudart.so is missing\\nand more')",
        torchvision="import os; os._exit(3)",
        ray="import time; time.sleep(60)",
    )
    assert facts.import_probe(["torch"]) == {"torch": "libcudart.so is missing"}
    assert facts.import_probe(["torchvision"]) == {"torchvision": "the process that imported it ended with code 3"}
    assert facts.import_probe(["ray"], seconds=1.0) == {"ray": "importing it took more than 1 s"}


def test_a_gpu_and_its_formats_are_read(fake_modules: Callable[..., None]) -> None:
    fake_modules(
        torch="""
from types import SimpleNamespace as N
version = N(cuda="13.0")
get_num_threads = lambda: 4
device = N(name="Fast GPU", total_memory=80 * 2**30)
cuda = N(is_available=lambda: True, device_count=lambda: 1, get_device_properties=lambda number: device,
         is_bf16_supported=lambda including_emulation: not including_emulation)
"""
    )
    probe = facts.import_probe(["torch"])
    devices = facts.read_devices(probe)
    assert devices.gpus == (facts.Gpu("Fast GPU", 80 * GIB),)
    assert (devices.cuda, facts.read_cores(probe).torch_threads) == ("13.0", 4)
    formats = facts.read_number_formats(probe)
    assert "Fast GPU, 80 GiB" in checkup._device(devices).found
    assert checkup._formats(formats, devices).advice == "training.amp=auto trains in bfloat16 here."


@pytest.mark.parametrize(("cuda", "said"), [(None, "built for CPUs"), ("12.8", "finds no GPU")])
def test_a_gpu_that_torch_does_not_use_is_noted(cuda: str | None, said: str) -> None:
    finding = checkup._device(facts.Devices("CPU", (), cuda, driver=True))
    assert finding.state == "note"
    assert said in finding.found


def test_an_unsupported_python_is_a_problem() -> None:
    library = facts.Library("x", "1", "")
    for version, expected in (("3.10.4", "problem"), ("3.11.7", "ok"), ("3.13.0", "ok"), ("3.14.0", "problem")):
        assert checkup._python(facts.Versions("0", version, library, library, library)).state == expected


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "Read-only file system"), (errno.ENOSPC, "No space left")])
def test_a_store_that_cant_be_written(number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(number, f"{words}")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    found = examine(tmp_path / "runs")
    kind, text, advice = state(found, "disk")
    assert (kind, found.ready) == ("problem", False)
    assert words in text
    assert "store.root=/path/to/runs" in advice


@pytest.mark.usefixtures("sound")
def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert "is a file" in state(examine(tmp_path / "runs"), "disk")[1]


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(("free", "expected"), [(0.1, "problem"), (2, "note"), (50, "ok")])
def test_little_space_on_the_disk(free: float, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert state(examine(tmp_path), "disk")[0] == expected


@pytest.mark.parametrize(("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None)])
def test_a_containers_quota_of_cores(text: str, quota: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    cores = facts.read_cores({}, tmp_path / "cpu.max")
    assert cores.quota == quota
    few = facts.Cores(8, 8, quota, None, {})
    assert checkup._cores(few).state == ("note" if quota else "ok")


def test_weights_are_found_where_libraries_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hub, checkpoints = tmp_path / "huggingface" / "hub", tmp_path / "torch" / "hub" / "checkpoints"
    snapshot = hub / "models--timm--resnet18.a1_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"")
    (hub / "models--begun--only").mkdir()
    checkpoints.mkdir(parents=True)
    (checkpoints / "resnet18.pth").write_bytes(b"")
    found = facts.read_weights()
    assert (found.hub, found.torch) == (("timm/resnet18.a1_in1k",), ("resnet18.pth",))
    monkeypatch.setattr(facts.util, "find_spec", lambda name: None)
    assert facts.read_weights().litemedsam is None
    assert checkup._weights(facts.read_weights()).state == "note"


def test_what_is_declared_is_what_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed, extras = facts._declared(Path(facts.__file__).parents[3] / "pyproject.toml")
    assert any(line.startswith("torch>") for line in needed)
    assert any(line.startswith("monai") for line in extras["networks"])
    lines = ["torch<3,>=2.9", 'monai<2,>=1.5; extra == "networks"', "x; extra == 'dev'"]
    monkeypatch.setattr(facts.metadata, "requires", lambda name: lines)
    assert facts._declared(tmp_path / "none.toml") == (lines[:1], {"networks": lines[1:2], "dev": lines[2:]})
    monkeypatch.setattr(facts, "_version", {"torch": "2.9.1"}.get)
    assert facts._missing(["torch<3", "monai<2,>=1.5", "delightsam-bench[dev]"]) == ("monai",)


def test_a_network_that_never_answers_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        silent = facts.read_network(address, ask=True, seconds=0.3)
    assert silent.reached is False
    assert checkup._network(silent).state == "note"
    refused = facts.read_network(address, ask=True, seconds=5)
    assert "refused" in refused.fault
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = facts.read_network("https://unreachable.invalid", ask=False)
    assert (asked.reached, asked.offline) == (None, True)
    assert checkup._network(asked).state == "ok"


def test_words_that_doctor_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "store.rot=x"]) == 2
    assert "Did you mean 'store.root'?" in capsys.readouterr().err

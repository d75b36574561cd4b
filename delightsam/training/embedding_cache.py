"""Embeddings of a frozen encoder, kept on the disk and shared by all who compute the same.

A file's name says what its value depends on: the pixels, the weights, the precision and the machine. Values are rounded
through float16 whether they come from the disk or not, and each image is computed by itself, so a value never depends
on what is already there nor on the batch that asks for it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

# Raised when an encoder gives other bits for the same weights: embeddings of older code are then left alone.
VERSION = 1
_DIGEST_BYTES = hashlib.sha256().digest_size


class EmbeddingCache:
    """A folder of float16 arrays, each with the SHA-256 of its content.

    Several processes may use one folder: a file appears whole or not at all. A damaged file is reported and computed again.
    Where nothing can be written (a full disk, no permission), one warning says so and work goes on without keeping.

    Args:
        folder: made when the first value is kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writes = True

    def get_or_compute(self, keys: Sequence[str], compute: Callable[[int], Tensor]) -> Tensor:
        """The values of `keys`, one of each, stacked.

        Args:
            keys: hexadecimal digests, for example of `embedding_key`.
            compute: position in `keys` -> its value, a float tensor of any shape, without gradient.

        Returns:
            (len(keys), ...) float32 on the CPU, rounded through float16.

        Raises:
            ValueError: a value that float16 can't hold (beyond 65504, infinite or NaN).
        """
        values: dict[str, np.ndarray] = {}
        for position, key in enumerate(keys):
            if key not in values:
                kept = self._read(key)
                values[key] = self._computed(key, compute(position)) if kept is None else kept
        return torch.from_numpy(np.stack([values[key] for key in keys])).float()

    def _computed(self, key: str, value: Tensor) -> np.ndarray:
        # Contiguous, as it will be read: sums over another order of memory have other last bits.
        array: np.ndarray = value.detach().to("cpu", torch.float16).contiguous().numpy()
        if not np.isfinite(array).all():
            raise ValueError(
                f"An embedding can't be kept as float16: its largest value is {value.abs().max().item():.3g},"
                " expected finite values of at most 65504. Are the weights damaged?"
            )
        self._write(key, array)
        return array

    def _path(self, key: str) -> Path:
        # Thousands of files in one folder are slow on some file systems.
        return self.folder / key[:2] / key

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


def embedding_key(image: Tensor, weights: str) -> str:
    """The name of an image's embedding: SHA-256 of all that its bits depend on.

    Args:
        image: (3, H, W) float32 as the encoder gets it, normalised.
        weights: the encoder's digest by `WeightsDigest`.
    """
    device = image.device
    autocast = torch.is_autocast_enabled(device.type)
    facts = [
        str(VERSION),
        weights,
        str(tuple(image.shape)),
        str(torch.get_autocast_dtype(device.type)) if autocast else "off",
        str(torch.__version__),
        _device_name(device.type, device.index or 0),
        str(torch.get_num_threads()),
    ]
    digest = hashlib.sha256("\n".join(facts).encode())
    digest.update(image.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


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

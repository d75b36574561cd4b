"""Whether a node can run trials as the driver would: the same storage, data, code and libraries.

The driver sends its requirements to each node, gets the node's state back and lists the differences. Workers ask themselves the same
before their first trial, so a node that joins later is checked too.
"""

from __future__ import annotations

import importlib.util
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from harness.files import atomic_write_text, sha256_file
from harness.store.provenance import library_versions
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec


@dataclass(frozen=True)
class NodeRequirements:
    """What every node must see as the driver sees it.

    Attributes:
        folder: in the store; holds `nonce`, and a lock that the driver holds while it asks.
        manifests: folder of data -> SHA-256 of its manifest.
        files: weights that methods read -> size in bytes.
        modules: packages and modules that methods' classes come from.
    """

    folder: str
    nonce: str
    manifests: dict[str, str]
    files: dict[str, int]
    modules: tuple[str, ...]
    libraries: dict[str, str]
    python: str


@dataclass(frozen=True)
class NodeState:
    """What a node sees. Errors stand in place of values that could not be read."""

    host: str
    nonce: str
    answer: str
    lock_reaches: bool | None
    manifests: dict[str, str]
    files: dict[str, int | None]
    missing_modules: tuple[str, ...]
    libraries: dict[str, str]
    python: str


@contextmanager
def publish_requirements(trials: Sequence[TrialSpec], context: TrialContext) -> Iterator[NodeRequirements]:
    """The question for these trials; its folder in the store is there as long as the block lasts.

    Raises:
        UserError: the store can't be written.
    """
    from shutil import rmtree

    from filelock import FileLock

    nonce = uuid4().hex
    folder = Path(context.store_root) / "checks" / nonce
    atomic_write_text(folder / "nonce", nonce)
    try:
        with FileLock(folder / "lock"):
            yield NodeRequirements(
                folder=str(folder),
                nonce=nonce,
                manifests={root: _manifest(root) for root in sorted({trial.data.root for trial in trials})},
                files={path: Path(path).stat().st_size for path in sorted(_weights(trials))},
                modules=tuple(sorted({target.split(".")[0] for target in targets(trials)})),
                libraries=library_versions(),
                python=platform.python_version(),
            )
    finally:
        rmtree(folder, ignore_errors=True)


def inspect_node(question: NodeRequirements, node: str | None = None) -> NodeState:
    """Answers the question on this machine; with `node` it also leaves a file of that name for the driver to read."""
    folder = Path(question.folder)
    return NodeState(
        host=platform.node(),
        nonce=_read(folder / "nonce"),
        answer=_leave(folder / node, question.nonce) if node else "",
        lock_reaches=_is_locked(folder / "lock") if node else None,
        manifests={root: _manifest(root) for root in question.manifests},
        files={path: Path(path).stat().st_size if Path(path).is_file() else None for path in question.files},
        missing_modules=tuple(name for name in question.modules if importlib.util.find_spec(name) is None),
        libraries=library_versions(),
        python=platform.python_version(),
    )


def mismatches(question: NodeRequirements, facts: NodeState) -> list[str]:
    """What keeps a node from running the trials, each with what to do; empty: nothing."""
    found = []
    store = Path(question.folder).parent.parent
    if facts.nonce != question.nonce:
        found.append(
            f"it does not see the store {store} ({facts.nonce}). Put store.root on storage that all nodes mount at the"
            " same path (NFS, Lustre, a cloud file store), and the data too"
        )
    elif facts.answer:
        found.append(f"it can't write to the store {store} ({facts.answer}). Mount it writable for the user of Ray")
    for root, digest in question.manifests.items():
        if facts.manifests.get(root) != digest:
            found.append(
                f"its data at {root} are not the driver's (manifest.csv: {facts.manifests.get(root)}; expected {digest[:12]}...)."
                " Put them on shared storage, or copy them to the same path on all nodes"
            )
    for path, size in question.files.items():
        if facts.files.get(path) != size:
            found.append(
                f"the weights {path} are {'missing' if facts.files.get(path) is None else 'of another size'} there."
                " Give them by an absolute path on shared storage"
            )
    if facts.missing_modules:
        found.append(f"it can't import {', '.join(facts.missing_modules)}. Install what the methods need on every node")
    if facts.python != question.python:
        found.append(f"it has Python {facts.python}, the driver {question.python}")
    for name, version in question.libraries.items():
        there = facts.libraries.get(name)
        # +cpu, +cu128: builds for other devices of one version.
        if there is None or _release(there) != _release(version):
            found.append(f"it has {name} {there or 'not at all'}, the driver {version}. pip install {name}=={version}")
    return found


def targets(trials: Sequence[TrialSpec]) -> set[str]:
    """Every `_target_` in the trials' methods."""
    models = {id(model): model for model in (trial.method.model for trial in trials)}
    return {match for model in models.values() for match in re.findall(r"'_target_': '([^']+)'", repr(model))}


def _weights(trials: Sequence[TrialSpec]) -> set[str]:
    return {trial.method.model[key] for trial in trials for key in trial.method.files}


def _release(version: str) -> str:
    return version.partition("+")[0]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        return f"{error.strerror}: {path}"


def _manifest(root: str) -> str:
    try:
        return sha256_file(Path(root) / "manifest.csv")
    except OSError as error:
        return str(error.strerror)


def _leave(path: Path, nonce: str) -> str:
    """Writes the answer; an error's text where that fails."""
    try:
        path.write_text(nonce, "utf-8")
    except OSError as error:
        return str(error.strerror)
    return ""


def _is_locked(path: Path) -> bool | None:
    """Whether the driver's lock is felt here; None: the file system has no locks, or is not there."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return None
    with suppress(OSError, NotImplementedError):
        try:
            with FileLock(path).acquire(timeout=0):
                return False
        except Timeout:
            return True
    return None

"""Ray, started here or joined: what is shipped to the nodes, and what is checked before the first trial.

On a cluster the driver's own code runs on every node: the bench's packages travel with the job, and so do the modules of
methods that are no installed packages. Everything else (torch and the other libraries) must be installed on the nodes in
the driver's versions, which is checked, as is the storage.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import node as ray_node
from ray._private import worker as ray_worker
from ray.air._internal import usage

from harness.config import ExecutorConfig
from harness.errors import UserError
from harness.execution.ray.environment import RAY_ENVIRONMENT
from harness.execution.ray.nodes import (
    NodeRequirements,
    NodeState,
    inspect_node,
    mismatches,
    publish_requirements,
    targets,
)
from harness.execution.ray.trial_resources import Node, cpus_per_trial, fitting, gpus_per_trial, slots
from harness.execution.ray.watchdog import ending_with, local_servers, shut_down
from harness.hardware import usable_cores
from harness.store.provenance import REVISION_VARIABLE, code_revision
from harness.trial import TrialContext
from harness.trial_spec import TrialSpec

_PACKAGES = ("harness", "baselines", "delightsam", "suites")
_ANSWER_SECONDS = 90.0
# Joining is tried in a process of its own first: where no cluster answers, Ray waits for minutes and ends its process.
_PROBE = """
import logging, sys
import ray
try:
    context = ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    print(" ".join(str(error).split()))
    sys.exit(1)
print(context.address_info["gcs_address"])
"""
_PROBE_SECONDS = 30.0
# What Ray's `Node` starts on a machine that is a whole cluster.
_NEEDLESS = ("start_api_server", "start_monitor", "start_log_monitor")
# A socket's path has at most 107 bytes, and Ray adds `/ray/session_<time>_<pid>/sockets/plasma_store`.
_LONGEST_FOLDER = 107 - 70
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """The Ray that trials run on.

    Attributes:
        servers: Ray's processes that this one started; empty on a cluster.
        cpus: what a trial of so many threads asks for.
        gpus: what every trial asks for.
        nodes: the machines.
        question: what workers ask themselves before their first trial; None on a local Ray.
    """

    servers: dict[str, subprocess.Popen[bytes]]
    cpus: dict[int, int]
    gpus: float
    nodes: list[Node]
    question: NodeRequirements | None

    def resources(self, trial: TrialSpec) -> dict[str, float]:
        """What the trial asks for, in Ray's names of resources."""
        return {"CPU": float(self.cpus[_threads(trial)])} | ({"GPU": self.gpus} if self.gpus else {})

    def slots(self, trials: Sequence[TrialSpec]) -> int:
        """How many of these trials run at a time."""
        most = max((self.cpus[_threads(trial)] for trial in trials), default=1)
        return slots(self.nodes, most, self.gpus)


@contextlib.contextmanager
def started_ray(config: ExecutorConfig, context: TrialContext, trials: Sequence[TrialSpec]) -> Iterator[Cluster]:
    """Ray for these trials: a local one, or the cluster at `executor.address`, checked. Left again at the end.

    Raises:
        UserError: no such cluster, other versions there, resources that no node has, storage that is not shared.
    """
    local = config.address is None
    if local:
        _start()
    else:
        _join(str(config.address), trials)
    servers = local_servers() if local else {}
    with ending_with(servers), _shut_down_at_end(local):
        nodes = [Node.of(differences) for differences in ray.nodes() if differences["Alive"]]
        gpus = gpus_per_trial(config, nodes)
        threads = {_threads(trial) for trial in trials}
        cpus = {count: cpus_per_trial(count, nodes, gpus, local=local) for count in sorted(threads)}
        with contextlib.nullcontext() if local else publish_requirements(trials, context) as question:
            if question is not None:
                _check_nodes(fitting(nodes, min(cpus.values()), gpus), question)
            yield Cluster(servers, cpus, gpus, nodes, question)


@contextlib.contextmanager
def _shut_down_at_end(local: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if local:
            shut_down()
        else:
            ray.shutdown()


def _threads(trial: TrialSpec) -> int:
    return int(trial.trained.cpu_threads)


def _short_folder() -> str | None:
    """Where Ray keeps its sockets, when the folder that it would choose makes their paths too long; else None.

    Raises:
        UserError: there is no other folder.
    """
    chosen = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(chosen)) <= _LONGEST_FOLDER:
        return None
    name = "RAY_TMPDIR" if os.environ.get("RAY_TMPDIR") else "TMPDIR"
    for folder in _SHORT_FOLDERS:
        if os.access(folder, os.W_OK | os.X_OK):
            place = f"{folder}/ray-{os.getuid()}"
            log.warning("%s=%s is too long for the sockets of Ray, which uses %s.", name, chosen, place)
            return place
    raise UserError(
        f"{name}={chosen} is too long for the sockets of Ray (at most {_LONGEST_FOLDER} bytes), and none of"
        f" {', '.join(_SHORT_FOLDERS)} can be written to. Set {name} to a shorter folder, or use executor=serial."
    )


def _start() -> None:
    """A Ray of our own. "local" and not None, which would join any other that runs on this machine."""
    _mute()
    with _deaf_to_sigterm(), _without_needless_servers():
        ray.init(
            address="local",
            # Ray counts the machine's cores, and an allocation on a shared node has fewer.
            num_cpus=usable_cores() if usable_cores() < (os.cpu_count() or 1) else None,
            include_dashboard=False,
            _temp_dir=_short_folder(),
            # Results go to the store; Ray carries little more than epoch numbers.
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            # Of the workers that Ray starts ahead Tune can use none: its own have another environment.
            _system_config={"prestart_worker_first_driver": False},
        )


@contextlib.contextmanager
def _without_needless_servers() -> Iterator[None]:
    """Ray starts in here without its servers for dashboard, autoscaling and logs. No run uses them.

    Three Python processes; `ray.init` has no argument that leaves them out.
    """
    kept = {name: found for name in _NEEDLESS if (found := getattr(ray_node.Node, name, None)) is not None}
    for name in kept:
        setattr(ray_node.Node, name, lambda self, **settings: None)
    try:
        yield
    finally:
        for name, found in kept.items():
            setattr(ray_node.Node, name, found)


@contextlib.contextmanager
def _deaf_to_sigterm() -> Iterator[None]:
    """Processes started in here never get SIGTERM.

    Schedulers send it to the whole group; Ray's servers would end at once, and with them the trials that the driver is about
    to ask for an orderly end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _join(address: str, trials: Sequence[TrialSpec]) -> None:
    _mute()
    address = _reachable(address)
    ray.init(
        address=address,
        runtime_env={
            "env_vars": {**RAY_ENVIRONMENT, REVISION_VARIABLE: json.dumps(code_revision())},
            "py_modules": [str(path) for path in to_ship(targets(trials))],
            "excludes": ["__pycache__"],
        },
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )


def _mute() -> None:
    """Our own display reports failures, once and with their cause; nothing is counted for statistics."""
    # They are off, but Tune would import MLflow and wandb, for seconds, to tell whose callbacks ours are.
    usage.tag_callbacks = lambda callbacks: False
    # Whatever log_to_driver says, Ray prints what a lost node's agent publishes, between our lines.
    ray_worker.print_to_stdstream = lambda *data, **options: None
    for name in ("ray", "ray.tune", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _reachable(address: str) -> str:
    """host:port of the cluster, which answers there.

    Raises:
        UserError: it does not, or the address has another form.
    """
    hint = " Start one with `ray start --head`, or leave executor.address out for a local one."
    if address.startswith("ray://"):
        raise UserError(
            f"executor.address={address}: the driver runs on a node of the cluster, not through a Ray client. Log in to the"
            " head node (or use `ray job submit`) and give executor.address=auto."
        )
    given = address
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"executor.address={address}: expected auto or host:port, for example 10.0.0.1:6379.")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except (OSError, OverflowError) as error:
            raise UserError(f"No Ray cluster answers at executor.address={given}: {error}.{hint}") from error
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"What listens at executor.address={given} does not answer as a Ray cluster in {_PROBE_SECONDS:.0f} s.{hint}"
        ) from error
    answer = (done.stdout.strip().splitlines() or [f"Ray ended with code {done.returncode}"])[-1]
    if done.returncode == 0:
        return answer
    if "ersion mismatch" in answer:
        raise UserError(
            f"The Ray cluster at executor.address={given} runs other versions. {answer} Install the same ray and Python"
            " here, or start the cluster with those of this environment."
        )
    raise UserError(
        f"The Ray cluster at executor.address={given} can't be joined from this machine: {answer} Run the command on a node"
        f" of the cluster (`ray start --address=...` makes one of this machine).{hint}"
    )


def to_ship(names: set[str]) -> list[Path]:
    """Folders of packages and files of modules that travel with the job.

    The bench's own always do. So do the modules that the classes named come from, where they are not installed (lie outside
    site-packages), with what else of the same folder this process has imported. What is installed must be on the nodes.
    """
    found = [path for name in _PACKAGES if (path := _place(name)) is not None]
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib")}
    for name in sorted({name.split(".")[0] for name in names}):
        path = _place(name)
        if path is not None and not any(path.is_relative_to(folder) for folder in installed):
            beside = (_place(other) for other in sorted(sys.modules) if "." not in other and other != "__main__")
            found += [path, *(other for other in beside if other is not None and other.parent == path.parent)]
    return list(dict.fromkeys(found))


def _place(name: str) -> Path | None:
    """The folder of a top-level package, the file of a module; None: neither, or not to be found."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # made by hand, without a spec
        return None
    if spec is None or not (spec.submodule_search_locations or spec.has_location):
        return None
    path = Path(next(iter(spec.submodule_search_locations or []), str(spec.origin))).resolve()
    return path if path.is_dir() or path.suffix == ".py" else None


def _check_nodes(nodes: Sequence[Node], question: NodeRequirements) -> None:
    """Asks every node that can run trials, all at once.

    Raises:
        UserError: names each node that can't run them, and why.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask: Any = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
    asked = {
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(
            question, node.id
        ): node
        for node in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS)
    found = {asked[answer].name: [f"it did not answer within {_ANSWER_SECONDS:.0f} s"] for answer in late}
    for answer in ready:
        node = asked[answer]
        try:
            facts = ray.get(answer)
        except Exception as error:  # whatever keeps a task from running there
            found[node.name] = [" ".join(str(error).split())]
            continue
        if differences := _compared(question, facts, node.id):
            found[node.name] = differences
    if found:
        lines = [f"  {name}: {fault}." for name, differences in sorted(found.items()) for fault in differences]
        raise UserError(
            f"{len(found)} of {len(nodes)} nodes can't run these trials; nothing was started:\n" + "\n".join(lines)
        )


def _compared(question: NodeRequirements, facts: NodeState, node: str) -> list[str]:
    """The node's mismatches, and whether what it wrote to the store arrived here."""
    differences = mismatches(question, facts)
    answer = Path(question.folder) / node
    if not differences and not (answer.exists() and answer.read_text("utf-8") == question.nonce):
        differences.append(f"what it writes to {answer.parents[2]} is not seen here: the folder is another one there")
    if not differences and facts.lock_reaches is False:
        log.warning(
            "Locks in %s do not reach from this machine to %s (mount option of NFS, Lustre: flock). Nothing else keeps two"
            " runs on two machines from using one store: see to it.",
            answer.parents[2],
            facts.host,
        )
    return differences

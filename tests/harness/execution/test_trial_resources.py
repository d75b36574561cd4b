"""Where trials may run: resources, GPUs, nodes that see the same as the driver, code that travels."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import ExecutorConfig
from harness.errors import UserError
from harness.execution.gpu_memory import GpuBusy, enough_free, memory_share, wait_for_memory
from harness.execution.ray.cluster import _compared, _reachable, to_ship
from harness.execution.ray.nodes import NodeRequirements, inspect_node, mismatches, publish_requirements, targets
from harness.execution.ray.trial_resources import Node, cpus_per_trial, fitting, gpus_per_trial, slots
from harness.planning.plan import Plan
from harness.trial import TrialContext

SMALL = Node("a", "small (10.0.0.1)", cpus=4, gpus=0)
BIG = Node("b", "big (10.0.0.2)", cpus=16, gpus=2)
GIB = 2**30


def test_heterogeneous_nodes_take_the_trials_they_can_hold() -> None:
    assert fitting([SMALL, BIG], cpus=4, gpus=0) == [SMALL, BIG]
    assert fitting([SMALL, BIG], cpus=8, gpus=0) == fitting([SMALL, BIG], cpus=1, gpus=0.5) == [BIG]
    assert slots([SMALL, BIG], cpus=4, gpus=0) == 5
    assert slots([SMALL, BIG], cpus=8, gpus=0) == 2


@pytest.mark.parametrize(("part", "trials"), [(1, 2), (0.5, 4), (0.4, 4), (0.1, 8)])
def test_no_trial_takes_parts_of_two_gpus(part: float, trials: int) -> None:
    assert slots([SMALL, BIG], cpus=2, gpus=part) == trials  # at 0.1 the CPUs are the limit


def test_a_trial_that_no_node_can_hold_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"8 CPUs \(training\.cpu_threads\).*small \(10\.0\.0\.1\): 4 CPUs, 0 GPUs"):
        cpus_per_trial(8, [SMALL], 0, local=False)
    with pytest.raises(UserError, match=r"32 CPUs .* and 0\.5 GPU .*big \(10\.0\.0\.2\): 16 CPUs, 2 GPUs"):
        cpus_per_trial(32, [SMALL, BIG], 0.5, local=False)
    with pytest.raises(UserError, match="no node is alive"):
        cpus_per_trial(1, [], 0, local=False)
    assert cpus_per_trial(8, [SMALL, BIG], 0.5, local=False) == 8


def test_the_only_machine_there_is_takes_any_trial_one_at_a_time() -> None:
    assert cpus_per_trial(8, [SMALL], 0, local=True) == 4  # what Ray is asked for; the trial has its 8 threads
    assert cpus_per_trial(3, [SMALL], 0, local=True) == 3


def test_all_trials_get_the_same_kind_of_device() -> None:
    both, without = [SMALL, BIG], [SMALL]
    assert gpus_per_trial(ExecutorConfig(gpus_per_trial=0.5), both) == 0.5
    assert gpus_per_trial(ExecutorConfig(device="cpu"), both) == gpus_per_trial(ExecutorConfig(), without) == 0
    with pytest.raises(UserError, match=r"executor\.device=cuda, but Ray finds no GPU"):
        gpus_per_trial(ExecutorConfig(device="cuda"), without)
    with pytest.raises(UserError, match=r"executor\.gpus_per_trial above 0"):
        gpus_per_trial(ExecutorConfig(device="cuda", gpus_per_trial=0), both)


def test_parts_of_a_gpu_never_add_up_to_more_than_its_memory() -> None:
    assert memory_share(1) is None
    for part in (0.5, 0.25, 0.1):
        share = memory_share(part)
        assert share is not None
        assert share * int(1 / part) < 1
        assert enough_free(round(16 * GIB * share) + 1, 16 * GIB, part)
    assert not enough_free(6 * GIB, 16 * GIB, 0.5)


def test_a_trial_waits_for_its_part_of_the_gpu_but_not_for_ever() -> None:
    clock = [0.0]
    free = iter([1, 1, 8])

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    wait_for_memory(lambda: (next(free) * GIB, 16 * GIB), 0.5, clock=lambda: clock[0], sleep=sleep)
    assert clock[0] == 2
    with pytest.raises(GpuBusy, match=r"after 5 s only 1\.0 of 16\.0 GiB .* the trial's part is 0\.5"):
        wait_for_memory(lambda: (GIB, 16 * GIB), 0.5, seconds=5, clock=lambda: clock[0], sleep=sleep)
    assert clock[0] == 7


@pytest.fixture
def suite(toy_plan: Callable[..., Plan]) -> Plan:
    return toy_plan("TinyConv", "TwoStages")


@pytest.fixture
def question(suite: Plan, tmp_path: Path) -> Iterator[NodeRequirements]:
    context = TrialContext(store_root=str(tmp_path / "runs"), cache_folder=str(tmp_path / "cache"))
    with publish_requirements(suite.trials, context) as question:
        yield question
    assert not Path(question.folder).exists()


def test_a_machine_that_sees_the_same_has_no_fault(question: NodeRequirements, suite: Plan) -> None:
    facts = inspect_node(question, "here")
    assert mismatches(question, facts) == _compared(question, facts, "here") == []
    assert question.modules == ("toy_methods",)
    assert list(question.manifests) == [str(suite.dataset.root)]
    assert "torch" in question.libraries
    assert facts.lock_reaches is True


def test_each_difference_of_a_node_is_reported_with_what_to_do(question: NodeRequirements) -> None:
    question = replace(question, files={"/weights/sam.pth": 10})
    facts = replace(inspect_node(question, "here"), files={"/weights/sam.pth": 10})
    assert mismatches(question, facts) == []
    found = {
        name: mismatches(question, replace(facts, **{name: value}))  # type: ignore[arg-type]
        for name, value in {
            "nonce": "No such file or directory",
            "answer": "Read-only file system",
            "manifests": dict.fromkeys(question.manifests, "No such file or directory"),
            "files": {"/weights/sam.pth": None},
            "missing_modules": ("toy_methods",),
            "python": "3.9.1",
            "libraries": facts.libraries | {"torch": "1.0"},
        }.items()
    }
    assert all(len(lines) == 1 for lines in found.values())
    assert "does not see the store" in found["nonce"][0]
    assert "NFS" in found["nonce"][0]
    assert "can't write to the store" in found["answer"][0]
    assert "its data at" in found["manifests"][0]
    assert "/weights/sam.pth are missing" in found["files"][0]
    assert "can't import toy_methods" in found["missing_modules"][0]
    assert "Python 3.9.1" in found["python"][0]
    assert "torch 1.0" in found["libraries"][0]


def test_builds_of_one_version_for_other_devices_are_the_same(question: NodeRequirements) -> None:
    facts = inspect_node(question, "here")
    release = question.libraries["torch"].partition("+")[0]
    assert mismatches(question, replace(facts, libraries=facts.libraries | {"torch": f"{release}+cu128"})) == []


def test_what_a_node_writes_has_to_arrive(question: NodeRequirements, tmp_path: Path) -> None:
    facts = inspect_node(question, "here")
    (Path(question.folder) / "here").unlink()  # it went to a folder of the node's own
    (fault,) = _compared(question, facts, "here")
    assert "is not seen here" in fault


def test_a_store_that_is_not_there_is_a_fact_and_no_error(question: NodeRequirements, tmp_path: Path) -> None:
    facts = inspect_node(replace(question, folder=str(tmp_path / "elsewhere" / "x")), "here")
    assert facts.nonce.startswith("No such file")
    assert facts.answer.startswith("No such file")
    assert facts.lock_reaches is None
    assert not (tmp_path / "elsewhere").exists()


def test_the_bench_and_methods_that_are_not_installed_travel(
    suite: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert targets(suite.trials) == {"toy_methods.TinyConv", "toy_methods.TwoStages"}
    for name in ("my_own_method", "beside_my_own", "never_imported"):
        (tmp_path / f"{name}.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("beside_my_own")
    shipped = to_ship({"my_own_method.Mine", "torch.nn.Linear"})
    monkeypatch.delitem(sys.modules, "beside_my_own")
    root = Path(__file__).resolve().parents[3]
    # The bench, the method, and what was imported of its folder; neither what is installed nor what nobody imported.
    assert shipped == [root / name for name in ("harness", "baselines", "delightsam", "suites")] + [
        (tmp_path / f"{name}.py").resolve() for name in ("my_own_method", "beside_my_own")
    ]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://head:10001", "not through a Ray client"),
        ("head", "expected auto or host:port"),
        ("head:six", "expected auto or host:port"),
        ("127.0.0.1:1", r"No Ray cluster answers at executor\.address=127\.0\.0\.1:1: .*refused"),
        ("no.such.host.invalid:6379", r"No Ray cluster answers at executor\.address=no\.such\.host"),
    ],
)
def test_no_such_cluster_is_refused_at_once(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        _reachable(address)


def test_a_server_that_is_not_ray_is_refused_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.execution.ray.cluster._PROBE_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match="does not answer as a Ray cluster in 3 s"):
            _reachable(f"127.0.0.1:{port}")


def test_another_version_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = (
        "import sys; print('Version mismatch: The cluster was started with: Ray: 2.40.0 Python: 3.12.1'); sys.exit(1)"
    )
    monkeypatch.setattr("harness.execution.ray.cluster._PROBE", probe)
    monkeypatch.setenv("RAY_ADDRESS", "")
    with pytest.raises(UserError, match=r"runs other versions.*Ray: 2\.40\.0.*Install the same ray and Python"):
        _reachable("auto")

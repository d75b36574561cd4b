"""A run over two nodes of Ray (here on one machine): what is refused, an orderly stop, a node that is lost."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import PLAIN, command, environment
from .forked import finished
from .processes import descendants, still_alive
from .test_run import samples_of

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).resolve().parents[1]
# Ray's own settings, on which nodes and driver have to agree: no token, and a dead node is missed in seconds.
SURROUNDINGS = {
    **environment(), "RAY_AUTH_MODE": "disabled", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_failure_threshold": "3",
}  # fmt: skip
# What no run uses: the servers for dashboard and autoscaling, and workers that start ahead of the driver.
LEFT_OUT = (
    "--include-dashboard=false", "--no-monitor",
    '--system-config={"prestart_worker_first_driver": false}',
)  # fmt: skip
METHOD = """\
# @package methods.dawdles
card: {title: Dawdles, paper: none, licence: none, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
version: 1
model: {_target_: toy_dying.Dawdles, marker: MARKER}
training: {}
"""


@dataclass
class Cluster:
    """Two nodes with one CPU each. The second one sees another, empty folder in the place of `hidden`."""

    folder: Path
    address: str
    nodes: list[subprocess.Popen[bytes]]

    def words(self, *words: str, store: str) -> tuple[str, ...]:
        return (
            "run", "--config-dir", "mine", "method=[dawdles]", "data.modalities=[dermoscopy,xray]", "training=smoke",
            "data.phantoms.images_per_domain=4", "data.phantoms.image_size=64", "training.image_size=64",
            "training.epochs=8", "protocol.max_folds=2", "store.checkpoint_seconds=0", "data.cache=cache", "efficiency_seconds=0.1",
            "efficiency_image_size=32", f"store.root={store}", *words,
        )  # fmt: skip

    def run(self, *words: str, store: str) -> subprocess.Popen[str]:
        """A driver of its own: all forks draw the same ids from Ray's generator, and take the actors of another for theirs."""
        return subprocess.Popen(
            command(*self.words(*words, store=store)), cwd=self.folder, env=SURROUNDINGS, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def lose_second(self) -> None:
        """As if its plug was pulled: every process of the node at once, each by its own id."""
        for process in descendants(self.nodes[1].pid):
            process.kill()
        self.nodes[1].kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "mine" / "method").mkdir(parents=True)
    (folder / "mine" / "method" / "dawdles.yaml").write_text(METHOD.replace("MARKER", str(folder / "slowly")))
    for name in ("toy_dying.py", "toy_methods.py"):  # beside the driver, where no node finds them: they have to travel
        shutil.copy(TESTS / name, folder)
    (folder / "hidden").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [
        "--num-cpus=1", "--object-store-memory=100000000", "--min-worker-port=0", "--max-worker-port=0",
        "--dashboard-agent-listen-port=0", "--metrics-export-port=0", "--disable-usage-stats", "--block",
        "--include-log-monitor=false",
    ]  # fmt: skip
    ray = [str(Path(sys.executable).parent / "ray"), "start", *options]
    # Ray's sockets have long names below this folder, and a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as sessions:
        head = [*ray, "--head", f"--port={port}", f"--temp-dir={sessions}", *LEFT_OUT]
        nodes = [start(head)]
        hide = f'mount -t tmpfs tmpfs {folder / "hidden"} && exec "$@"'
        apart = ["unshare", "--mount", "sh", "-c", hide, "sh"] if may_mount() else []
        try:
            nodes.append(start([*apart, *ray, f"--address=127.0.0.1:{port}"]))
            yield Cluster(folder, f"127.0.0.1:{port}", nodes)
        finally:
            servers = [process for node in nodes for process in descendants(node.pid)]
            for node in nodes:
                node.terminate()
            for process in still_alive(servers, 10):
                process.kill()
            for node in nodes:
                node.kill()
                node.communicate()


def start(words: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(words, env=SURROUNDINGS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line.decode())
        if "Ray runtime started" in printed[-1]:
            return process
    raise AssertionError(f"no node of Ray: {''.join(printed)}")


def may_mount() -> bool:
    return os.geteuid() == 0 and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode


def wait_for_epochs(driver: subprocess.Popen[str], store: Path, trials: int) -> None:
    """Until so many trials have ended an epoch in this start."""
    begun, limit = time.time(), time.monotonic() + 240
    while time.monotonic() < limit:
        texts = [path.read_text() for path in store.glob("trials/*/status.json") if path.stat().st_mtime > begun]
        if sum('"running"' in text and '"epochs"' in text for text in texts) >= trials:
            return
        if driver.poll() is not None:
            raise AssertionError(f"the run ended before: {driver.communicate()}")
        time.sleep(0.1)
    raise AssertionError("the trials did not begin")


@pytest.mark.skipif(not may_mount(), reason="hiding a folder from a node takes root")
def test_a_store_that_a_node_does_not_see_is_refused_before_anything_runs(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli import main

    monkeypatch.chdir(cluster.folder)
    code = main([*cluster.words(f"executor.address={cluster.address}", store="hidden/runs")])
    errors = capsys.readouterr().err
    assert code == 2, errors
    assert "Traceback" not in errors
    assert "1 of 2 nodes can't run these trials; nothing was started" in errors
    assert f"does not see the store {cluster.folder / 'hidden' / 'runs'}" in errors
    assert not list(cluster.folder.glob("hidden/runs/trials/*"))


def test_a_run_over_two_nodes_is_stopped_goes_on_and_loses_one(cluster: Cluster) -> None:
    store, slowly = cluster.folder / "runs", cluster.folder / "slowly"
    undisturbed = finished(cluster.words("executor=serial", store="undisturbed"), cluster.folder, **PLAIN)
    assert undisturbed.returncode == 0, undisturbed.stderr
    slowly.mkdir()

    driver = cluster.run(f"executor.address={cluster.address}", store="runs")
    wait_for_epochs(driver, store, 2)
    driver.send_signal(signal.SIGTERM)
    _, stderr = driver.communicate(timeout=240)
    assert driver.returncode == 143, stderr
    assert "running trials kept their state" in stderr
    assert stderr.count("asked to stop after epoch") == 2

    driver = cluster.run(f"executor.address={cluster.address}", store="runs")
    wait_for_epochs(driver, store, 2)
    cluster.lose_second()
    slowly.rmdir()
    stdout, stderr = driver.communicate(timeout=240)
    assert driver.returncode == 0, stderr
    assert "again  dawdles" in stderr
    assert "(raylet)" not in stdout
    assert len(samples_of(store)) == 2
    assert samples_of(store) == samples_of(cluster.folder / "undisturbed")

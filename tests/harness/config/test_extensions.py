"""Metrics and columns of installed packages, found by an entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError

MODULE = """
from harness.metrics import Metric, register

def half(pair, settings):
    return 0.5

register(Metric("half", "Half", "", True, 3, "Always a half.", "None.", half))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages, with one that brings a metric."""
    (tmp_path / "foreign_metrics.py").write_text(MODULE)
    facts = tmp_path / "foreign_metrics-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-metrics\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[delightsam_bench.extensions]\nforeign = foreign_metrics\n")
    return tmp_path


def command(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_command_knows_its_metric(site: Path) -> None:
    shown = command(site, "list", "metrics")
    assert shown.returncode == 0 and "half          Half, higher is better." in shown.stdout


def test_a_name_that_is_taken_is_refused_in_one_sentence(site: Path) -> None:
    """Runs in this process, since only the message is of interest."""
    import importlib.metadata

    from harness.config import extensions

    (site / "taken_metrics.py").write_text(MODULE.replace('"half", "Half"', '"dice", "Dice"'))
    entry = importlib.metadata.EntryPoint("mine", "taken_metrics", extensions.ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setattr(extensions.metadata, "entry_points", lambda group: [entry])
        with pytest.raises(UserError, match=r"imported: there is a metric 'dice' already: choose another name\. Fix"):
            extensions.load_extensions.__wrapped__()


def test_a_package_that_can_t_be_imported_is_named(site: Path) -> None:
    (site / "foreign_metrics.py").write_text("1 / 0")
    refused = command(site, "list", "metrics")
    assert refused.returncode == 2
    assert "The module 'foreign_metrics'" in refused.stderr and "ZeroDivisionError" in refused.stderr

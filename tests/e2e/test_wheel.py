"""The package as it is installed: from a wheel, in any working directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import environment

pytestmark = pytest.mark.e2e
PROJECT = Path(__file__).resolve().parents[2]


def test_a_wheel_brings_its_configuration_and_templates(tmp_path: Path) -> None:
    # A copy: building leaves its traces beside the sources.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("harness", "baselines", "delightsam", "reports", "suites"):
        shutil.copytree(PROJECT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True, capture_output=True, timeout=120)
    (built,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(built)], check=True, timeout=120)
    code = (
        "import harness, reports, suites, pathlib; from harness.config.loading import load_config;"
        "print(pathlib.Path(harness.__file__).parent.parent);"
        "print(sorted(load_config(['suite=domain_generalization']).methods));"
        "print((pathlib.Path(reports.__file__).parent / 'page' / 'templates' / 'leaderboard.html.j2').exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    where, methods, template = done.stdout.splitlines()
    assert Path(where) == target
    assert "unet" in methods
    assert template == "True"

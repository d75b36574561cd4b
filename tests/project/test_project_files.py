"""Files for people who join: they parse, agree with each other and with the project, and name commands that exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import __version__
from harness.cli.doctor.checkup import PYTHON

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PEOPLES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md")]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def targets() -> set[str]:
    """Of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_one_version_everywhere() -> None:
    assert __version__ == PROJECT["project"]["version"] == str(load(ROOT / "CITATION.cff")["version"])


def test_the_python_that_doctor_expects_is_the_packages() -> None:
    oldest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"]).groups()  # type: ignore[union-attr]
    assert ((3, int(oldest)), (3, int(beyond) - 1)) == PYTHON


def test_the_citation_has_what_readers_of_cff_need() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["project"]["name"]
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["type"] == "software"
    assert citation["message"]
    for entry in (citation, *citation["references"]):
        assert entry["title"]
        assert all("name" in author or "family-names" in author for author in entry["authors"])


@pytest.mark.parametrize("path", PEOPLES, ids=lambda path: path.name)
def test_commands_and_files_named_for_contributors_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets()
    for word in re.findall(r"`((?:\.?[\w-]+/)+[\w.-]+|[\w-]+\.(?:md|toml|cff))`", text):
        if not word.startswith((".venv/", "runs/")):
            assert (ROOT / word).exists(), word


def test_contributing_names_the_commands_of_the_makefile() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for target in ("setup", "test", "lint", "format"):
        assert f"make {target}" in text


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_forms(path: Path) -> None:
    form = load(path)
    assert form["name"] and form["description"]
    asked = [each for each in form["body"] if each["type"] != "markdown"]
    assert asked and {each["type"] for each in asked} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({each["id"] for each in asked}) == len(asked)
    for each in asked:
        assert each["attributes"]["label"]
        assert ("options" in each["attributes"]) == (each["type"] in ("dropdown", "checkboxes"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_do_little_and_take_actions_by_version(path: Path) -> None:
    workflow = load(path)
    assert workflow[True]  # `on`, as YAML 1.1 reads it
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] and job["runs-on"]
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)
        assert all("uses" in step or "run" in step for step in job["steps"])


def test_continuous_integration_runs_what_people_run() -> None:
    steps = load(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["steps"]
    assert steps[-1]["run"] == ".ci/run"
    assert os.access(ROOT / ".ci/run", os.X_OK)
    built = load(ROOT / ".github/workflows/release.yml")["jobs"]["build"]["steps"]
    assert any("python -m build" in step.get("run", "") for step in built)


def test_the_container_holds_every_package() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied
    assert all((ROOT / name).exists() for name in copied)
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert copied <= {line.removeprefix("!") for line in sent}
    extras = re.search(r"\.\[([\w,]+)\]", "\n".join(lines))
    assert extras and set(extras.group(1).split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    wanted = [line for line in PROJECT["project"]["dependencies"] if line.startswith("torch")]
    assert all(f'"{line}"' in "\n".join(lines) for line in wanted)


def test_the_development_container_sets_up_by_the_makefile() -> None:
    content = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert content["image"]
    assert set(re.findall(r"make ([a-z-]+)", content["postCreateCommand"])) == {"setup"}


def test_what_a_stranger_submits_is_checked_without_rights() -> None:
    path = ROOT / ".github/workflows/leaderboard.yml"
    workflow, text = load(path), path.read_text("utf-8")
    assert "pull_request" in workflow[True] and "pull_request_target" not in workflow[True]
    assert "secrets." not in text
    for name, job in workflow["jobs"].items():
        if name == "publish":
            assert job["if"] == "github.event_name != 'pull_request'"
        else:
            assert "permissions" not in job
        # Texts of a pull request reach a shell as variables, never as a part of its words.
        assert all("${{" not in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ("echo b > submissions/b.zip", True),
        ("echo b > 'submissions/a b\n.zip'", True),
        ("echo b > submissions/a.zip", False),
        ("rm submissions/a.zip", False),
        ("mv submissions/a.zip submissions/b.zip", False),
        ("echo b > submissions/b.zip; rm README", False),
        ("mkdir submissions/c; echo b > submissions/c/b.zip", False),
        ("mkdir harness; echo b > harness/__main__.py", False),
        ("mkdir 'x\nsubmissions'; echo b > 'x\nsubmissions/b.zip'", False),
    ],
)
def test_a_pull_request_adds_submissions_and_nothing_else(change: str, accepted: bool, tmp_path: Path) -> None:
    """The workflow's own words, in a repository of two commits."""
    steps = load(ROOT / ".github/workflows/leaderboard.yml")["jobs"]["build"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("name", "").startswith("A pull request adds")]

    def shell(words: str, **more: str) -> int:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more}
        return subprocess.run(["bash", "-euo", "pipefail", "-c", words], cwd=tmp_path, env=environment).returncode

    commit = "git add -A; git -c user.name=a -c user.email=a@b commit -q -m x"
    assert shell(f"git init -q; mkdir submissions; echo a > submissions/a.zip; echo a > README; {commit}") == 0
    assert shell(f"{change}; {commit}; git branch -q base HEAD~1") == 0
    assert (shell(script, BASE="base") == 0) == accepted

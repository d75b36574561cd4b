"""A run, its submission, and a site of it among hostile ones, by the real commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.hostile import ATTACKS

from harness.cli import main
from harness.data.phantoms import write_phantoms
from harness.submissions.guard import Guarded

from .conftest import Bench

pytestmark = pytest.mark.e2e

RUN = (
    "method=[otsu,mean_mask]", "protocol.max_folds=2", "training.image_size=64", "training.epochs=1", "training.amp=off",
    "executor.name=serial", "efficiency_seconds=0.1", "efficiency_image_size=32",
)  # fmt: skip
DATA = "phantoms"
# Of each kind some, and each state; every attack is judged in `tests/harness/submissions/test_hostile.py`.
SENT = (
    "scripts in names", "traversal", "absolute name", "link", "many members", "bomb", "bomb that lies about its size", "no zip",
    "forged Dice with masks", "forged Dice without masks", "pickle for a table", "pickles in a column", "turned text",
    "control character", "deep manifest",
)  # fmt: skip


def test_from_a_run_to_a_site(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantoms(tmp_path / DATA, images_per_domain=4, image_size=64, modalities=["dermoscopy", "xray"])
    done = bench("run", *RUN, f"data.root={DATA}")
    assert done.returncode == 0, done.stderr

    sent = bench("submit", "--out", "in/ours.zip", "--name", "Our lab", "--licence", "CC0")
    assert sent.returncode == 0, sent.stderr
    assert re.search(r"in/ours\.zip: [\d.]+ MB", sent.stdout) and "leaderboard build" in sent.stdout
    honest = (tmp_path / "in" / "ours.zip").read_bytes()
    assert bench("submit", "--out", "again.zip", "--name", "Our lab", "--licence", "CC0").returncode == 0
    assert (tmp_path / "again.zip").read_bytes() == honest

    with monkeypatch.context() as patch:  # in this process: the next one shows it guarded
        patch.chdir(tmp_path)
        patch.setattr(Guarded, "call", lambda _, function, *args: function(*args))
        assert main(["leaderboard", "build", "in", "--out", "unverified"]) == 0
    assert capsys.readouterr().out.startswith("unverified: ours.zip")

    attacks = {name: ATTACKS[name] for name in SENT}
    for name, attack in attacks.items():
        (tmp_path / "in" / f"{name}.zip").write_bytes(attack.make(honest))
    (tmp_path / "in" / "link to a file.zip").symlink_to("/etc/passwd")
    built = bench("leaderboard", "build", "in", "--out", "site", "--data", DATA)
    assert built.returncode == 1
    assert "Traceback" not in built.stdout + built.stderr
    states = {line.split(": ")[1]: line.split(": ")[0] for line in built.stdout.splitlines()[:-1]}
    expected = {f"{name}.zip": attack.state for name, attack in attacks.items()}
    assert states == {**expected, "ours.zip": "verified", "link to a file.zip": "refused"}

    site = json.loads((tmp_path / "site" / "leaderboard.json").read_text("utf-8"))
    verified = next(ranking for ranking in site["rankings"] if ranking["trust"] == "verified")
    report = json.loads(next((tmp_path / "runs").rglob("report/leaderboard.json")).read_text("utf-8"))
    digest = next(each["sha256"] for each in site["submissions"] if each["file"] == "ours.zip")
    ours = {row["name"]: row["dice"] for row in verified["methods"] if row["submission"] == digest}
    assert ours == {row["method"]: pytest.approx(row["dice"]) for row in report["methods"]}
    assert not (tmp_path / "owned").exists()
    assert "root:" not in (tmp_path / "site" / "index.html").read_text("utf-8")


def test_mistakes_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words, fragment in (
        (("submit", "--out", "ours.txt"), "ends in .zip"),
        (("submit", "--out", "ours.zip"), "Run one first"),
        (("submit",), "--out"),
        (("leaderboard", "build", "nowhere", "--out", "site"), "expected a folder of submissions"),
        (("leaderboard", "build", ".", "--out", "site"), "python -m harness submit"),
        (("leaderboard", "build", ".", "--out", "site", "--data", "nowhere"), "expected a folder with a dataset"),
    ):
        try:
            code = main(list(words))
        except SystemExit as end:  # what argparse refuses
            code = end.code  # type: ignore[assignment]
        assert code == 2 and fragment in capsys.readouterr().err

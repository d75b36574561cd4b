"""What `submit` puts into the file, and what it keeps out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.submissions import packed, write_lab

from harness.api.running import evaluate
from harness.config.schema import ProtocolConfig
from harness.data.dataset import Dataset
from harness.errors import UserError
from harness.metrics import shown_metrics
from harness.store.store import Store
from harness.submissions.archive import unpack
from harness.submissions.guard import judge
from harness.submissions.layout import IMAGES, LARGEST, MANIFEST, MEMBERS, METRICS, PREDICTIONS, SPLITS
from harness.submissions.reading import parse_submission
from reports.records.runs import find_suite, read_runs
from reports.submissions.packing import pack_records, without_paths

ONE_FOLD = ProtocolConfig(max_folds=1)


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_lab(tmp_path_factory.mktemp("store"), data, {"unet": 2, "otsu": 5})


def test_equal_results_give_equal_bytes(store: Store) -> None:
    assert packed(store, name="us").content == packed(store, name="us").content


def test_its_numbers_are_those_of_the_store(store: Store) -> None:
    found = packed(store)
    submission = parse_submission(found.content)
    records = read_runs([(store, find_suite(store))])
    keys = ["method", "fold", "role", "key"]
    labels = [(trial.spec.method.name, trial.spec.split.name) for trial in submission.trials]
    own = submission.images.assign(
        method=[labels[at][0] for at in submission.images["trial"]],
        fold=[labels[at][1] for at in submission.images["trial"]],
    )
    for name in METRICS:
        expected = records.samples.set_index(keys)[name].sort_index()
        assert own.set_index(keys)[name].sort_index().tolist() == expected.tolist()
    assert (found.trials, found.images, found.rows, found.masks) == (6, 24, 72, 72)


@pytest.mark.parametrize("words", [[], ["resize=nearest"]])
def test_masks_of_another_tool_are_submitted_and_verified(
    data: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.run.write_report", lambda *_, **__: None)
    for sample in Dataset.open(data).samples:
        mask = Image.open(sample.mask)
        path = tmp_path / "masks" / f"{sample.key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (mask.resize((mask.width * 2, mask.height * 2), Image.Resampling.NEAREST) if words else mask).save(path)
    evaluate(tmp_path / "masks", "tool", f"data.root={data}", f"store.root={tmp_path / 'runs'}", *words, quiet=True)
    (tmp_path / "ours.zip").write_bytes(packed(Store(tmp_path / "runs")).content)
    verdict = judge(tmp_path / "ours.zip", data)
    assert (verdict.state, verdict.reason) == ("verified", "")
    (method,) = verdict.submission.manifest["methods"]
    assert method["card"]["external"] is True and ("resized" in method["card"]) == bool(words)


def test_there_are_no_paths_hosts_images_or_references_in_it(store: Store, data: Path) -> None:
    members = unpack(packed(store).content)
    assert set(members) == set(MEMBERS)
    text = members[MANIFEST].decode()
    for secret in ("/home/me", "secret-node", str(data), str(store.root)):
        assert secret not in text
    assert json.loads(text)["methods"][0]["model"]["weights"] == ".../w.pt"
    everything = b"".join(members.values())
    for path in (*data.rglob("images/*.png"), *data.rglob("masks/*.png")):
        assert path.read_bytes()[50:] not in everything


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.root=/home/me/isic", "data.root=.../isic"),
        ("~/isic", ".../isic"),
        ("'/a b/c'", "'.../c'"),
        ("C:\\data\\isic", ".../isic"),
        ("data.roots=[/home/me/a b/isic,/data/ph2]", "data.roots=[.../isic,.../ph2]"),
        ("model={weights:/home/me/w.pt,rate:1/2}", "model={weights:.../w.pt,rate:1/2}"),
        ("file:///home/me/w.pt", ".../w.pt"),
        ("//server/share/w.pt", ".../w.pt"),
        ("https://example.org/a/w.pt", "https://example.org/a/w.pt"),
        ("~method.weights", "~method.weights"),
        ("suite=demo", "suite=demo"),
        ("a/b", "a/b"),
        ({"weights": ["/x/y.pt", 3]}, {"weights": [".../y.pt", 3]}),
    ],
)
def test_paths_become_names(word: object, expected: object) -> None:
    assert without_paths(word) == expected


def test_incomplete_methods_are_left_out(store: Store) -> None:
    records = read_runs([(store, find_suite(store))])
    trials = [replace(t, state="failed") if (t.method, t.fold) == ("otsu", "fold1") else t for t in records.trials]
    found = pack_records(replace(records, trials=trials), [find_suite(store)], {})
    assert found.methods == ["Unet"]
    assert found.left_out == {"Otsu": "1 of 3 trials have no result"}
    assert len(parse_submission(found.content).trials) == 3
    failed = [replace(trial, state="failed") for trial in records.trials]
    with pytest.raises(UserError, match="at least one complete method"):
        pack_records(replace(records, trials=failed), [find_suite(store)], {})


def test_masks_that_were_not_kept_are_said(data: Path, tmp_path: Path) -> None:
    store = write_lab(tmp_path, data, {"unet": 2}, with_masks=False, protocol=ONE_FOLD)
    with pytest.raises(UserError, match=r"store\.predictions=true.*--without-masks"):
        packed(store)
    assert set(unpack(packed(store, with_masks=False).content)) == {MANIFEST, SPLITS, IMAGES}


def test_the_layout_is_documented_and_names_todays_metrics() -> None:
    """The guide lists the members; a metric that reports show has a column."""
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "leaderboard.md").read_text("utf-8")
    assert all(f"`{member}`" in guide for member in MEMBERS)
    assert set(LARGEST) == set(MEMBERS) and PREDICTIONS in LARGEST
    assert set(METRICS) == set(shown_metrics())


def test_a_paper_may_take_several_sentences(data: Path, tmp_path: Path) -> None:
    """Cards of adaptations say what differs from their paper: a long one can be submitted."""
    from harness.config.loading import load_config

    paper = load_config(["method=mask_decoder_litemedsam"]).methods["mask_decoder_litemedsam"]["card"]["paper"]
    assert len(paper) > 300
    store = write_lab(tmp_path, data, {"unet": 1}, cards={"unet": {"paper": paper}}, protocol=ONE_FOLD)
    assert parse_submission(packed(store).content).trials


def test_a_method_with_an_algorithm_can_be_submitted(data: Path, tmp_path: Path) -> None:
    """Its version is both versions."""
    from harness.config.loading import load_config
    from harness.methods.crossing import crossed

    config = load_config(["method=unet", "algorithm=flips"])
    ((name, pair),) = crossed(config.methods, config.algorithms).items()
    cards = {name: pair["card"]}
    store = write_lab(tmp_path, data, {name: 1}, cards=cards, version=pair["version"], protocol=ONE_FOLD)
    (method,) = {
        (trial.spec.method.name, trial.spec.method.version) for trial in parse_submission(packed(store).content).trials
    }
    assert method == ("unet+flips", pair["version"]) and "+" in pair["version"]


@pytest.mark.parametrize("version", [2, 1.5, "1.2-rc1"])
def test_a_version_is_a_number_or_a_word(version: object, data: Path, tmp_path: Path) -> None:
    store = write_lab(tmp_path, data, {"unet": 1}, version=version, protocol=ONE_FOLD)
    assert parse_submission(packed(store).content).trials[0].spec.method.version == version


@pytest.mark.parametrize("version", ["<b>", "a b", "", {"a": 1}])
def test_other_versions_are_refused(version: object, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="version"):
        packed(write_lab(tmp_path, data, {"unet": 1}, version=version, protocol=ONE_FOLD))

"""The tables: means against pandas, and no mean, rank or interval where something is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.protocols.split import ROLES, Split
from harness.store.store import Store
from reports.analysis.costs import cost_table
from reports.records.reading import read_records
from reports.records.runs import find_suite
from reports.tables.leaderboard import Leaderboard, build_leaderboard


def board_of(simulated: Any) -> Leaderboard:
    store = Store(simulated.root)
    return build_leaderboard(read_records(store, find_suite(store)))


def row(board: Leaderboard, method: str) -> pd.Series:
    return board.table.set_index("method").loc[method]


def test_means_equal_those_worked_out_from_the_parquet_files(complete: Any, complete_board: Leaderboard) -> None:
    board = complete_board
    store = Store(complete.root)
    frames = [
        record.samples.assign(seed=seed)
        for (method, _, seed), trial in complete.ids.items()
        if method == "unet" and (record := store.load(trial)).samples is not None
    ]
    tests = pd.concat([frame[frame["role"] == "test"] for frame in frames])
    images = tests.groupby(["modality", "domain", "key"])[["dice", "hd95"]].mean()
    domains = images.groupby(["modality", "domain"]).mean()
    unet = row(board, "unet")
    assert unet["dice"] == pytest.approx(domains["dice"].mean())
    assert unet["hd95"] == pytest.approx(domains["hd95"].mean())
    assert unet["worst_dice"] == pytest.approx(domains["dice"].min())
    assert unet["worst_domain"] == "/".join(domains["dice"].idxmin())
    assert unet["dice_low"] < unet["dice"] < unet["dice_high"]
    seen = pd.concat([frame[frame["role"] == "validation"] for frame in frames])
    seen_dice = seen.groupby(["modality", "domain", "key"])["dice"].mean().groupby(["modality", "domain"]).mean().mean()
    assert unet["seen"] == pytest.approx(seen_dice)
    assert unet["gap"] == pytest.approx(seen_dice - unet["dice"])
    assert unet["gap_low"] < unet["gap"] < unet["gap_high"]
    per_seed = [tests[tests["seed"] == seed].groupby(["modality", "domain"])["dice"].mean().mean() for seed in (0, 1)]
    assert unet["dice_seed_sd"] == pytest.approx(np.std(per_seed, ddof=1))
    fundus = board.modalities.set_index(["method", "modality"]).loc[("unet", "fundus")]
    assert fundus["dice"] == pytest.approx(domains["dice"]["fundus"].mean())


def test_better_methods_stand_higher_and_oracles_apart(complete_board: Leaderboard) -> None:
    table = complete_board.table
    assert table["method"].tolist() == ["delightsam", "unet", "otsu", "boxed"]
    assert table["track"].tolist() == ["automatic"] * 3 + ["oracle"]
    assert table["rank"].tolist() == ["1", "2", "3", "1"]


def test_incomplete_methods_get_no_mean_and_no_rank(holed: Any) -> None:
    board = board_of(holed)
    for method, missing in (("unet", "fold2, seed 0: failed"), ("otsu", "fold1, seed 0: missing")):
        found = row(board, method)
        assert found["track"] == "incomplete" and found["missing"] == [missing]
        for name in ("rank", "dice", "dice_low", "hd95", "worst_dice", "seen", "gap", "missed"):
            assert pd.isna(found[name]), name
    domains = board.domains.set_index(["method", "domain"])
    # What is whole is shown: a domain whose trials are all there.
    assert not math.isnan(domains.loc[("unet", "fundus/atlas"), "dice"])
    assert domains.loc[("unet", "fundus/screening"), "state"] == "failed"
    assert math.isnan(domains.loc[("unet", "fundus/screening"), "dice"])
    modality = board.modalities.set_index(["method", "modality"]).loc[("unet", "fundus")]
    assert math.isnan(modality["dice"]) and modality["state"] == "failed"


def test_one_missing_seed_is_a_hole_in_every_domain_it_would_have_tested(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, seeds=(0, 1), predictions=False)
    trial = simulated.root / "trials" / simulated.ids["unet", "fold0", 1].training
    (trial / "result.json").unlink()
    board = board_of(simulated)
    assert row(board, "unet")["track"] == "incomplete"
    cell = board.domains.set_index(["method", "domain"]).loc[("unet", "fundus/atlas")]
    assert math.isnan(cell["dice"]) and cell["why"] == "fold0, seed 1"


def test_undefined_values_are_not_averaged_away(make_store: Callable[..., Any]) -> None:
    def undefine(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        hit = (frame["key"] == "fundus/atlas/004") & (frame["role"] == "test")
        if method == "unet":
            frame.loc[hit, "dice"] = np.nan
        if method == "delightsam":
            frame.loc[hit, "hd95"] = np.nan
        return frame

    board = board_of(make_store(faults={}, change=undefine, predictions=False))
    unet, delightsam = row(board, "unet"), row(board, "delightsam")
    assert pd.isna(unet["dice"]) and pd.isna(unet["rank"]) and unet["missing"] == ["Dice is undefined in 1 rows"]
    assert board.domains.set_index(["method", "domain"]).loc[("unet", "fundus/atlas"), "state"] == "undefined"
    # One undefined distance takes the mean distance, not the Dice.
    assert pd.isna(delightsam["hd95"]) and delightsam["dice"] > 0.5 and delightsam["rank"] == "1"


def test_weights_chosen_on_test_images_are_ranked_apart(make_store: Callable[..., Any]) -> None:
    from reports.records.records import MethodFacts

    assert MethodFacts("m", "M", {"prompt": "none"}, "oracle", 64).oracle
    assert not MethodFacts("m", "M", {"prompt": "none"}, "last", 64).oracle
    assert MethodFacts("m", "M", {"prompt": "oracle point"}, "last", 64).oracle


def test_speeds_of_two_machines_have_columns_of_their_own(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    cost = {
        "method": "unet",
        "image_size": 64,
        "parameters_total": 5,
        "parameters_active": 5,
        "parameters_trainable": 5,
    }
    speed = {"throughput_images_per_second": 900.0, "device": "Big GPU", "threads": 1, "dtype": "float16"}
    Store(simulated.root).write_efficiency("unet-gpu", {**cost, **speed, "gmacs": 3.4})
    Store(simulated.root).write_efficiency("unet-512", {**cost, **speed, "image_size": 512, "gmacs": 99.0})
    Store(simulated.root).write_efficiency("unet-old", {**cost, **speed, "model": {"_target_": "old"}, "gmacs": 77.0})
    Store(simulated.root).write_efficiency("unet-one", {**cost, **speed, "modalities": ["xray"], "gmacs": 55.0})
    board = board_of(simulated)
    assert board.hardware == ["Big GPU, 1 thread, float16", "Test CPU, 2 threads, float32"]
    unet = row(board, "unet")
    assert (unet["throughput_0"], unet["throughput_1"]) == (900.0, 20.0)
    assert unet["gmacs"] == 3.4  # not those at 512 pixels, of an older model or of other modalities
    assert pd.isna(row(board, "otsu")["throughput_0"])


def test_costs_are_those_of_this_version_and_the_newest_of_each_machine(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    store = Store(simulated.root)
    row_ = {"method": "unet", "image_size": 64, "parameters_total": 5, "device": "Big GPU", "threads": 1}
    # Named so that neither the first nor the last file is the newest measurement.
    for key, version, measured, speed in (
        ("a", 1, "2026-01-01T00:00:00+00:00", 100.0), ("b", 1, "2026-03-01T00:00:00+00:00", 300.0),
        ("c", 1, "2026-02-01T00:00:00+00:00", 200.0), ("d", 2, "2026-04-01T00:00:00+00:00", 400.0),
    ):  # fmt: skip
        extra = {"measured": measured, "throughput_images_per_second": speed, "gmacs": speed / 100}
        store.write_efficiency(key, {**row_, **extra, "method_version": version})
    board = board_of(simulated)
    assert board.hardware == ["Big GPU, 1 thread", "Test CPU, 2 threads, float32"]
    unet = row(board, "unet")
    # The row of the other machine has no time (an older bench wrote it) and counts as older.
    assert (unet["throughput_0"], unet["throughput_1"], unet["gmacs"]) == (300.0, 20.0, 3.0)
    costs = board.costs[board.costs["method"] == "unet"]
    assert costs["throughput_images_per_second"].tolist() == [300.0, 20.0]


def test_what_was_not_measured_stays_unknown(make_store: Callable[..., Any]) -> None:
    simulated = make_store(faults={}, predictions=False)
    (simulated.root / "efficiency" / "unet-cpu.json").unlink()
    board = board_of(simulated)
    assert pd.isna(row(board, "unet")["gmacs"]) and pd.isna(row(board, "unet")["throughput_0"])
    (unmeasured,) = board.costs[board.costs["machine"].isna()]["method"]
    assert unmeasured == "unet" and board.costs["method"].tolist() == board.table["method"].tolist()


def sink(method: str, frame: pd.DataFrame) -> pd.DataFrame:
    """U-Net below Otsu's threshold on fundus, the prompted one below it everywhere."""
    if method == "unet":
        frame.loc[frame["modality"] == "fundus", "dice"] = 0.05
    if method == "boxed":
        frame["dice"] = 0.0
    return frame


def test_a_floor_that_is_not_beaten_is_news_whatever_it_costs(make_store: Callable[..., Any]) -> None:
    import shutil

    simulated = make_store(faults={}, change=sink, predictions=False)
    shutil.rmtree(simulated.root / "efficiency")
    notes = [note for note in board_of(simulated).notes if "trivial baseline" in note]
    assert len(notes) == 2
    assert "U-Net (ResNet-18) does not beat a trivial baseline in fundus (0.050; Otsu threshold 0." in notes[0]
    assert "dermoscopy" not in notes[0]
    assert "Box-prompted SAM" in notes[1] and "dermoscopy (0.000;" in notes[1] and " and fundus (0.000;" in notes[1]


def test_of_many_methods_a_few_are_named_and_the_others_counted(make_store: Callable[..., Any]) -> None:
    """Nine equal networks below a floor: sentences stay sentences."""

    def low(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        frame["dice"] = 0.5 if method == "otsu" else np.where(frame["role"] == "test", 0.2, 0.3)
        return frame

    cards = {f"net{n}": {"title": f"Net {n}", "prompt": "none"} for n in range(9)}
    cards["otsu"] = {"title": "Otsu", "prompt": "none", "trivial_baseline": True}
    notes = board_of(make_store(faults={}, cards=cards, change=low, predictions=False)).notes
    (lost,) = (note for note in notes if note.startswith("On unseen domains"))
    assert lost.count("Net ") == 6 and lost.endswith(" and 3 more.")
    floors = [note for note in notes if "not beat" in note]
    assert len(floors) == 7
    assert floors[-1] == "3 more do not beat it in a modality or more: see By domain."


def test_a_floor_is_one_by_its_card(make_store: Callable[..., Any]) -> None:
    cards = {"unet": {"title": "U-Net", "prompt": "none"}, "otsu": {"title": "Otsu", "prompt": "none"}}
    board = board_of(make_store(faults={}, cards=cards, change=sink, predictions=False))
    assert not any("trivial baseline" in note for note in board.notes) and not board.table["trivial_baseline"].any()


def test_the_best_is_held_against_each_other_method_itself(make_store: Callable[..., Any]) -> None:
    """The second surely beats the third, the first does not: the third has rank 2 and yet does not differ from it."""

    def set_values(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        generator = np.random.default_rng(0)
        base = generator.uniform(0.3, 0.6, len(frame))
        noise = generator.normal(0, 0.25, len(frame))
        noise -= noise[(frame["role"] == "test").to_numpy()].mean()
        frame["dice"] = {"delightsam": base + 0.05 + noise, "unet": base + 0.04, "otsu": base}[method]
        return frame

    cards = {name: {"title": name, "prompt": "none"} for name in ("delightsam", "unet", "otsu")}
    board = board_of(make_store(faults={}, cards=cards, change=set_values, predictions=False))
    ranks = dict(zip(board.table["method"], board.table["rank"], strict=True))
    assert board.table["method"].tolist() == ["delightsam", "unet", "otsu"]
    assert not str(ranks["otsu"]).startswith("1")
    assert "These images show no significant difference to it for: unet, otsu." in board.notes[0]
    assert not any("lead over each other" in note for note in board.notes)


def test_a_clear_lead_is_said(complete_board: Leaderboard) -> None:
    assert "lead over each other ranked method excludes 0" in complete_board.notes[0]


def test_what_the_networks_lose_is_said_in_one_line(complete_board: Leaderboard) -> None:
    board = complete_board
    first, second = row(board, "delightsam")["gap"], row(board, "unet")["gap"]
    low, high = sorted((first, second))
    (note,) = (note for note in board.notes if note.startswith("On unseen domains"))
    assert note == (
        f"On unseen domains the learned methods lose on average {low:.2f} to {high:.2f} Dice:"
        f" De-LightSAM {first:.2f}, U-Net (ResNet-18) {second:.2f}."
    )


def gain(method: str, frame: pd.DataFrame) -> pd.DataFrame:
    """U-Net, the best here, does better on test images than on validation images."""
    if method == "unet":
        frame["dice"] = np.where(frame["role"] == "test", 0.95, 0.9) + frame["dice"] / 1000
    return frame


def test_a_negative_gap_is_said_in_other_words(make_store: Callable[..., Any]) -> None:
    notes = board_of(make_store(faults={}, change=gain, predictions=False)).notes
    assert notes[1].startswith("On unseen domains it does better than on seen ones, 0.95")
    assert not any(note.startswith("From domains seen") for note in notes)
    (lost,) = (note for note in notes if note.startswith("On unseen domains De-LightSAM loses"))
    assert "U-Net" not in lost and "−" not in lost
    (better,) = (note for note in notes if note.startswith("Better on unseen domains than on seen ones"))
    assert "U-Net (ResNet-18) by 0.05." in better and "easier, or validation images are few" in better


def test_a_gap_of_nothing_is_no_gain(make_store: Callable[..., Any]) -> None:
    def level(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        frame["dice"] = np.where(frame["role"] == "test", 0.801, 0.8) + np.arange(len(frame)) % 2 / 1e6
        return frame

    notes = board_of(make_store(faults={}, change=level, predictions=False)).notes
    assert any("lose on average 0.00 Dice" in note for note in notes)
    assert not any("etter" in note for note in notes)


def test_one_seed_says_what_the_intervals_lack(complete_board: Leaderboard, make_store: Callable[..., Any]) -> None:
    words = "One seed: the chance of training is not in the intervals."
    assert words in board_of(make_store(faults={}, predictions=False)).notes
    assert words not in complete_board.notes  # two seeds


def test_rows_of_fewer_seeds_are_named(complete: Any) -> None:
    """A lucky seed alone may stand above a mean of three."""
    store = Store(complete.root)
    records = read_records(store, find_suite(store))
    trials = [trial for trial in records.trials if trial.method != "unet" or trial.seed == 0]
    samples = records.samples[(records.samples["method"] != "unet") | (records.samples["seed"] == 0)]
    board = build_leaderboard(replace(records, trials=trials, samples=samples))
    (note,) = [note for note in board.notes if "number of seeds" in note]
    assert "one seed of U-Net" in note and "up to 2 of others" in note
    assert not any("number of seeds" in note for note in build_leaderboard(records).notes)


def test_a_method_ranked_alone_is_not_called_the_highest(make_store: Callable[..., Any]) -> None:
    cards = {"unet": {"title": "U-Net", "prompt": "none"}}
    assert (
        board_of(make_store(cards=cards, faults={}, predictions=False))
        .notes[0]
        .startswith("U-Net is the only ranked method: macro unseen-domain Dice 0.")
    )


def test_few_folds_are_said_and_compare_the_same_domains(make_store: Callable[..., Any]) -> None:
    def far(method: str, frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[frame["domain"] == "screening", "dice"] = 0.0
        return frame

    simulated = make_store(faults={}, folds=2, change=far, predictions=False)
    board = board_of(simulated)
    note = "The folds of this run (protocol.max_folds=2) do not test every domain: 2 of 3 in dermoscopy and fundus."
    assert note in board.notes
    # `screening` is seen in both folds and never tested: its zeros must not lower the seen side.
    assert row(board, "unet")["seen"] > 0.7 and row(board, "unet")["gap"] > 0.05
    assert row(board, "unet")["gap"] == pytest.approx(row(board, "unet")["seen"] - row(board, "unet")["dice"])


def test_the_other_metrics_are_averaged_as_the_dice(complete_board: Leaderboard) -> None:
    delightsam = row(complete_board, "delightsam")
    # In the simulated tables NSD, precision and recall equal the Dice, and both HD95 are the same.
    for name in ("nsd", "precision", "recall"):
        assert delightsam[name] == pytest.approx(delightsam["dice"])
        assert delightsam[f"{name}_low"] == pytest.approx(delightsam["dice_low"])
    assert delightsam["hd95_max"] == pytest.approx(delightsam["hd95"])


def test_a_store_without_any_result_gives_a_board_of_holes(make_store: Callable[..., Any]) -> None:
    every = {(method, fold): "failed" for method in ("delightsam", "unet", "boxed", "otsu") for fold in range(3)}
    board = board_of(make_store(faults=every, predictions=False))
    assert set(board.table["track"]) == {"incomplete"} and board.table["dice"].isna().all()
    assert set(board.domains["state"]) == {"failed"}


def test_costs_of_models_for_one_modality_are_theirs(make_store: Callable[..., Any]) -> None:
    """protocol.scope=per_modality: costs were measured on the model of the method's first trial."""
    simulated = make_store(faults={}, predictions=False)
    store = Store(simulated.root)
    records = read_records(store, find_suite(store))

    def fundus(split: Split) -> Split:
        kept = {role: tuple(key for key in split.of(role) if key.startswith("fundus/")) for role in ROLES}
        return replace(split, **kept)

    one = [replace(t, spec=replace(t.spec, split=fundus(t.spec.split))) for t in records.trials if t.spec]
    row = {**records.efficiency[0], "method": "unet", "modalities": ["fundus"], "gmacs": 9.0, "machine": None}
    for trials, expected in ((one, [9.0]), (records.trials, [])):
        found = cost_table(replace(records, trials=trials, efficiency=[row]))
        assert found.loc[found["method"] == "unet", "gmacs"].dropna().tolist() == expected

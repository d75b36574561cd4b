"""Mistakes in the code of a method: named before anything is trained, with the class, the line and what was expected."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn
from toy_methods import TinyConv

from harness.data.batches.loader import Batch
from harness.errors import TrialFailed, UserError
from harness.methods.adapter import MethodAdapter, checked_loss
from harness.methods.building import build_method
from harness.methods.contract import Stage


class Wrong(TinyConv):
    """Built with what is wrong with it."""

    mistake: Any = None

    def __init__(self, modalities: list[str]) -> None:
        super().__init__(modalities)
        type(self).mistake(self)


def build(monkeypatch: pytest.MonkeyPatch, mistake: Any) -> MethodAdapter:
    monkeypatch.setattr(Wrong, "mistake", mistake)
    return MethodAdapter(build_method("mine", {"_target_": f"{__name__}.Wrong"}, ["xray"]))


def leave(method: Any) -> None:
    raise SystemExit("no")


def look_up(method: Any) -> None:
    {}["x"]


def doubt(method: Any) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("mistake", "said"),
    [(leave, "SystemExit: no"), (look_up, "KeyError: 'x'"), (doubt, "AssertionError")],
)
def test_an_error_of_init_is_reported_with_its_type_and_line(
    monkeypatch: pytest.MonkeyPatch, mistake: Any, said: str
) -> None:
    with pytest.raises(UserError, match=rf"'mine' could not be built .*: {said} \(test_mistakes.py, line \d+\)$"):
        build(monkeypatch, mistake)


def having(**attributes: Any) -> Any:
    def mistake(method: Any) -> None:
        for name, value in attributes.items():
            setattr(method, name, value)

    return mistake


def raising() -> None:
    raise RuntimeError("no stages")


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (having(stages=nn.ModuleList()), "Wrong.stages is of type ModuleList, and the bench calls a function"),
        (having(stages=[Stage("a")]), "Wrong.stages is of type list"),
        (having(after_step=lambda: None), "does not fit. Expected: def after_step(self, step)."),
        (having(prepare=lambda batch: None), "does not fit. Expected: def prepare(self, batch, step)."),
        (having(stages=raising), "Wrong.stages() raised RuntimeError: no stages (test_mistakes.py, line"),
        (having(stages=lambda: None), "Wrong.stages() gave NoneType: expected a list of stages."),
        (having(stages=lambda: "train"), "Wrong.stages() gave str: expected a list of stages."),
        (having(stages=lambda: {"name": "a"}), "Wrong.stages() gave dict: expected a list of stages."),
        (having(stages=lambda: [{"name": "a", "share": "1"}]), "a name of its own and share > 0"),
        (having(stages=lambda: [{"name": "a", "share": float("nan")}]), "a name of its own and share > 0"),
        (having(stages=lambda: [{"name": "a", "trainable": None}]), "trainable=None: expected patterns"),
        (having(stages=lambda: [{"name": "a", "trainable": [1]}]), "trainable=[1]: expected patterns"),
        (having(stages=lambda: [{"name": "a", "gradient": "no"}]), "gradient='no': expected True or False"),
        (having(stages=lambda: [{"name": "a", "learning_rate": True}]), "learning_rate=True: expected factors"),
        (having(stages=lambda: [{"name": "a", "views": True}]), "views=True: expected null"),
    ],
)
def test_what_is_no_optional_part_of_the_contract_is_refused(
    monkeypatch: pytest.MonkeyPatch, mistake: Any, said: str
) -> None:
    with pytest.raises(UserError, match=rf"Method 'mine': .*{re.escape(said)}"):
        build(monkeypatch, mistake)


def test_an_optional_function_that_is_none_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(monkeypatch, having(stages=None)).stages() == [Stage("train")]


def test_a_text_is_one_pattern_and_not_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = build(monkeypatch, having(stages=lambda: [{"name": "a", "trainable": "decoder.*"}]))
    assert adapter.stages() == [Stage("a", trainable=("decoder.*",))]


def with_buffer(buffer: torch.Tensor) -> Any:
    return lambda method: method.register_buffer("own", buffer)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (with_buffer(torch.eye(2).to_sparse()), "'own' in the state of Wrong is stored as torch.sparse_coo"),
        (with_buffer(torch.zeros(2, 1).expand(2, 3)), "'own' in the state of Wrong is expanded"),
        (with_buffer(torch.zeros(2, device="meta")), "'own' in the state of Wrong lies on the device 'meta'"),
        (having(lazy=nn.LazyConv2d(1, 3)), "'lazy.weight' in the state of Wrong has no shape yet"),
        (None, "'_extra_state' in the state of Wrong is of type dict"),
    ],
)
def test_weights_that_no_file_can_hold_are_refused_before_they_are_trained(
    monkeypatch: pytest.MonkeyPatch, mistake: Any, said: str
) -> None:
    if mistake is None:  # torch looks at the class alone
        monkeypatch.setattr(Wrong, "get_extra_state", lambda self: {}, raising=False)
        mistake = having()
    with pytest.raises(UserError, match=re.escape(said)):
        build(monkeypatch, mistake)


def batch() -> Batch:
    zeros = torch.zeros(1, dtype=torch.int64)
    return Batch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4), zeros, zeros, ["xray/a/1"])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "gave NoneType, expected logits, a tensor of floating point of shape (1, 1, 4, 4)."),
        ((torch.zeros(1, 1, 4, 4), 0), "gave tuple, expected logits"),
        (torch.zeros(1, 4, 4), "gave logits of shape (1, 4, 4), expected (1, 1, 4, 4)."),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), "gave torch.bool, expected logits"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.int64), "gave torch.int64, expected logits"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.complex64), "gave torch.complex64, expected logits"),
        (torch.full((1, 1, 4, 4), float("nan")), "gave NaN or infinite logits."),
    ],
)
@pytest.mark.parametrize("function", ["predict", "predict_tested", "predict_oracle"])
def test_what_is_no_logits_is_refused_with_the_function_that_gave_it(
    monkeypatch: pytest.MonkeyPatch, function: str, answer: Any, said: str
) -> None:
    module = TinyConv(["xray"])
    monkeypatch.setattr(module, function, lambda *_: answer, raising=False)
    with pytest.raises(TrialFailed, match=re.escape(f"TinyConv.{function} {said}")):
        MethodAdapter(module).test_logits(batch(), "off")


def test_guesses_that_are_no_tensor_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = TinyConv(["xray"])
    monkeypatch.setattr(module, "guess_modality", lambda images: [0], raising=False)
    with pytest.raises(TrialFailed, match=r"guess_modality gave list: expected a tensor \(1,\) int64"):
        MethodAdapter(module).guessed_names(batch(), ["xray"], "off")


def test_a_loss_may_have_any_shape_of_one_number_and_must_be_of_floating_point() -> None:
    one = torch.ones(1, 1, requires_grad=True)
    assert checked_loss(nn.Identity(), (one, None)).shape == ()
    with pytest.raises(TrialFailed, match=r"a loss of floating point; found torch.complex64"):
        checked_loss(nn.Identity(), (one.to(torch.complex64).sum(), {}))

"""What pydantic finds is reported by the key as a user writes it, with what was expected and what was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from harness.config.validation import Checked, Expected, OneOf, Range, Text, expectation, mismatch, rule_of, validated
from harness.errors import UserError


@dataclass(frozen=True)
class Layer(Checked):
    kind: Annotated[str, OneOf("linear", "conv")]
    width: Annotated[int, Range(1, 64)] = 8


@dataclass(frozen=True)
class Network(Checked):
    title: Text
    layers: tuple[Layer, ...]
    rate: Annotated[float, Range(0.5)] | None = None
    pruned: bool = False
    inputs: Annotated[list[str], Expected("a list of names", "[a,b]")] | None = None
    modes: tuple[Annotated[bool | str, OneOf(True, "auto")], ...] = ()
    share: Annotated[float, Expected("a number above 0", gt=0, strict=True)] = 1.0
    rest: dict[str, Any] | None = None


SOUND: dict[str, Any] = {"title": "Net", "layers": [{"kind": "conv"}]}


def test_what_fits_becomes_an_object() -> None:
    content = {**SOUND, "rate": 1, "inputs": ["a"], "modes": [True, "auto"], "rest": {"a": [1]}}
    found = validated(Network, content)
    assert found == Network("Net", (Layer("conv", 8),), 1.0, False, ["a"], (True, "auto"), 1.0, {"a": [1]})
    assert type(found.rate) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "net.titel is unknown. Did you mean 'title'?"),
        ({3: "x"}, "net.3 is unknown. Available: inputs, layers, modes, pruned, rate, rest, share, title."),
        ({"title": 3}, "net.title=3: expected a text, found 3. Write it in quotes where YAML makes something else of it."),
        ({"title": " "}, "net.title= : expected a text, found ' '. Write it in quotes where YAML makes something else of it."),
        ({"layers": {}}, "net.layers={}: expected a list, found {}."),
        ({"layers": [{"kind": "con"}]}, "net.layers[0].kind=con is unknown: expected one of linear, conv. Did you mean 'conv'?"),
        ({"layers": [{"kind": ["conv"]}]}, "net.layers[0].kind=['conv'] is unknown: expected one of linear, conv. Did you mean 'conv'?"),
        ({"layers": [3]}, "net.layers[0]=3: expected one of its keys, for example net.layers[0].kind=... (kind, width), found 3."),
        ({"layers": [{"kind": "conv", "width": 65}]}, "net.layers[0].width=65 is out of range: expected 1 to 64."),
        ({"layers": [{"kind": "conv", "width": "8"}]}, "net.layers[0].width=8: expected a whole number, found '8'."),
        ({"layers": [{"kind": "conv", "width": True}]}, "net.layers[0].width=true: expected a whole number, found True."),
        ({"layers": [{"width": 2}]}, "net.layers[0].kind is missing: expected one of linear, conv."),
        ({"rate": 0.4}, "net.rate=0.4 is out of range: expected 0.5 or more."),
        ({"rate": math.inf}, "net.rate=inf is out of range: expected 0.5 or more."),
        ({"rate": math.nan}, "net.rate=nan is out of range: expected 0.5 or more."),
        ({"rate": "fast"}, "net.rate=fast: expected a number or null, found 'fast'."),
        ({"pruned": "perhaps"}, "net.pruned=perhaps: expected true or false, found 'perhaps'."),
        ({"inputs": "a"}, "net.inputs=a: expected a list of names or null, for example net.inputs=[a,b], found 'a'."),
        ({"inputs": ["a", 1, 2]}, "net.inputs=['a', 1, 2]: expected a list of names or null, for example net.inputs=[a,b], found ['a', 1, 2]."),
        ({"modes": [False]}, "net.modes[0]=false is unknown: expected one of true, auto."),
        ({"share": 0}, "net.share=0: expected a number above 0, found 0."),
        ({"rest": 3}, "net.rest=3: expected lines of key: value or null, found 3."),
    ],
)  # fmt: skip
def test_a_mistake_is_reported(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(Network, {**SOUND, **change}, "net")
    assert str(caught.value) == message


def test_all_mistakes_are_reported_at_once_and_missing_keys_together() -> None:
    with pytest.raises(UserError) as caught:
        validated(Network, {"rate": 0, "shar": 1})
    assert str(caught.value).splitlines() == [
        "rate=0 is out of range: expected 0.5 or more.",
        "shar is unknown. Did you mean 'share'?",
        "title, layers are missing.",
    ]


def test_content_that_is_no_mapping() -> None:
    with pytest.raises(
        UserError, match=r"^expected one of its keys, for example kind=... \(kind, width\), found \[\]\.$"
    ):
        validated(Layer, [])


def test_what_a_key_takes_is_known_without_a_value() -> None:
    assert expectation(Network, "rate") == "a number or null"
    assert expectation(Network, "inputs") == "a list of names or null, for example inputs=[a,b]"
    assert mismatch(Network, "rate", "fast") == "rate=fast: expected a number or null, found 'fast'."
    rate, pruned = rule_of(Network, "rate"), rule_of(Network, "pruned")
    assert isinstance(rate, Range) and (rate.low, rate.high, pruned) == (0.5, math.inf, None)


def test_a_long_value_is_cut_before_the_message_but_whole_at_its_end() -> None:
    text = "x" * 100
    assert mismatch(Network, "rate", text).startswith(f"rate={'x' * 57}...: expected a number")
    assert mismatch(Network, "layers", text).endswith(f"found '{text}'.")

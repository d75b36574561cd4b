"""Checks content from outside (YAML files, command lines) against dataclasses: pydantic finds the mistakes, this file words them.

A schema is a dataclass that inherits from `Checked`. Its annotations say which values it takes:

    width: Annotated[int, Range(1)]
    mode: Annotated[str, OneOf("zero_shot", "decoder")]
    names: Annotated[list[str], Expected("a list of names, for example [isic2017, ph2]")]

pydantic is imported when something is checked, not before: it takes a tenth of a second, and `--help` does without.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from harness.errors import UserError, did_you_mean, near_name


class Checked:
    """Base of a schema: it refuses keys that it does not have, infinity and NaN."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


T = TypeVar("T", bound=Checked)


class Expected:
    """In an annotation: what a value must be, in words, and in pydantic's constraints such as `gt=0`.

    Args:
        example: a value, as a user writes it.
        hint: a sentence for the end of the message.
    """

    def __init__(self, words: str, example: str = "", hint: str = "", **constraints: Any) -> None:
        self.words, self.example, self.hint, self.constraints = words, example, hint, constraints

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return {**handler(source), **self.constraints}


class Range(Expected):
    """In an annotation: a number from `low` to `high`, which both belong to it. Neither `true` nor "3" is a number."""

    def __init__(self, low: float, high: float = math.inf) -> None:
        words = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        super().__init__(words, strict=True, ge=low)
        if high != math.inf:
            self.constraints["le"] = high
        self.low, self.high = low, high


class OneOf(Expected):
    """In an annotation: one of these values. A value that is near one is answered with "Did you mean"."""

    def __init__(self, *choices: str | bool) -> None:
        self.choices = choices
        super().__init__(f"one of {', '.join(map(_text, choices))}")

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.literal_schema(list(self.choices))


Text = Annotated[
    str, Expected("a text", hint="Write it in quotes where YAML makes something else of it.", pattern=r"\S")
]
Flag = Annotated[bool, Expected("true or false", strict=True)]
"""Where the content is kept as it was read: "no" in quotes would count as true."""

_SWITCHES = {"True": "on", "False": "off"}
_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "lines of key: value",
}


def validated(schema: type[T], content: object, where: str = "") -> T:
    """An object of `schema` from a mapping.

    Args:
        where: the key of `content` as a user writes it, for example "methods.unet.card"; "" for the whole configuration.

    Raises:
        UserError: unknown and missing keys, wrong types, values out of range; a line for each.
    """
    from pydantic import ValidationError

    try:
        # mypy takes a class for unhashable where its objects are.
        return _adapter(schema).validate_python(content)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = _messages(error.errors(include_url=False), _Field(where, schema, content))
        raise UserError("\n".join(dict.fromkeys(lines))) from error


def mismatch(schema: type[Checked], key: str, value: object) -> str:
    """The message about a value that a dotted key of the schema does not take."""
    return replace(_field(schema, key), value=value).mismatch()


def expectation(schema: type[Checked], key: str) -> str:
    """What a dotted key of the schema takes, for the middle of a sentence: "a whole number or null"."""
    return _field(schema, key).expected()


def takes_list(schema: type[Checked], key: str) -> bool:
    """Whether a dotted key of the schema takes a list."""
    kind = _parts(_field(schema, key).hint)[0]
    return (get_origin(kind) or kind) is list


def rule_of(schema: type[Checked], key: str) -> Expected | None:
    """What the annotation of a dotted key of the schema says besides the type."""
    return _parts(_field(schema, key).hint)[1]


def _field(schema: type[Checked], key: str) -> _Field:
    return functools.reduce(_Field.below, key.split("."), _Field("", schema, None))


@functools.cache
def _adapter(schema: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


@dataclass(frozen=True)
class _Field:
    """A place in a schema, and what a user gave there."""

    key: str
    hint: Any
    value: object

    @property
    def keys(self) -> list[str]:
        """Of a dataclass; else none."""
        kind = _parts(self.hint)[0]
        return [item.name for item in fields(kind)] if is_dataclass(kind) else []

    def below(self, part: str | int) -> _Field:
        """A key of a dataclass, or an item of a list; of a list whose items have no rule, the list itself."""
        kind = _parts(self.hint)[0]
        if is_dataclass(kind):
            hint = get_type_hints(kind, include_extras=True).get(str(part))
            return _Field(f"{self.key}.{part}" if self.key else str(part), hint, _item(self.value, part))
        item = next(iter(get_args(kind)), Any)
        kind, rule, _ = _parts(item)
        if rule is None and not is_dataclass(kind):
            return self
        return _Field(f"{self.key}[{part}]", item, _item(self.value, part))

    def expected(self) -> str:
        kind, rule, optional = _parts(self.hint)
        words, example = _TYPES.get(get_origin(kind) or kind, "another type"), ""
        if self.keys:
            prefix = f"{self.key}." if self.key else ""
            words, example = "one of its keys", f"{prefix}{self.keys[0]}=... ({', '.join(self.keys)})"
        elif rule is not None and not isinstance(rule, Range):
            words, example = rule.words, rule.example and f"{self.key}={rule.example}"
        return f"{words}{' or null' if optional else ''}{example and f', for example {example}'}"

    def mismatch(self) -> str:
        """The message about a value that the annotation does not take."""
        kind, rule, _ = _parts(self.hint)
        start = f"{self.key}={_shown(self.value)}" if self.key else ""
        if isinstance(rule, OneOf):
            word = _SWITCHES.get(str(self.value))
            if word in rule.choices:
                return f'{self.key}: expected {rule.words}. Write "{word}" in quotes: without them YAML reads {self.value}.'
            return f"{start} is unknown: expected {rule.words}.{near_name(str(self.value), map(_text, rule.choices))}"
        number = (int, float) if kind is float else kind
        if isinstance(rule, Range) and isinstance(self.value, number) and not isinstance(self.value, bool):
            return f"{start} is out of range: expected {rule.words}."
        hint = f" {rule.hint}" if rule and rule.hint else ""
        return f"{start and start + ': '}expected {self.expected()}, found {self.value!r}.{hint}"


def _messages(errors: Sequence[Mapping[str, Any]], root: _Field) -> Iterator[str]:
    absent: dict[str, list[_Field]] = {}
    for error in errors:
        *parents, last = error["loc"] or ("",)
        parent = functools.reduce(_Field.below, parents, root)
        if error["type"] == "missing":
            absent.setdefault(parent.key, []).append(parent.below(last))
        elif error["type"] in ("unexpected_keyword_argument", "invalid_key"):
            yield f"{parent.below(last).key} is unknown.{did_you_mean(str(last), parent.keys)}"
        else:
            yield (parent.below(last) if error["loc"] else root).mismatch()
    for key, found in absent.items():
        if len(found) == 1:
            yield f"{found[0].key} is missing: expected {found[0].expected()}."
        else:
            names = ", ".join(field.key.rpartition(".")[2] for field in found)
            yield f"{key} lacks {names}: these keys are required." if key else f"{names} are missing."


def _parts(hint: Any) -> tuple[Any, Expected | None, bool]:
    """The type in an annotation, its rule, and whether null is allowed."""
    rule, optional = None, False
    while True:
        if get_origin(hint) is Annotated:
            rule = next((each for each in hint.__metadata__ if isinstance(each, Expected)), rule)
            hint = hint.__origin__
        elif NoneType in get_args(hint):
            hint, optional = next(option for option in get_args(hint) if option is not NoneType), True
        else:
            return hint, rule, optional


def _item(value: Any, part: str | int) -> object:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _shown(value: object) -> str:
    text = _text(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: object) -> str:
    """As YAML writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

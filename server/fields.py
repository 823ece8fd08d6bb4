"""Checked records: dataclasses whose fields carry a rule that says which values they may hold.

A field is declared as `Annotated[type, rule]`. A rule takes the field's name and a value of unknown origin and returns
the value, or raises ProtocolError saying what was found and what is expected. Nothing here knows a particular message.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from drba.errors import ProtocolError

Rule = Callable[[str, object], Any]
R = TypeVar("R", bound="Record")

SHOWN_CHARACTERS = 40  # of a wrong value in an error line: enough to recognise it, too few to flood a log


def show(value: object) -> str:
    """A short description of any value; never recurses, because hostile input may be nested a thousand deep."""
    if isinstance(value, (str, bytes)):
        return repr(value[:SHOWN_CHARACTERS]) + ("..." if len(value) > SHOWN_CHARACTERS else "")
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return f"a {type(value).__name__}"


def _wrong(name: str, value: object, expected: str) -> ProtocolError:
    return ProtocolError(f"{name} is {show(value)}, expected {expected}")


def integer(low: int, high: int) -> Rule:
    def check(name: str, value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # a bool is an int to isinstance
            raise _wrong(name, value, f"an integer in {low}..{high}")
        return value

    return check


def number(low: float, high: float) -> Rule:
    """A finite float in low..high; an integer is converted, because other languages' packers write 1.0 as 1."""

    def check(name: str, value: object) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type, operator]
            raise _wrong(name, value, f"a number in {low:g}..{high:g}")
        return float(value)  # type: ignore[arg-type]

    return check


def boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def text(max_characters: int) -> Rule:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > max_characters:
            raise _wrong(name, value, f"text of at most {max_characters} characters")
        return value

    return check


def optional(rule: Rule) -> Rule:
    return lambda name, value: None if value is None else rule(name, value)


def sequence(rule: Rule, max_items: int) -> Rule:
    def check(name: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > max_items:
            raise _wrong(name, value, f"a list of at most {max_items}")
        return tuple(rule(f"{name}[{index}]", item) for index, item in enumerate(value))

    return check


def pair(first: Rule, second: Rule) -> Rule:
    def check(name: str, value: object) -> tuple[Any, Any]:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise _wrong(name, value, "a pair")
        return first(f"{name}[0]", value[0]), second(f"{name}[1]", value[1])

    return check


def record(kind: type[Record]) -> Rule:
    """A nested record, as a map on the wire."""

    def check(name: str, value: object) -> Record:
        if not isinstance(value, kind):
            return kind.from_map(value, name)
        value.check()
        return value

    return check


@dataclass(frozen=True)
class Record:
    """Base of everything that travels: `check` validates, `to_map`/`from_map` convert, in the order of declaration."""

    label: ClassVar[str] = "record"

    def check(self) -> None:
        """Raise ProtocolError unless every field keeps its rule and they fit each other."""
        for name, rule in _rules(type(self)).items():
            rule(f"{self.label}.{name}", getattr(self, name))
        self.check_together()

    def check_together(self) -> None:
        """Raise ProtocolError where fields that are right on their own do not fit each other; for subclasses."""

    def to_map(self) -> dict[str, object]:
        return {name: _plain(getattr(self, name)) for name in _rules(type(self))}

    @classmethod
    def from_map(cls: type[R], value: object, name: str = "") -> R:
        """Build and check a record; exactly its own keys are accepted."""
        name = name or cls.label
        if not isinstance(value, dict):
            raise _wrong(name, value, "a map")
        rules = _rules(cls)
        if value.keys() != rules.keys():
            found = ", ".join(sorted(show(key) for key in value.keys() ^ rules.keys()))[:200]
            raise ProtocolError(f"{name} has missing or unknown fields: {found}; expected {', '.join(rules) or 'none'}")
        made = cls(**{key: rule(f"{name}.{key}", value[key]) for key, rule in rules.items()})
        made.check_together()
        return made


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_map()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


_RULES: dict[type[Record], dict[str, Rule]] = {}  # by class: reading type hints costs more than checking a message


def _rules(cls: type[Record]) -> dict[str, Rule]:
    if cls in _RULES:
        return _RULES[cls]
    hints = get_type_hints(cls, include_extras=True)
    rules: dict[str, Rule] = {}
    for field in fields(cls):
        hint = hints[field.name]
        if get_origin(hint) is not Annotated:
            raise TypeError(f"{cls.__name__}.{field.name} has no rule: declare it as Annotated[type, rule]")
        rules[field.name] = get_args(hint)[1]
    _RULES[cls] = rules
    return rules

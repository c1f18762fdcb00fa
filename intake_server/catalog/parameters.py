"""User parameters: named, typed, checked inputs of a catalog entry (protocol §9.4).

This module turns what a caller or a catalog author wrote into a value of the declared type, or says
why it cannot. It never expands ``env()`` or ``shell()`` and never renders a template: a value is data here.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

EPOCH = datetime(1970, 1, 1)
TRUE_WORDS = frozenset({"true", "yes", "on", "1", "y", "t"})
FALSE_WORDS = frozenset({"false", "no", "off", "0", "n", "f", ""})
_NO_DEFAULT: dict[str, Any] = {
    "bool": False,
    "int": 0,
    "float": 0.0,
    "str": "",
    "unicode": "",
    "list": [],
    "tuple": (),
    "dict": {},
    "datetime": EPOCH,
    "mlist": None,
    "other": None,
}
TYPES = frozenset(_NO_DEFAULT)
_LONGEST_MOMENT = 100


class ParameterError(Exception):
    """A value does not fit its parameter; the text names the parameter, the value and what was expected."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declaration of one user parameter.

    Attributes:
        name: The name that callers and templates use.
        description: What it means, for people.
        type: One of `TYPES`.
        default: The declared default, unexpanded; the type's own empty value when none was declared.
        minimum: Smallest value allowed, None for no limit.
        maximum: Largest value allowed, None for no limit.
        allowed: The only values allowed (for ``mlist``: of every item), None for any.
        is_sent: Whether the default is what a caller gave when it opened the catalog: data, and nothing to expand.
    """

    name: str
    description: str
    type: str
    default: Any = None
    minimum: Any = None
    maximum: Any = None
    allowed: tuple[Any, ...] | None = None
    is_sent: bool = False

    @classmethod
    def declare(cls, name: str, definition: Mapping[str, Any]) -> Parameter:
        """Read a declaration whose types were already checked by the grammar."""
        kind = definition.get("type", "str")
        allowed = definition.get("allowed")
        default = definition["default"] if "default" in definition else _NO_DEFAULT[kind]
        return cls(
            name=name,
            description=definition["description"],
            type=kind,
            default=default,
            minimum=definition.get("min"),
            maximum=definition.get("max"),
            allowed=None if allowed is None else tuple(allowed),
        )

    @property
    def empty(self) -> Any:
        """The value of this type when nothing was given at all."""
        return _NO_DEFAULT[self.type]

    def with_sent(self, value: Any) -> Parameter:
        """The same declaration with a caller's value as its default."""
        return replace(self, default=value, is_sent=True)

    def describe(self) -> dict[str, Any]:
        """The parameter as listings carry it (§3.1): ``default`` and ``type`` always, limits only where declared."""
        described: dict[str, Any] = {"name": self.name, "description": self.description, "type": self.type}
        for key, value in (("min", self.minimum), ("max", self.maximum)):
            if value is not None:
                described[key] = value
        if self.allowed is not None:
            described["allowed"] = list(self.allowed)
        described["default"] = self.default
        return described

    def is_default(self, value: Any) -> bool:
        """Whether a caller's value says no more than "use the default" (§9.5, rule 2)."""
        return type(value) is type(self.default) and bool(value == self.default)

    def accept(self, value: Any, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Any:
        """Coerce a value to the declared type and check it against the declared limits.

        Args:
            value: What was given.
            now: The clock, for the words ``now`` and ``today`` of ``datetime`` parameters.

        Raises:
            ParameterError: The value has another type, is out of range or is not one of those allowed.
        """
        coerced = self._coerce(value, now)
        if coerced is None:
            return None
        minimum, maximum = self._limit(self.minimum, now), self._limit(self.maximum, now)
        try:
            if minimum is not None and coerced < minimum:
                raise ParameterError(f"parameter {self.name!r}: {_short(value)} is less than {_short(self.minimum)}")
            if maximum is not None and coerced > maximum:
                raise ParameterError(f"parameter {self.name!r}: {_short(value)} is more than {_short(self.maximum)}")
        except TypeError as error:
            raise self._mismatch(value) from error
        if self.allowed is not None:
            self._check_allowed(coerced, now)
        return coerced

    def _check_allowed(self, coerced: Any, now: Callable[[], datetime]) -> None:
        if self.type == "mlist":
            permitted: Sequence[Any] = list(self.allowed or ())
            given: Sequence[Any] = coerced
        else:
            permitted = [self._coerce(item, now) for item in self.allowed or ()]
            given = [coerced]
        for item in given:
            if item not in permitted:
                raise ParameterError(
                    f"parameter {self.name!r}: {_short(item)} is not one of the allowed values {_short(permitted)}"
                )

    def _limit(self, limit: Any, now: Callable[[], datetime]) -> Any:
        return None if limit is None else self._coerce(limit, now)

    def _coerce(self, value: Any, now: Callable[[], datetime]) -> Any:
        try:
            return _COERCIONS[self.type](value, now)
        except (ValueError, TypeError, OverflowError, SyntaxError, RecursionError, MemoryError) as error:
            raise self._mismatch(value) from error

    def _mismatch(self, value: Any) -> ParameterError:
        return ParameterError(f"parameter {self.name!r}: expected {self.type}, found {_short(value)}")


def merge(inherited: Sequence[Parameter], own: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters of an entry: the catalog's first, the entry's own overriding by name (§3.1)."""
    merged = {parameter.name: parameter for parameter in inherited}
    merged.update((parameter.name, parameter) for parameter in own)
    return tuple(merged.values())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _literal(value: Any) -> Any:
    return ast.literal_eval(value) if isinstance(value, str) else value


def _to_bool(value: Any, _now: Callable[[], datetime]) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise ValueError(value)
    if isinstance(value, (bool, int, float)):
        return bool(value)
    raise TypeError(value)


def _to_int(value: Any, _now: Callable[[], datetime]) -> int:
    number = _literal(value)
    if not isinstance(number, (int, float)) or (isinstance(number, float) and not math.isfinite(number)):
        raise TypeError(value)
    return int(number)


def _to_float(value: Any, _now: Callable[[], datetime]) -> float:
    if isinstance(value, str):
        return float(value)
    if not isinstance(value, (int, float)):
        raise TypeError(value)
    return float(value)


def _to_text(value: Any, _now: Callable[[], datetime]) -> str:
    if isinstance(value, (dict, list, tuple, bytes)) or value is None:
        raise TypeError(value)
    return str(value)


def _to_list(value: Any, _now: Callable[[], datetime]) -> list[Any]:
    found = _literal(value)
    if isinstance(found, (dict, bytes)):
        raise TypeError(value)
    return list(found)


def _to_tuple(value: Any, now: Callable[[], datetime]) -> tuple[Any, ...]:
    return tuple(_to_list(value, now))


def _to_dict(value: Any, _now: Callable[[], datetime]) -> dict[str, Any]:
    found = _literal(value)
    if not isinstance(found, dict):
        raise TypeError(value)
    return found


def _to_datetime(value: Any, now: Callable[[], datetime]) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() in ("now", "today"):
        moment = now().replace(tzinfo=None)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return moment if value.strip().lower() == "now" else midnight
    if isinstance(value, bool) or not isinstance(value, (str, int, date)):
        raise TypeError(value)
    if isinstance(value, str) and len(value) > _LONGEST_MOMENT:
        raise ValueError(value)
    stamp: Any = pd.Timestamp(value)
    if stamp is pd.NaT:
        raise ValueError(value)
    found: datetime = stamp.to_pydatetime(warn=False)
    return found


def _as_given(value: Any, _now: Callable[[], datetime]) -> Any:
    return value


_COERCIONS: dict[str, Callable[[Any, Callable[[], datetime]], Any]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "str": _to_text,
    "unicode": _to_text,
    "list": _to_list,
    "tuple": _to_tuple,
    "dict": _to_dict,
    "datetime": _to_datetime,
    "mlist": _to_list,
    "other": _as_given,
}

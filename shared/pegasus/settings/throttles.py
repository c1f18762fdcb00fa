"""The grammar of throttles in a table's variables (§9.4): replica servers act on them, metaservers check them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.pegasus.settings.values import parse_int

_SUFFIXES = {"K": 1024, "M": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a throttle.

    Attributes:
        units: How many units a second the whole table may use.
        wait_ms: How long a request over the limit is held back.
    """

    units: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """A parsed setting; None does not limit."""

    delay: Limit | None = None
    reject: Limit | None = None


def parse_throttle(text: str) -> Throttle:
    """Read a setting such as ``20K*delay*100,50K*reject*100``.

    Raises:
        ValueError: The text is the hint for operators (§9.4).
    """
    if not text:
        raise ValueError("The value shouldn't be empty")
    limits: dict[str, Limit] = {}
    for item in text.split(","):
        fields = item.split("*")
        if len(fields) != 3:
            raise ValueError(f"The field count of '{item}' separated by '*' must be 3")
        units = _units(fields[0])
        if fields[1] not in ("delay", "reject"):
            raise ValueError(f"'{fields[1]}' should be 'delay' or 'reject'")
        if fields[1] in limits:
            raise ValueError(f"duplicate '{fields[1]}' config")
        limits[fields[1]] = Limit(units, _unsigned(fields[2]))
    return Throttle(limits.get("delay"), limits.get("reject"))


def parse_size_throttle(text: str) -> Throttle:
    """Read a by-size setting of reads: a bare number of bytes a second, or the form of `parse_throttle`.

    Raises:
        ValueError: The text is the hint for operators (§9.4).
    """
    if re.fullmatch(r"[0-9]+[KM]?", text):
        return Throttle(reject=Limit(_units(text), 0))
    throttle = parse_throttle(text)
    if throttle.reject is not None and throttle.reject.units == 0:
        raise ValueError(f"invalid value '{text}', the reject rate should be > 0")
    return throttle


def _units(text: str) -> int:
    digits, factor = (text[:-1], _SUFFIXES[text[-1]]) if text[-1:] in _SUFFIXES else (text, 1)
    units = _unsigned(digits) * factor
    if units >= 2**64:
        raise ValueError(f"'{digits}' result is overflow")
    return units


def _unsigned(text: str) -> int:
    try:
        return parse_int(text, 64, is_signed=False)
    except ValueError:
        raise ValueError(f"'{text}' should be an unsigned integer") from None

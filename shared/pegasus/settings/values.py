"""Integers and booleans as Pegasus reads them, in arguments of calls and in settings (§2.5)."""

from __future__ import annotations

import re

__all__ = ["parse_bool", "parse_int"]

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9A-Fa-f]+|[0-9]+)")


def parse_int(text: str, bits: int = 32, *, is_signed: bool = True) -> int:
    """An integer by C's base-0 rules: `0x1f`, leading `0` for octal, decimal.

    Raises:
        ValueError: It is no integer, has a minus sign where none is allowed, or is out of range.
    """
    match = _INTEGER.fullmatch(text)
    if match is None or (match[1] == "-" and not is_signed):
        raise ValueError(f"'{text}' is not an integer")
    sign, digits = match.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    magnitude = int(digits, base)
    value = -magnitude if sign == "-" else magnitude
    lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    if not lowest <= value <= highest:
        raise ValueError(f"'{text}' is out of range")
    return value


def parse_bool(text: str) -> bool:
    """`true` or `false` in any case, nothing else.

    Raises:
        ValueError: It is neither.
    """
    lowered = text.lower()
    if lowered not in ("true", "false") or not text.isascii():
        raise ValueError(f"'{text}' is not a boolean")
    return lowered == "true"

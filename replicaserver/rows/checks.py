"""What reads filter by and what conditional writes require (protocol §11.2, §11.3). Pure functions of bytes."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from shared.pegasus.wire.structures.rrdb import CheckType, FilterType

INT64 = range(-(2**63), 2**63)

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_MATCHES: dict[int, Callable[[bytes, bytes], bool]] = {
    FilterType.MATCH_ANYWHERE: lambda text, pattern: pattern in text,
    FilterType.MATCH_PREFIX: bytes.startswith,
    FilterType.MATCH_POSTFIX: bytes.endswith,
}
_COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ge, operator.gt)


class CheckError(ValueError):
    """A condition that cannot be evaluated: its type is unknown, or a number was needed and none was found."""


def key_filter(kind: int, pattern: bytes) -> Callable[[bytes], bool] | None:
    """A test of keys; None when every key passes.

    Args:
        kind: A `FilterType`; one that does not exist lets nothing pass.
        pattern: What to look for; an empty one is in every key.
    """
    if kind == FilterType.NO_FILTER or (kind in _MATCHES and not pattern):
        return None
    match = _MATCHES.get(kind)
    if match is None:
        return lambda _text: False
    return lambda text: match(text, pattern)


def parse_int64(text: bytes) -> int | None:
    """A decimal 64-bit integer, None when the text is not one."""
    if _INTEGER.fullmatch(text) is None or len(text) > 64:
        return None
    number = int(text)
    return number if number in INT64 else None


def passes(check_type: int, operand: bytes, value: bytes | None) -> bool:
    """Whether a value meets a condition.

    Args:
        check_type: A `CheckType`.
        operand: What the value is compared with.
        value: The value that is there, None when there is none.

    Raises:
        CheckError: The type is unknown, or the value or the operand should be a number and is not.
    """
    if check_type == CheckType.NO_CHECK:
        return True
    if check_type == CheckType.VALUE_NOT_EXIST:
        return value is None
    if check_type == CheckType.VALUE_NOT_EXIST_OR_EMPTY:
        return not value
    if not CheckType.VALUE_EXIST <= check_type <= CheckType.VALUE_INT_GREATER:
        raise CheckError(f"there is no check of type {check_type}")
    if value is None:
        return False
    if check_type == CheckType.VALUE_EXIST:
        return True
    if check_type == CheckType.VALUE_NOT_EMPTY:
        return bool(value)
    if check_type <= CheckType.VALUE_MATCH_POSTFIX:
        kind = check_type - CheckType.VALUE_MATCH_ANYWHERE + FilterType.MATCH_ANYWHERE
        return _MATCHES[kind](value, operand)
    if check_type <= CheckType.VALUE_BYTES_GREATER:
        return bool(_COMPARISONS[check_type - CheckType.VALUE_BYTES_LESS](value, operand))
    return _compare_numbers(check_type, operand, value)


def _compare_numbers(check_type: int, operand: bytes, value: bytes) -> bool:
    left, right = parse_int64(value), parse_int64(operand)
    if left is None:
        raise CheckError("the value is not a decimal 64-bit integer")
    if right is None:
        raise CheckError("the operand is not a decimal 64-bit integer")
    return bool(_COMPARISONS[check_type - CheckType.VALUE_INT_LESS](left, right))

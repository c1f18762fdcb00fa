"""Conditions in text form, such as ``x >= 30 and name == AAPL``: the filters of the state query language.

The command line reads them here; `gateway/pages/query.js` reads the same grammar in the browser, and one table in the
tests holds both to it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_SEPARATOR = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'[^']*'|\[(?:"(?:[^"\\]|\\.)*"|[^\]"])*\]|\s+and\s+|,)""", re.DOTALL | re.IGNORECASE
)
_COMPARISON = re.compile(r"([A-Za-z_][\w.]*)\s*(==|!=|<=|>=|<|>|=)\s*(.+)", re.DOTALL)
_NULL_TEST = re.compile(r"([A-Za-z_][\w.]*)\s+is(\s+not)?\s+null", re.IGNORECASE)
_MEMBERSHIP = re.compile(r"([A-Za-z_][\w.]*)\s+in\s+(\[.*\])", re.DOTALL | re.IGNORECASE)
_NEEDS_QUOTES = re.compile(r"""[<>=!"]|(?:^|\s)(?:and|or)(?:\s|$)""", re.IGNORECASE)


def read_conditions(text: str) -> list[dict[str, Any]]:
    """The filters of conditions that are joined by ``and`` or commas; all must hold.

    Raises:
        ValueError: A part of the text is no condition.
    """
    return [_condition(part) for part in _parts(text)]


def _parts(text: str) -> list[str]:
    parts = [""]
    for number, piece in enumerate(_SEPARATOR.split(text)):
        is_between = number % 2 == 1  # and not what the text begins with
        if is_between and (piece == "," or piece.strip().lower() == "and"):
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts if part.strip()]


def _condition(text: str) -> dict[str, Any]:
    found = _NULL_TEST.fullmatch(text)
    if found:
        return {"attr": found[1], "by": {"where": "not_null" if found[2] else "is_null"}}
    found = _MEMBERSHIP.fullmatch(text)
    if found:
        try:
            return {"attr": found[1], "by": {"where": "in", "value": _json(found[2])}}
        except ValueError:
            raise ValueError(f'{found[2]!r} is no list; expected one such as [1, 2] or ["a", "b"]') from None
    found = _COMPARISON.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no condition; expected FIELD OPERATOR VALUE, such as 'x >= 30'")
    attr, where, written = found.groups()
    where = "==" if where == "=" else where
    if written.startswith("@"):
        return {"attr": attr, "by": {"attr": written[1:], "where": where}}
    return {"attr": attr, "by": {"value": _value(written), "where": where}}


def _value(written: str) -> Any:
    if len(written) > 1 and written[0] == written[-1] == "'":
        return written[1:-1]
    try:
        value = _json(written)
    except ValueError:
        if _NEEDS_QUOTES.search(written):
            raise ValueError(
                f"{written!r} is no value; write text of that kind in quotes, and join conditions by 'and' or commas"
            ) from None
        return written
    return written if isinstance(value, (list, dict)) else value


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

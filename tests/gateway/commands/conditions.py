"""Conditions as people write them, and the filters that they mean, on the command line and on the page."""

from __future__ import annotations

from typing import Any


def _by(attr: str, where: str, value: Any) -> dict[str, Any]:
    return {"attr": attr, "by": {"value": value, "where": where}}


RIGHT: dict[str, list[dict[str, Any]]] = {
    "": [],
    "x>=30": [_by("x", ">=", 30)],
    "x = 30": [_by("x", "==", 30)],
    "x=-1.5e3": [_by("x", "==", -1500)],
    "s==AAPL": [_by("s", "==", "AAPL")],
    "s==New York": [_by("s", "==", "New York")],
    "s==O'Brien and x>1": [_by("s", "==", "O'Brien"), _by("x", ">", 1)],
    's != "5"': [_by("s", "!=", "5")],
    "s == 'a, b'": [_by("s", "==", "a, b")],
    's == "x=1 or \\"y\\""': [_by("s", "==", 'x=1 or "y"')],
    "s == true": [_by("s", "==", True)],
    "s == NaN": [_by("s", "==", "NaN")],
    "s == {}": [_by("s", "==", "{}")],
    "a.b<2026-11-21T04:00:00": [_by("a.b", "<", "2026-11-21T04:00:00")],
    "bid<@ask": [{"attr": "bid", "by": {"attr": "ask", "where": "<"}}],
    "x in [1, 2]": [_by("x", "in", [1, 2])],
    's IN ["a], b", "and"]': [_by("s", "in", ["a], b", "and"])],
    "x is null": [{"attr": "x", "by": {"where": "is_null"}}],
    "x IS NOT NULL": [{"attr": "x", "by": {"where": "not_null"}}],
    "x>=30 and y<2, z is null": [_by("x", ">=", 30), _by("y", "<", 2), {"attr": "z", "by": {"where": "is_null"}}],
    'x>=30 AND s == "b, and c",': [_by("x", ">=", 30), _by("s", "==", "b, and c")],
}

WRONG = ["x", "x about 20", "x ==", "x>=30 or y<2", "s==a and", "and", "x == y == z", 's == "a', "x in [1,", "x in [a]"]

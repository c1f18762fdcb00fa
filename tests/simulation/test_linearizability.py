"""The search for an order, on histories of which the answer is known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.audit import Operation
from tests.simulation.linearizability import is_linearizable


def op(start: float, end: float | None, kind: str, value: str | None = None, result: Any = None, *, expected=None):
    operation = Operation(0, 0, kind, "k", value, expected, started_at=start, ended_at=end)
    if end is not None:
        operation.answer = ("ok", result)
    return operation


GOOD = {
    "nothing": [],
    "a read before everything": [op(0, 1, "read")],
    "a read of what was put": [op(0, 1, "put", "x"), op(2, 3, "read", result="x")],
    "a read beside a put sees the old value": [op(0, 5, "put", "x"), op(1, 2, "read")],
    "a read beside a put sees the new value": [op(0, 5, "put", "x"), op(1, 2, "read", result="x")],
    "puts beside each other, in either order": [
        op(0, 5, "put", "x"),
        op(0, 5, "put", "y"),
        op(6, 7, "read", result="x"),
    ],
    "a put without an answer that took place": [op(0, None, "put", "x"), op(10, 11, "read", result="x")],
    "a put without an answer that did not": [op(0, None, "put", "x"), op(10, 11, "read")],
    "a put without an answer that took place late": [
        op(0, None, "put", "x"),
        op(1, 2, "put", "y"),
        op(3, 4, "read", result="y"),
        op(5, 6, "read", result="x"),
    ],
    "numbers": [op(0, 3, "incr", result=2), op(0, 3, "incr", result=1)],
    "a condition that held": [op(0, 1, "put", "x"), op(2, 3, "cas", "y", result=True, expected="x")],
    "a condition that did not hold": [op(0, 1, "put", "x"), op(2, 3, "cas", "y", result=False, expected="z")],
    "removed": [op(0, 1, "put", "x"), op(2, 3, "remove"), op(4, 5, "read")],
}
BAD = {
    "a read of what was never put": [op(0, 1, "read", result="x")],
    "a read that missed a put": [op(0, 1, "put", "x"), op(2, 3, "read")],
    "a value that comes back": [
        op(0, 1, "put", "x"),
        op(2, 3, "put", "y"),
        op(4, 5, "read", result="x"),
    ],
    "two reads that contradict each other": [
        op(0, 9, "put", "x"),
        op(1, 2, "read", result="x"),
        op(3, 4, "read"),
    ],
    "a number given twice": [op(0, 1, "incr", result=1), op(2, 3, "incr", result=1)],
    "both of two conditions that exclude each other": [
        op(0, 5, "cas", "x", result=True, expected=None),
        op(0, 5, "cas", "y", result=True, expected=None),
    ],
    "a put without an answer, read before it began": [op(0, 1, "read", result="x"), op(2, None, "put", "x")],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_have_an_order(name: str):
    assert is_linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_have_none(name: str):
    assert not is_linearizable(BAD[name])


def test_a_long_history_of_many_clients_is_searched():
    history = []
    for number in range(150):
        history.append(op(number, number + 1.5, "put", f"v{number}"))
        history.append(op(number + 0.2, number + 1.6, "read", result=f"v{number}"))
    assert is_linearizable(history)
    history.append(op(200, 201, "read", result="v3"))
    assert not is_linearizable(history)

"""Whether a history of operations on one key has an order that explains every answer (Wing and Gong, with a memo).

It knows nothing of replicas or of the order of commits: an independent judge for what `audit` checks in linear time.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.audit import Operation

FOREVER = float("inf")


def is_linearizable(history: Sequence[Operation], first: str | None = None) -> bool:
    """Whether operations on one key could have taken place one after the other.

    Args:
        history: Operations on one key. One that was rejected has not taken place; one without an answer may take
            place at any time after its beginning, or never.
        first: The value before all of them.
    """
    certain = [op for op in history if op.answer is not None and op.answer[0] == "ok"]
    unknown = [op for op in history if op.answer is None and op.kind != "read"]
    operations = sorted([*certain, *unknown], key=lambda op: op.started_at)
    needed = sum(1 << at for at, op in enumerate(operations) if op.answer is not None)
    ends = [FOREVER if op.answer is None or op.ended_at is None else op.ended_at for op in operations]
    seen: set[tuple[int, str | None]] = set()
    stack: list[tuple[int, str | None]] = [(0, first)]
    while stack:
        done, value = stack.pop()
        if done & needed == needed:
            return True
        if (done, value) in seen:
            continue
        seen.add((done, value))
        earliest_end = min(end for at, end in enumerate(ends) if not done >> at & 1)
        for at, operation in enumerate(operations):
            if operation.started_at > earliest_end:
                break
            if not done >> at & 1:
                after = _apply(operation, value)
                if after is not None:
                    stack.append((done | 1 << at, after[0]))
    return False


def _apply(operation: Operation, value: str | None) -> tuple[str | None] | None:
    """The value after an operation; None when its answer does not fit the value before."""
    if operation.kind == "read":
        return (value,) if operation.answer is not None and operation.answer[1] == value else None
    changes, written, result = operation.effect(value)
    if operation.answer is not None and operation.answer[1] != result:
        return None
    return (written,) if changes else (value,)

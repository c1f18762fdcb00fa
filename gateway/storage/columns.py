"""Filters over large states: the comparable columns as Arrow, asked with DuckDB off the event loop (specification §3).

The columns are a picture of the state at some moment. Rows that changed since are looked at in Python, so an answer
is never older than the question; when too many have changed, the picture is brought up to date, block by block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from gateway.columns import Column, Kind
from gateway.records import Record
from gateway.selection import Compare, CompareColumns, IsNull, Never, OneOf, Predicate, Selection, columns_of
from gateway.states import State

if TYPE_CHECKING:  # both take long to load, and small gateways need neither
    import duckdb
    import pyarrow as pa

_BLOCK: Final = 4096
SCAN_UP_TO: Final = 1500


@cache
def _arrow_type(kind: Kind) -> pa.DataType:
    import pyarrow as pa

    types: dict[Kind, pa.DataType] = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "text": pa.string(),
        "moment": pa.timestamp("us"),
        "time": pa.time64("us"),
        "duration": pa.int64(),
        "enum": pa.string(),
    }
    return types[kind]


_OPERATORS: Final = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class ColumnSelector:
    """Answers selections over states: small ones at once, large ones with DuckDB in one thread of its own.

    Args:
        scan_up_to: The most rows that are looked at in Python.
    """

    def __init__(self, scan_up_to: int | None = None) -> None:
        self._scan_up_to = SCAN_UP_TO if scan_up_to is None else scan_up_to
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state query")
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._stores: dict[int, _Store] = {}

    async def select(self, state: State, selection: Selection) -> list[Record]:
        """The rows of a state that pass, in order."""
        found = state.find(selection)
        if found is not None:
            return found
        if not selection.predicates or len(state) <= self._scan_up_to or Never() in selection.predicates:
            return state.scan(selection)
        store = self._stores.setdefault(id(state), _Store(state))
        async with store.lock:
            slots = await self._ask(store, selection)
        if slots is None:
            return state.scan(selection)
        return state.pick(slots | set(state.changed_slots), selection)

    async def close(self) -> None:
        """End the thread."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()

    async def _ask(self, store: _Store, selection: Selection) -> set[int] | None:
        state = store.state
        update: tuple[Sequence[Record | None], set[int]] | None = None
        if not store.has_picture or state.changed > max(1000, len(state) // 20):
            update = state.checkpoint()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run, store, update, selection.predicates)

    def _run(
        self,
        store: _Store,
        update: tuple[Sequence[Record | None], set[int]] | None,
        predicates: Sequence[Predicate],
    ) -> set[int] | None:
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect(config={"threads": 1})
        if update is not None:
            store.update(*update)
        return store.ask(self._connection, predicates)


class _Store:
    """The columns of one state."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.lock = asyncio.Lock()
        self.has_picture = False
        self._rows: Sequence[Record | None] = ()
        self._blocks: dict[Column, list[pa.Array | None]] = {}
        self._slots: pa.Array | None = None

    def update(self, rows: Sequence[Record | None], changed: set[int]) -> None:
        """Take a new picture; only blocks with changed rows are built again."""
        import pyarrow as pa

        count = -(-len(rows) // _BLOCK)
        stale = {slot // _BLOCK for slot in changed}
        if len(rows) != len(self._rows):
            stale.add(len(self._rows) // _BLOCK)
            self._slots = pa.array(range(len(rows)), pa.int64())
        for blocks in self._blocks.values():
            blocks.extend([None] * (count - len(blocks)))
            for number in stale:
                if number < count:
                    blocks[number] = None
        self._rows = rows
        self.has_picture = True

    def ask(self, connection: duckdb.DuckDBPyConnection, predicates: Sequence[Predicate]) -> set[int] | None:
        """The slots whose rows pass; None when a column holds what Arrow cannot."""
        import duckdb
        import pyarrow as pa

        columns = columns_of(predicates)
        names = {column: f"c{number}" for number, column in enumerate(columns)}
        try:
            arrays = [pa.chunked_array(self._column(column)) for column in columns]
        except (OverflowError, pa.ArrowInvalid):  # an integer beyond 64 bits
            return None
        table = pa.table([self._slots, *arrays], names=["slot", *names.values()])
        clauses, values = [], []
        for predicate in predicates:
            clause, parameters = _clause(predicate, names)
            clauses.append(clause)
            values += parameters
        connection.register("picture", table)
        try:
            answer = connection.execute(f"SELECT slot FROM picture WHERE {' AND '.join(clauses)}", values)
            return {int(slot) for slot in answer.fetchnumpy()["slot"]}
        except duckdb.Error:  # a literal beyond the column's range, for example
            return None
        finally:
            connection.unregister("picture")

    def _column(self, column: Column) -> list[pa.Array]:
        count = -(-len(self._rows) // _BLOCK)
        blocks = self._blocks.setdefault(column, [None] * count)
        for number, block in enumerate(blocks):
            if block is None:
                blocks[number] = self._build(column, number)
        return [block for block in blocks if block is not None]

    def _build(self, column: Column, number: int) -> pa.Array:
        import pyarrow as pa

        rows = self._rows[number * _BLOCK : (number + 1) * _BLOCK]
        values = [None if record is None else column.value(record) for record in rows]
        return pa.array(values, _arrow_type(column.kind))


def _clause(predicate: Predicate, names: dict[Column, str]) -> tuple[str, list[Any]]:
    match predicate:
        case Compare(column, where, literal):
            return f"{names[column]} {_OPERATORS[where]} ?", [literal]
        case CompareColumns(left, where, right):
            return f"{names[left]} {_OPERATORS[where]} {names[right]}", []
        case OneOf(column, literals):
            if not literals:
                return "false", []
            return f"{names[column]} IN ({', '.join('?' * len(literals))})", list(literals)
        case IsNull(column, is_null):
            return f"{names[column]} IS {'' if is_null else 'NOT '}NULL", []
        case Never():
            return "false", []

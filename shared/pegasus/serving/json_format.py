"""The three ways in which Pegasus prints JSON (protocol §3): tables (T), sorted (N) and pretty (P)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

__all__ = ["Table", "cell", "pretty", "sorted_json", "tables"]

Cell = str | int | float | bool


def cell(value: Cell) -> str:
    """A value as a table shows it: always text, doubles with two decimals."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "0.00" if abs(value) < 1e-6 else f"{value:.2f}"
    return str(value)


class Table:
    """One table: rows of one value each, or rows of named columns.

    Args:
        name: Key of the table in the answer; a table without name puts its rows there directly.
        title: Name of the column that repeats the row's key; None for a table of one column.
        columns: Names of the other columns, in order.
    """

    def __init__(self, name: str = "", title: str | None = None, columns: Sequence[str] = ()) -> None:
        self.name = name
        self._title = title
        self._columns = columns
        self._rows: dict[str, str | dict[str, str]] = {}

    def add(self, key: Cell, *values: Cell) -> None:
        """Add a row; a table of one column takes exactly one value."""
        row = cell(key)
        if self._title is None:
            (value,) = values
            self._rows[row] = cell(value)
        else:
            shown = map(cell, values)
            self._rows[row] = {self._title: row, **dict(zip(self._columns, shown, strict=True))}

    def add_all(self, rows: Iterable[tuple[Cell, Cell]]) -> Table:
        """Add the rows of a table of one column, and return it."""
        for key, value in rows:
            self.add(key, value)
        return self

    @property
    def rows(self) -> Mapping[str, str | dict[str, str]]:
        """Rows by key, in order of insertion."""
        return self._rows


def tables(*members: Table) -> bytes:
    """Format (T): one compact object in order of insertion, all values strings, ended by a line feed."""
    shown: dict[str, Any] = {}
    for table in members:
        if table.name:
            shown[table.name] = table.rows
        else:
            shown.update(table.rows)
    return _upper_escapes(_dumps(shown, separators=(",", ":"))) + b"\n"


def sorted_json(value: object, *, indent: bool = False) -> bytes:
    """Format (N): keys sorted bytewise, real types, no line feed at the end.

    Args:
        indent: By two spaces, as `/envs/list` is printed.
    """
    options = orjson.OPT_SORT_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, option=options)


def pretty(value: object) -> bytes:
    """Format (P): indented by four spaces, real types, no line feed at the end."""
    return _upper_escapes(_dumps(value, indent=4))


def _dumps(value: object, **layout: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **layout)


_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|.)")


def _upper_escapes(text: str) -> bytes:
    """Control characters are escaped with upper-case digits."""
    if "\\u" in text:
        text = _ESCAPE.sub(lambda m: f"\\u{m[1].upper()}" if m[1] else m[0], text)
    return text.encode(errors="surrogateescape")

"""Which part of the data a request asks for: columns, rows and conditions of a frame, slices of an array."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intake_server.export.filters import Condition, ConditionError

_RANGE = re.compile(r"(\d*):(\d*)")
_AXIS = re.compile(r"(-?\d*)(?::(-?\d*)(?::(\d*))?)?")
_MAX_DIGITS = 18
QUERY = ("columns", "rows", "where", "slice", "variable", "format")
"""The query parameters that say what to send; any other is a parameter of the entry."""
PARAMETER_PREFIX = "p."


class SelectionError(ValueError):
    """A query parameter cannot be read, or does not fit the data; the text says why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A range of rows, counted after filtering.

    Attributes:
        start: The first.
        stop: The first one not wanted any more; None for all that follow.
    """

    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """What is wanted of one axis of an array, as in a Python slice.

    Attributes:
        start: The first index, or the only one.
        stop: The first index not wanted any more.
        step: The distance from one index to the next.
        is_index: Whether only one index is wanted, so that the axis goes away.
    """

    start: int | None = None
    stop: int | None = None
    step: int = 1
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of the data that is asked for.

    Attributes:
        columns: The columns wanted, in order; None for all.
        rows: The rows (or list elements) wanted.
        where: The conditions that rows must meet.
        axes: What is wanted of the first axes of an array; the others are wanted whole.
        variable: The variable of a data set that is wanted.
    """

    columns: tuple[str, ...] | None = None
    rows: Rows = Rows()
    where: tuple[Condition, ...] = ()
    axes: tuple[Axis, ...] = ()
    variable: str | None = None

    @classmethod
    def parse(cls, query: Mapping[str, Sequence[str]]) -> Selection:
        """Read the query parameters of a request.

        Raises:
            SelectionError: One of them cannot be read.
        """
        columns = [name for text in query.get("columns", ()) for name in _names(text)]
        rows = _only("rows", query)
        axes = _only("slice", query)
        try:
            where = tuple(Condition.parse(text) for text in query.get("where", ()))
        except ConditionError as error:
            raise SelectionError(str(error)) from error
        return cls(
            tuple(columns) if "columns" in query else None,
            Rows() if rows is None else _rows(rows),
            where,
            () if axes is None else tuple(_axis(text) for text in axes.split(",")),
            _only("variable", query),
        )

    def check(self, container: str) -> None:
        """Refuse what a container does not have.

        Raises:
            SelectionError: Something is asked for that only other containers have.
        """
        given = {
            "columns": self.columns is not None,
            "where": bool(self.where),
            "slice": bool(self.axes),
            "rows": self.rows != Rows(),
            "variable": self.variable is not None,
        }
        possible = {
            "dataframe": ("columns", "where", "rows"),
            "ndarray": ("slice",),
            "python": ("rows",),
            "xarray": ("variable", "slice"),
        }
        for name, is_given in given.items():
            if is_given and name not in possible.get(container, ()):
                raise SelectionError(f"{name}: this entry is of the kind {container!r}, which has no {name}")

    def canonical(self) -> str:
        """Equal for selections that mean the same."""
        conditions = [condition.canonical() for condition in self.where]
        return repr((self.columns, self.rows, conditions, self.axes, self.variable))


def split_query(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Sort query parameters into those that select data and the entry's own parameters.

    A parameter of the entry that has the name of one of ours can be given as ``p.NAME``.

    Raises:
        SelectionError: A parameter of the entry is given twice.
    """
    selecting: dict[str, list[str]] = {}
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in QUERY:
            selecting.setdefault(name, []).append(value)
            continue
        plain = name.removeprefix(PARAMETER_PREFIX)
        if plain in parameters:
            raise SelectionError(f"{plain}: this parameter is given twice")
        parameters[plain] = value
    return selecting, parameters


def _only(name: str, query: Mapping[str, Sequence[str]]) -> str | None:
    given = query.get(name, ())
    if len(given) > 1:
        raise SelectionError(f"{name}: this is given twice")
    return given[0] if given else None


def _names(text: str) -> list[str]:
    names = next(csv.reader([text], skipinitialspace=True), [])
    if not names or not all(names):
        raise SelectionError("columns: expected names with commas between them")
    return names


def _rows(text: str) -> Rows:
    found = _RANGE.fullmatch(text.strip())
    if found is None or max(map(len, found.groups())) > _MAX_DIGITS:
        raise SelectionError(f"rows: expected START:STOP, such as 100:200, :50 or 1000:, found {text[:40]!r}")
    rows = Rows(int(found[1] or 0), int(found[2]) if found[2] else None)
    if rows.stop is not None and rows.stop < rows.start:
        raise SelectionError(f"rows: {rows.stop} is before {rows.start}")
    return rows


def _axis(text: str) -> Axis:
    found = _AXIS.fullmatch(text.strip())
    if found is None or not text.strip() or max(len(part or "") for part in found.groups()) > _MAX_DIGITS:
        raise SelectionError(
            f"slice: expected START:STOP:STEP or an index for each axis, such as 0:10,::2,5, found {text[:40]!r}"
        )
    if ":" not in text:
        if not found[1].lstrip("-"):
            raise SelectionError(f"slice: expected an index or a range, found {text[:40]!r}")
        return Axis(int(found[1]), is_index=True)
    try:
        start, stop = (int(part) if part else None for part in (found[1], found[2]))
    except ValueError as error:
        raise SelectionError(f"slice: {text[:40]!r} is not a range") from error
    step = int(found[3]) if found[3] else 1
    if step == 0:
        raise SelectionError("slice: the step must be 1 or more")
    return Axis(start, stop, step)

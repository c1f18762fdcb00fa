"""Names that share one space and may not collide.

Two names collide when they are the same FDL name or become the same snake_case name.
"""

from __future__ import annotations

from collections.abc import Iterable

from iserver.fdl.diagnostics import Report
from iserver.fdl.names import is_java_keyword, snake_case
from iserver.fdl.syntax import Position


class Scope:
    """The names of one enum, type, event, feature, session or of the whole program."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._names: dict[str, str] = {}
        self._columns: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        self._renamed: dict[str, str] = {}

    def reserve(self, names: Iterable[str], owner: str) -> None:
        """Take names without a position, for example the system columns of a table.

        Args:
            owner: How messages describe who has the name.
        """
        for name in names:
            self._names[name] = owner
            self._columns[snake_case(name)] = owner

    def reserve_columns(self, columns: Iterable[str], owner: str) -> None:
        """Take columns that every table of its kind has; a name that would become one of them gets another column.

        Args:
            owner: How messages describe what has the column.
        """
        self._taken.update(dict.fromkeys(columns, owner))

    def column(self, name: str) -> str:
        """The column of a name that was claimed."""
        return self._renamed.get(name, snake_case(name))

    def is_free(self, name: str) -> bool:
        """Whether nothing has this name or its snake_case form."""
        return name not in self._names and snake_case(name) not in self._columns

    def claim(self, name: str, position: Position, *, imported: bool = False) -> bool:
        """Take a name, or report why it cannot be taken.

        Args:
            imported: The name was checked where it was declared, so it is not warned about again.
        """
        column = snake_case(name)
        if not column:
            self._report.error(position, f"Cannot use the name '{name}': nothing of it is left in snake_case")
            return False
        if name in self._names:
            owner = self._names[name]
            self._report.error(position, f"Cannot use the name '{name}' because it would conflict with {owner}")
            return False
        if column in self._columns:
            self._report.error(
                position,
                f"Cannot use the name '{name}' because its sql identifier '{column}' would conflict with "
                f"{self._columns[column]}",
            )
            return False
        if not imported and is_java_keyword(name):
            self._report.warning(position, f"'{name}' is a Java keyword; Java clients cannot be generated")
        self._names[name] = self._columns[column] = str(position)
        if column in self._taken:
            self._rename(name, column, position, imported=imported)
        return True

    def _rename(self, name: str, column: str, position: Position, *, imported: bool) -> None:
        other = f"{column}_value"
        while other in self._columns or other in self._taken:
            other += "_value"
        self._columns[other] = str(position)
        self._renamed[name] = other
        if not imported:
            self._report.warning(
                position, f"The column of '{name}' is called '{other}': '{column}' is {self._taken[column]}"
            )

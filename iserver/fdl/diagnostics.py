"""Diagnostics of the FDL compiler, in the two forms of §13.7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from iserver.fdl.syntax import Position


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message about one place.

    Attributes:
        kind: `syntax` and `semantic` are errors, `warning` is not.
        file: Name of the source file.
        line: Counted from 1.
        column: Counted from 0.
        message: For the person who wrote the FDL.
    """

    kind: Literal["syntax", "semantic", "warning"]
    file: str
    line: int
    column: int
    message: str

    @property
    def is_error(self) -> bool:
        """Whether the program is rejected because of it."""
        return self.kind != "warning"

    def __str__(self) -> str:
        if self.kind == "syntax":
            return f"{self.file}: line {self.line} char {self.column}: {self.message}"
        mark = "warning: " if self.kind == "warning" else ""
        return f"File {self.file}, Line {self.line}, Column {self.column}: {mark}{self.message}"


class Report:
    """Collects diagnostics while a program is compiled.

    Attributes:
        diagnostics: All diagnostics so far.
        is_stored: Whether the program was accepted before, perhaps by an earlier version that rejected less.
    """

    def __init__(self, *, is_stored: bool = False) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.is_stored = is_stored

    def error(self, position: Position, message: str) -> None:
        """Add a semantic error."""
        self.diagnostics.append(Diagnostic("semantic", position.file, position.line, position.column, message))

    def later_rule(self, position: Position, message: str) -> None:
        """Add a semantic error that earlier versions did not find; in a program that they accepted it is a warning."""
        (self.warning if self.is_stored else self.error)(position, message)

    def warning(self, position: Position, message: str) -> None:
        """Add a warning."""
        self.diagnostics.append(Diagnostic("warning", position.file, position.line, position.column, message))

    @property
    def errors(self) -> list[Diagnostic]:
        """The diagnostics that reject the program."""
        return [item for item in self.diagnostics if item.is_error]


class FdlError(ValueError):
    """The program was rejected.

    Attributes:
        diagnostics: Every error found, in the order of the files; at least one.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, diagnostics)))

"""What the FDL compiler has to say about a program, in the two forms of specification §13.7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


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


class FdlError(ValueError):
    """The program was rejected.

    Attributes:
        diagnostics: Every error found, in the order of the files; at least one.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, diagnostics)))

"""The feature definition language: from FDL text to a `Program` (specification §13)."""

from iserver.fdl.diagnostics import Diagnostic, FdlError
from iserver.fdl.model import Program, SourceFile

__all__ = ["Diagnostic", "FdlError", "Program", "SourceFile"]

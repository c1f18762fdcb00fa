"""The feature definition language: from FDL text to a `Program` (specification §13)."""

from iserver.fdl.compiler import check, compile_program
from iserver.fdl.diagnostics import Diagnostic, FdlError
from iserver.fdl.model import Program, SourceFile

__all__ = ["Diagnostic", "FdlError", "Program", "SourceFile", "check", "compile_program"]

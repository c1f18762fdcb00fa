"""The feature definition language: from FDL text to a `Program` (§13).

`parser` and `reader` make syntax nodes (`syntax`) of a text, `compiler` checks these and builds the `model`, which is
all that the rest of the daemon sees. `values` reads JSON values of declared types; `formatter` prints FDL.
Nothing here knows sessions, configurations or files. Start with `compile_program`.
"""

from iserver.fdl.compiler import check, compile_program
from iserver.fdl.diagnostics import Diagnostic, FdlError
from iserver.fdl.model import Program, SourceFile

__all__ = ["Diagnostic", "FdlError", "Program", "SourceFile", "check", "compile_program"]

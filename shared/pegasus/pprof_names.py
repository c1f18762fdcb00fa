"""Which function a line of a source file belongs to: tracemalloc knows lines, people read functions."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache


def function_at(filename: str, line: int) -> str:
    """The qualified name of the innermost function around a line; ``<module>`` outside all of them.

    Args:
        filename: A source file; one that cannot be read or parsed has no functions.
        line: Counted from 1.
    """
    owners = _owners(filename)
    return owners[line] if 0 < line < len(owners) else "<module>"


@lru_cache(maxsize=1024)
def _owners(filename: str) -> list[str]:
    """The function of every line."""
    lines = linecache.getlines(filename)
    owners = ["<module>"] * (len(lines) + 1)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return owners
    spans: list[tuple[int, int, str]] = []
    _collect(tree, "", spans)
    for start, end, name in spans:  # outer functions come first, inner ones overwrite them
        owners[start : end + 1] = [name] * (end + 1 - start)
    return owners


def _collect(node: ast.AST, prefix: str, spans: list[tuple[int, int, str]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            spans.append((child.lineno, child.end_lineno or child.lineno, prefix + child.name))
            _collect(child, f"{prefix}{child.name}.<locals>.", spans)
        elif isinstance(child, ast.ClassDef):
            _collect(child, f"{prefix}{child.name}.", spans)
        else:
            _collect(child, prefix, spans)

"""Which function a line of a source file belongs to: tracemalloc knows lines, people read functions.

Found by indentation, without parsing: a profile asks for thousands of lines of hundreds of files.
"""

from __future__ import annotations

import linecache
import re
from functools import lru_cache

_HEAD = re.compile(r"([ \t]*)(?:async[ \t]+)?(def|class)[ \t]+(\w+)")


@lru_cache(maxsize=65536)
def function_at(filename: str, line: int) -> str:
    """The qualified name of the innermost function around a line; ``<module>`` outside all of them.

    Args:
        filename: A source file; one that cannot be read has no functions.
        line: Counted from 1.
    """
    lines = linecache.getlines(filename)
    if not 0 < line <= len(lines):
        return "<module>"
    name, depth = "", _indent(lines[line - 1])
    if (head := _HEAD.match(lines[line - 1])) is not None and head[2] == "def":
        depth += 1  # the head of a function belongs to it
    for text in reversed(lines[:line]):
        if depth == 0:
            break
        found = _HEAD.match(text)
        if found is None or len(found[1]) >= depth:
            continue
        depth = len(found[1])
        if not name and found[2] == "class":
            continue  # a line of a class's own body runs with the module
        own = found[3] if not name or found[2] == "class" else f"{found[3]}.<locals>"
        name = f"{own}.{name}" if name else own
    return name or "<module>"


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" \t"))

"""Regular expressions of audiences, on values that visitors send (`matches`, protocol §9.3).

They are in RE2's syntax: whatever the pattern, the time is bounded by its size times the length of the value. Both
are bounded here, since a request waits for it, and so is the sum over all patterns and values of a request. Classes
such as `\\w` and `\\d` are ASCII, `\\p{L}` is any letter, and `$` is the end of the value.
"""

from __future__ import annotations

from typing import Any

import re2

MAX_INSTRUCTIONS = 5000
"""What a pattern may be compiled to; a long one that is written by hand has 200, and `\\p{L}` alone 1200."""

MAX_STEPS = 10_000_000
"""Instructions times bytes: about 50 ms at the worst. A pattern of 10 instructions looks at a megabyte."""

MAX_WORK = 20_000_000
"""The same for all values and patterns of one request: about 100 ms at the worst. Three hundred patterns of 100
instructions each look at a user agent of 200 bytes for six million."""

MEMORY_BYTES = 2**20
"""For the states that RE2 remembers of one pattern; with fewer it is slower, not wrong."""


class PatternError(ValueError):
    """It is no regular expression that can be used here."""


class Pattern:
    """A compiled regular expression; `compile_pattern` makes it."""

    __slots__ = ("_instructions", "_search")

    def __init__(self, compiled: Any) -> None:
        self._search = compiled.search
        self._instructions: int = max(compiled.programsize, 1)

    def steps(self, value: str) -> int:
        """What matching a value may cost at the worst."""
        size_bytes = len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        return self._instructions * size_bytes

    def is_in(self, value: str) -> bool:
        """Whether it matches anywhere in a value; in one that is too long for it, it matches nowhere."""
        if self.steps(value) > MAX_STEPS:
            return False
        return self._search(value.encode("utf-8", "surrogatepass")) is not None


class PatternWork:
    """What one request does with patterns. A pattern is matched against a value once, however many rules use it.

    Args:
        steps: How much may be done in all; what would be more matches nothing.
    """

    __slots__ = ("_known", "_left")

    def __init__(self, steps: int = MAX_WORK) -> None:
        self._left = steps
        self._known: dict[tuple[Pattern, str], bool] = {}

    def is_in(self, pattern: Pattern, value: str) -> bool:
        """Whether a pattern matches anywhere in a value."""
        key = (pattern, value)
        known = self._known.get(key)
        if known is None:
            steps = pattern.steps(value)
            if steps > self._left:
                return False  # and something smaller may still be looked at
            self._left -= steps
            known = self._known[key] = pattern.is_in(value)
        return known


def compile_pattern(text: str) -> Pattern:
    """Compile a regular expression.

    Raises:
        PatternError: It is not in RE2's syntax, or too large.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MEMORY_BYTES
    try:
        compiled = re2.compile(text.encode("utf-8", "surrogatepass"), options)
    except re2.error as error:
        reason = error.args[0]
        raise PatternError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from error
    if compiled.programsize > MAX_INSTRUCTIONS:
        raise PatternError(f"it needs {compiled.programsize} instructions, at most {MAX_INSTRUCTIONS} are possible")
    return Pattern(compiled)

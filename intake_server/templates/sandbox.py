"""Jinja2 in a sandbox with limits: on the time of a template, the size of its values, and the work of one operation.

What cannot be interrupted (a multiplication, a text method, a filter) is refused beforehand when what it is given is
too large; between such steps the clock is looked at.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, generate_lorem_ipsum
from jinja2.visitor import NodeTransformer

from intake_server.templates.caller_text import CallerText, as_caller_text, holds_marked, marked, unmarked

MAX_SIZE = 2**18
"""Characters or items of one value, with all that is in it."""
MAX_WORK = 2**24
"""The size of what an operation works on, times the size of what it is given."""
MAX_WIDTH = 2**12
"""A width, precision or count that is given as a number."""
MAX_SLOW = 2**14
"""The same for filters whose time grows faster than what they work on."""
MAX_SECONDS = 2.0
"""Processor time of all templates of an entry together."""
_WIDTHS = frozenset({"batch", "center", "expandtabs", "indent", "ljust", "rjust", "slice", "to_bytes", "truncate"})
_WIDTHS |= {"wordwrap", "zfill", "round"}
_SEARCHES = frozenset({"count", "endswith", "find", "index", "rfind", "rindex", "startswith"})
_SLOW = frozenset({"pprint", "striptags", "sum", "urlize", "wordwrap"})
_WIDE = re.compile(r"\d{5,}")
_NESTED = re.compile(r"\{[^{}]*:[^{}]*\{")


class LimitExceeded(jinja2.TemplateRuntimeError):
    """A template takes too long or makes something too large."""


@dataclass(slots=True)
class _Budget:
    """What is left to the templates of one entry.

    Attributes:
        clock: Processor time in seconds.
        until: When it is used up.
        output: Characters that may still come out.
    """

    clock: Callable[[], float]
    until: float
    output: int = MAX_SIZE

    def tick(self) -> None:
        if self.clock() > self.until:
            raise LimitExceeded(f"it takes more than {MAX_SECONDS:g} s")

    def spend(self, characters: int) -> None:
        self.output -= characters
        if self.output < 0:
            raise LimitExceeded(f"its result is longer than {MAX_SIZE} characters")


_budget: ContextVar[_Budget | None] = ContextVar("template budget", default=None)


@contextmanager
def limited(clock: Callable[[], float]) -> Iterator[_Budget]:
    """One budget for all templates that are rendered meanwhile."""
    budget = _Budget(clock, clock() + MAX_SECONDS)
    token = _budget.set(budget)
    try:
        yield budget
    finally:
        _budget.reset(token)


def _tick() -> None:
    budget = _budget.get()
    if budget is not None:
        budget.tick()


def size(value: Any) -> int:
    """The size of a value with all that is in it, or something beyond `MAX_SIZE`."""
    total, left = 0, [value]
    while left and total <= MAX_SIZE:
        item = left.pop()
        if isinstance(item, (str, bytes, range)):
            total += len(item)
        elif isinstance(item, Mapping):
            total += len(item)
            left.extend([*item.keys(), *item.values()] if total <= MAX_SIZE else ())
        elif isinstance(item, (list, tuple, set, frozenset)):
            total += len(item)
            left.extend(item if total <= MAX_SIZE else ())
        elif isinstance(item, int):
            total += item.bit_length() // 3 + 1
        else:
            total += MAX_SIZE + 1 if isinstance(item, Namespace) else 1
    return total


def checked(value: Any) -> Any:
    """A value, if it is not too large.

    Raises:
        LimitExceeded: It is.
    """
    if size(value) > MAX_SIZE:
        raise LimitExceeded(f"a value is larger than {MAX_SIZE} characters or items")
    return value


def _check_work(on: Any, given: Any) -> None:
    if size(on) * max(1, size(given)) > MAX_WORK or size(on) > MAX_SIZE or size(given) > MAX_SIZE:
        raise LimitExceeded("an operation works on too much")


def _check_widths(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and abs(value) > MAX_WIDTH for value in values):
        raise LimitExceeded(f"a width is more than {MAX_WIDTH}")


def _check_format(text: Any, arguments: Iterable[Any], *, is_percent: bool) -> None:
    if not isinstance(text, str):
        return
    if _WIDE.search(text) or ("*" in text if is_percent else _NESTED.search(text)):
        _check_widths(int(digits[:9]) for digits in _WIDE.findall(text))
        _check_widths(arguments)


def _shown(value: Any) -> Any:
    """A value that becomes text; a list or a map with a caller's text in it is theirs with its brackets."""
    checked(value)
    return value if isinstance(value, str) or not holds_marked(value) else marked(str(unmarked(value)))


def _joined(values: Sequence[Any]) -> str:
    checked(values)
    return as_caller_text("".join(str(_shown(value)) for value in values))


def _ticking(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _tick()
        yield value


def _adding_up(values: Iterable[Any]) -> Iterator[Any]:
    total = 0
    for value in values:
        _tick()
        total += size(value) + 1
        if total > MAX_SIZE:
            raise LimitExceeded(f"a list is larger than {MAX_SIZE} characters or items")
        yield value


def _searched(value: Any) -> Any:
    """What ``in`` looks in: a text finds what a caller sent also where it is the author's."""
    return CallerText(value) if type(value) is str else value


class _WithLimits(NodeTransformer):
    """Leads loops, searches and concatenations through functions of ours."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - as Jinja2 calls it
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_ticking", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802 - as Jinja2 calls it
        self.generic_visit(node)
        for operand in node.ops:
            if operand.op in ("in", "notin"):
                operand.expr = nodes.Filter(operand.expr, "_searched", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - as Jinja2 calls it
        self.generic_visit(node)
        values = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(values, "_joined", [], [], None, None, lineno=node.lineno)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of Jinja2, with limits."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, cache_size: int) -> None:
        super().__init__(autoescape=False, cache_size=cache_size, finalize=_shown)
        self.filters = {name: _limited_filter(name, function) for name, function in self.filters.items()}
        self.filters |= {"_ticking": _ticking, "_joined": _joined, "_searched": _searched}
        self.globals["lipsum"] = _lipsum

    @staticmethod
    def concat(values: Iterable[str]) -> str:
        """The pieces of a template, or of a block of it, together."""
        pieces = []
        budget = _budget.get() or _Budget(lambda: 0.0, 0.0)
        for piece in values:
            budget.tick()
            budget.spend(len(piece))
            pieces.append(piece)
        return as_caller_text("".join(pieces))

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        limited_source = _WithLimits().visit(source)
        limited_source.set_environment(self)
        return super()._generate(limited_source, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _tick()
        if operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 1) > MAX_SIZE:
                raise LimitExceeded("a power is too large")
        elif operator == "*":
            counts = [value for value in (left, right) if isinstance(value, int)]
            things = [value for value in (left, right) if not isinstance(value, (int, float))]
            if things and counts and size(things[0]) * max(counts[0], 1) > MAX_SIZE:
                raise LimitExceeded("a repetition is too large")
        elif operator == "%" and isinstance(left, str):
            given = right if isinstance(right, tuple) else (right,)
            _check_format(left, given, is_percent=True)
            _check_work(left, right)
        result = super().call_binop(context, operator, left, right)
        return as_caller_text(checked(result)) if isinstance(result, str) else checked(result)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa:N805 - as Jinja2 has it
        _tick()
        args = tuple(map(_listed, args))
        given = [*args, *kwargs.values()]
        on = getattr(__obj, "__self__", None)
        if isinstance(on, str) and __obj.__name__ in _SEARCHES:
            args = tuple(map(unmarked, args))
        if isinstance(on, (str, bytes, int, list, tuple, dict)):
            _check_work(on, given)
            if __obj.__name__ in _WIDTHS:
                _check_widths(given)
        else:
            checked(given)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, GeneratorType):
            return _adding_up(result)
        return result if isinstance(result, Namespace) else checked(result)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text: str = value.__self__

        def formatted(*arguments: Any, **named: Any) -> str:
            given = [*arguments, *named.values()]
            _check_format(text, given, is_percent=False)
            _check_work(text, given)
            return as_caller_text(wrapped(*arguments, **named))

        return formatted


def _listed(value: Any) -> Any:
    return list(_adding_up(value)) if isinstance(value, GeneratorType) else value


def _limited_filter(name: str, function: Any) -> Any:
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def with_limits(*arguments: Any, **named: Any) -> Any:
        _tick()
        before, (on, *given) = arguments[:first], map(_listed, arguments[first:] or (None,))
        others = [*given, *named.values()]
        _check_work(on, others)
        if name in _WIDTHS:
            _check_widths(others)
        if name == "format":
            _check_format(on, others, is_percent=True)
        if name in _SLOW and size(on) > MAX_SLOW:
            raise LimitExceeded(f"{name} works on more than {MAX_SLOW} characters or items")
        result = function(*before, on, *given, **named)
        if isinstance(result, GeneratorType):
            return _adding_up(result)
        return as_caller_text(checked(result)) if isinstance(result, str) else checked(result)

    return with_limits


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    if not (0 <= n <= 100 and 1 <= min < max <= 100):
        raise LimitExceeded("lipsum() makes at most 100 paragraphs of at most 100 words")
    return generate_lorem_ipsum(n, html, min, max)

"""Templates in catalog files: sandboxed Jinja2 (protocol §9.2, §9.5).

Only what a catalog author wrote is ever rendered. Values from callers enter as variables, never as template text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import jinja2
from jinja2 import meta, nodes

from intake_server.templates.caller_text import CallerText, holds_marked, is_marked, marked, unmarked
from intake_server.templates.sandbox import LimitedEnvironment, checked, limited

_CALL = re.compile(r"^\s*(env|shell|client_env|client_shell)\((.*)\)\s*$", re.DOTALL)
_CACHE_SIZE = 4096
_LOOKS_UP = ("env", "shell", "client_env", "client_shell")
_LIGHT = (nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Concat)
_READ = ("float", "int", "pprint", "replace", "striptags", "title", "tojson", "truncate", "wordcount", "wordwrap")
"""Filters that look into a text by other ways than its methods: they are given what the caller sent."""
_WITHOUT = ("d", "default", "defined", "undefined")
_ERRORS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class TemplateError(Exception):
    """A template of the catalog cannot be rendered; the text says which and why."""


class Templates:
    """Renders the templates of catalog files.

    Args:
        environment: The variables that ``env()`` may read, already reduced to those allowed; None when ``env()``
            is off, so that its text stays as it is.
        run_shell: Runs a command and returns what it printed, empty when it failed; None when ``shell()`` is off.
        clock: Processor time in seconds, of which a template may take only so much.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        run_shell: Callable[[str], str] | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._environment = environment
        self._run_shell = run_shell
        self._clock = clock
        self._jinja = LimitedEnvironment(_CACHE_SIZE)
        self._jinja.globals.update(
            env=self._env, shell=self._shell, client_env=_left("client_env"), client_shell=_left("client_shell")
        )
        self._jinja.filters |= {name: _reading(self._jinja.filters[name]) for name in _READ}
        self._jinja.filters["urlencode"] = _urlencode(self._jinja.filters["urlencode"])
        self._compiled: dict[str, jinja2.Template] = {}

    def limited(self) -> AbstractContextManager[Any]:
        """While this lasts, all that is rendered shares one limit of time and size."""
        return limited(self._clock)

    @property
    def runs_commands(self) -> bool:
        """Whether rendering may take as long as a command does."""
        return self._run_shell is not None

    def render(self, value: Any, context: Mapping[str, Any]) -> Any:
        """Render every string in a value, at any depth; everything else stays as it is.

        What comes of variables that are `CallerText` is still marked as the caller's.

        Raises:
            TemplateError: A template is malformed, does what the sandbox forbids, or takes too much.
        """
        if isinstance(value, str):
            return self._render_text(value, context)
        if isinstance(value, Mapping):
            return {self.render(key, context): self.render(item, context) for key, item in value.items()}
        if isinstance(value, (list, tuple, set)):
            return type(value)(self.render(item, context) for item in value)
        return value

    def variables(self, value: Any, *, may_miss: bool = True) -> set[str]:
        """The names of the variables that the templates in a value use, without those that ``env(NAME)`` looks up.

        Args:
            value: Templates at any depth.
            may_miss: Whether to name those too for which the template says what holds without them.

        Raises:
            TemplateError: A template is malformed.
        """
        found: set[str] = set()
        for text in _texts(value):
            tree = self._parsed(text)
            for call in tree.find_all(nodes.Call):
                if isinstance(call.node, nodes.Name) and call.node.name in _LOOKS_UP:
                    call.args = [one for one in call.args if not isinstance(one, nodes.Name)]
            for node in () if may_miss else tree.find_all((nodes.Filter, nodes.Test)):
                if node.name in _WITHOUT and isinstance(node.node, nodes.Name):
                    node.node = nodes.Const("")
            found |= meta.find_undeclared_variables(tree) - self._jinja.globals.keys()
        return found

    def are_light(self, value: Any) -> bool:
        """Whether the templates in a value only put values and text together, which takes no time to speak of.

        Raises:
            TemplateError: A template is malformed.
        """
        return all(
            isinstance(node, _LIGHT)
            or (isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in _LOOKS_UP)
            for text in _texts(value)
            for node in self._parsed(text).find_all(nodes.Node)
        )

    def _parsed(self, text: str) -> nodes.Template:
        try:
            return self._jinja.parse(text)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateError(f"template {_short(text)}: {error}") from error

    def expand_default(self, value: Any) -> Any:
        """Evaluate a parameter's declared default if it is a whole ``env(X)`` or ``shell(command)`` (§9.4)."""
        called = _CALL.match(value) if isinstance(value, str) else None
        if called is None:
            return value
        function, argument = called.groups()
        argument = argument.strip().strip("'\"")
        if function == "env" and self._environment is not None:
            return self._environment.get(argument, "")
        if function == "shell" and self._run_shell is not None:
            return self._run_shell(argument)
        return value

    def _render_text(self, text: str, context: Mapping[str, Any]) -> str:
        if "{" not in text:
            return text
        try:
            template = self._compiled.get(text)
            if template is None:
                if len(self._compiled) >= _CACHE_SIZE:
                    self._compiled.clear()
                template = self._compiled[text] = self._jinja.from_string(text)
            return template.render(context)
        except (*_ERRORS, RecursionError, MemoryError) as error:
            raise TemplateError(f"template {_short(text)}: {error}") from error

    def _env(self, name: Any, default: Any = "") -> str:
        name = _word(name)
        if self._environment is None:
            return f"{{{{env({name})}}}}"
        return self._environment.get(name, _word(default))

    def _shell(self, command: Any) -> str:
        command = _word(command)
        if self._run_shell is None:
            return f"{{{{shell({command})}}}}"
        return self._run_shell(command)


def _left(function: str) -> Callable[[Any], str]:
    """A function that stays in the text, for the client to expand."""

    def leave(argument: Any) -> str:
        return f"{{{{{function}({_word(argument)})}}}}"

    return leave


def _word(value: Any) -> str:
    """``env(HOME)`` and ``env("HOME")`` mean the same: an undefined name stands for itself."""
    text = value._undefined_name or "" if isinstance(value, jinja2.Undefined) else str(value)
    if is_marked(text):
        raise jinja2.TemplateRuntimeError("a parameter's value cannot be looked up or run")
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "{" in value:
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _texts(item)


def _reading(function: Any) -> Any:
    """A filter that is given what the caller sent, and whose result is the caller's."""

    @functools.wraps(function)
    def reading(*arguments: Any, **named: Any) -> Any:
        checked([arguments, named])
        result = function(*map(unmarked, arguments), **unmarked(named))
        return marked(result) if holds_marked([arguments, named]) else result

    return reading


def _urlencode(function: Any) -> Any:
    """Percent-encodes; what stays as it was is still the caller's."""

    @functools.wraps(function)
    def urlencode(value: Any) -> Any:
        if isinstance(value, str) and is_marked(value):
            return CallerText("".join(_encoded(character) for character in str.__str__(value)))
        return function(unmarked(checked(value)))

    return urlencode


def _encoded(character: str) -> str:
    sent = unmarked(character)
    encoded = quote(sent, safe="/")
    return character if encoded == sent else encoded


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

"""Templates in catalog files: sandboxed Jinja2 (specification §9.2, §9.5).

Only what a catalog author wrote is ever rendered. Values from callers enter as variables, never as template text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

_CALL = re.compile(r"^\s*(env|shell|client_env|client_shell)\((.*)\)\s*$", re.DOTALL)
_CACHE_SIZE = 4096


class TemplateError(Exception):
    """A template of the catalog cannot be rendered; the text says which and why."""


class Templates:
    """Renders the templates of catalog files.

    Args:
        environment: The variables that ``env()`` may read, already reduced to those allowed; None when ``env()``
            is off, so that its text stays as it is.
        run_shell: Runs a command and returns what it printed, empty when it failed; None when ``shell()`` is off.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, run_shell: Callable[[str], str] | None = None
    ) -> None:
        self._environment = environment
        self._run_shell = run_shell
        self._jinja = ImmutableSandboxedEnvironment(autoescape=False, cache_size=_CACHE_SIZE)
        self._jinja.globals.clear()
        self._jinja.globals.update(
            env=self._env, shell=self._shell, client_env=_left("client_env"), client_shell=_left("client_shell")
        )
        self._compiled: dict[str, jinja2.Template] = {}

    @property
    def runs_commands(self) -> bool:
        """Whether rendering may take as long as a command does."""
        return self._run_shell is not None

    def render(self, value: Any, context: Mapping[str, Any]) -> Any:
        """Render every string in a value, at any depth; everything else stays as it is.

        Raises:
            TemplateError: A template is malformed or does what the sandbox forbids.
        """
        if isinstance(value, str):
            return self._render_text(value, context)
        if isinstance(value, Mapping):
            return {self.render(key, context): self.render(item, context) for key, item in value.items()}
        if isinstance(value, (list, tuple, set)):
            return type(value)(self.render(item, context) for item in value)
        return value

    def variables(self, text: str) -> set[str]:
        """The names of the variables that a template uses.

        Raises:
            TemplateError: The template is malformed.
        """
        if "{" not in text:
            return set()
        try:
            return meta.find_undeclared_variables(self._jinja.parse(text))
        except jinja2.TemplateError as error:
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
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise TemplateError(f"template {_short(text)}: {error}") from error

    def _env(self, name: Any, default: str = "") -> str:
        name = _word(name)
        if self._environment is None:
            return f"{{{{env({name})}}}}"
        return self._environment.get(name, default)

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
    if isinstance(value, jinja2.Undefined):
        return value._undefined_name or ""
    return str(value)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")

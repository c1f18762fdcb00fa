"""The text of a channel file: values with their lines, variables and overrides, before they mean anything (§8.2)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml

Location: TypeAlias = tuple[str | int, ...]
_VARIABLE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

_QUOTES = "; inside { } a type with '?', '[' or ',' needs quotes, as in {price: 'float?'}"


class ChannelFileError(Exception):
    """Something in a channel file is wrong; the text is ``file:line: where: what``."""


class Source:
    """A parsed text that knows the line of every value."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._lines: dict[Location, int] = {}
        if name.endswith(".toml"):
            try:
                self.value: Any = tomllib.loads(text)
            except tomllib.TOMLDecodeError as error:
                raise ChannelFileError(f"{name}: {error}") from None
            return
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            self.value = {} if node is None else self._read(node, (), yaml.SafeLoader(""))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark else 1
            problem = error.problem or error.context or "cannot be read"
            hint = _QUOTES if problem.startswith("expected ',' or '}'") else ""
            raise ChannelFileError(f"{name}:{line}: {problem}{hint}") from None
        except yaml.YAMLError as error:
            raise ChannelFileError(f"{name}: {error}") from None
        except RecursionError:
            raise ChannelFileError(f"{name}: values are nested too deeply, or contain themselves") from None

    def error(self, location: Location, message: str) -> ChannelFileError:
        """An error at a place in the file."""
        return ChannelFileError(f"{self.place(location)}: {message}")

    def place(self, location: Location) -> str:
        """A place in the file, as ``file:line: where``."""
        line = None
        for length in range(len(location), -1, -1):
            line = self._lines.get(location[:length])
            if line is not None:
                break
        where = ".".join(str(step) for step in location)
        at = f"{self.name}:{line}" if line is not None else self.name
        return f"{at}: {where}" if where else at

    def _read(self, node: yaml.Node, at: Location, loader: yaml.SafeLoader) -> Any:
        self._lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            members: dict[Any, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node)
                key = key if isinstance(key, (str, int)) and not isinstance(key, bool) else str(key_node.value)
                self._lines[(*at, key)] = key_node.start_mark.line + 1
                if key in members:
                    raise self.error((*at, key), "is given twice")
                members[key] = self._read(value_node, (*at, key), loader)
            return members
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*at, number), loader) for number, item in enumerate(node.value)]
        try:
            value = loader.construct_object(node)
        except ValueError as error:  # such as the 45th day of a month
            raise self.error(at, f"{node.value!r}: {error}") from None
        if isinstance(value, (str, int, float, bool)) or value is None:
            return value
        return node.value  # a date or a time: as it is written


def interpolate(source: Source, environment: Mapping[str, str]) -> Any:
    """The values of a text with its ``${ENV:NAME}`` and ``${ENV:NAME:-default}`` replaced.

    Raises:
        ChannelFileError: A variable without a default is not set.
    """

    def walk(value: Any, at: Location) -> Any:
        if isinstance(value, dict):
            return {key: walk(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*at, number)) for number, item in enumerate(value)]
        if not isinstance(value, str):
            return value

        def replace(found: re.Match[str]) -> str:
            known = environment.get(found.group(1), found.group(2))
            if known is None:
                raise source.error(at, f"the environment variable {found.group(1)} is not set")
            return known

        return _VARIABLE.sub(replace, value)

    return walk(source.value, ())


def override_value(value: Any, override: str, name: str) -> None:
    """Put ``section.option=value`` over a file's values.

    Raises:
        ChannelFileError: It has another form, or leads through what is not there.
    """
    path, equals, text = override.partition("=")
    steps: list[Any] = [int(step) if step.isdigit() else step for step in path.split(".")]
    if not equals or not path:
        raise ChannelFileError(f"{name}: --set {override}: expected section.option=value")
    at = value
    for step in steps[:-1]:
        if isinstance(step, int) and isinstance(at, list) and step < len(at):
            at = at[step]
        elif isinstance(at, dict):
            at = at.setdefault(step, {})
        else:
            raise ChannelFileError(f"{name}: --set {override}: there is no {step!r}")
    try:
        value_of = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise ChannelFileError(f"{name}: --set {override}: the value is not YAML") from None
    if isinstance(at, dict) or (isinstance(at, list) and isinstance(steps[-1], int) and steps[-1] < len(at)):
        at[steps[-1]] = value_of
    else:
        raise ChannelFileError(f"{name}: --set {override}: there is no {steps[-1]!r}")

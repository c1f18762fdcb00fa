"""File name patterns such as ``data_{year:d}_{quarter}.csv`` (protocol §9.6, driver ``csv``)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_WIDTH = re.compile(r"^0?[<>^=]?(\d+)?([sdif])?$")


def has_fields(path: str) -> bool:
    """Whether a path contains ``{field}`` places."""
    try:
        return any(field for _, field, _, _ in string.Formatter().parse(path) if field)
    except ValueError:
        return False


def as_glob(pattern: str) -> str:
    """The glob that finds the files of a pattern: every field becomes ``*``."""
    parts = string.Formatter().parse(pattern)
    return "".join(text + ("*" if field is not None else "") for text, field, _, _ in parts)


def field_names(pattern: str) -> list[str]:
    """The fields of a pattern, in order."""
    return list(dict.fromkeys(field for _, field, _, _ in string.Formatter().parse(pattern) if field))


def read_fields(pattern: str, path: str) -> dict[str, Any] | None:
    """The values that a path has in the places of a pattern, None when it does not fit.

    >>> read_fields("data_{year:d}_{quarter}.csv", "/srv/data_2020_q1.csv")
    {'year': 2020, 'quarter': 'q1'}
    """
    formats: list[tuple[str, str]] = []
    expression = ""
    for text, field, form, _ in string.Formatter().parse(pattern):
        expression += re.escape(text).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        if field is not None:
            expression += f"({_expression(form or '')})"
            formats.append((field, form or ""))
    found = re.search(expression + "$", path)
    if found is None:
        return None
    return {name: _value(text, form) for (name, form), text in zip(formats, found.groups(), strict=True) if name}


def _expression(form: str) -> str:
    if "%" in form:
        return "[^/]+?"
    shape = _WIDTH.match(form)
    width, kind = shape.groups() if shape else (None, None)
    one = {"d": r"[+-]?\d", "i": r"[+-]?\d", "f": r"[-+.\deE]"}.get(kind or "s", "[^/]")
    if width:
        return f"{one.replace('[+-]?', '')}{{{width}}}"
    return r"[+-]?\d+" if kind in ("d", "i") else f"{one}+?"


def _value(text: str, form: str) -> Any:
    if "%" in form:
        return datetime.strptime(text, form)
    if form.endswith(("d", "i")):
        return int(text)
    return float(text) if form.endswith("f") else text


def columns(pattern: str, paths: Sequence[str]) -> dict[str, list[Any]]:
    """The values of every field for every path, in order of the paths; None where a path does not fit."""
    rows = [read_fields(pattern, path) or {} for path in paths]
    return {name: [row.get(name) for row in rows] for name in field_names(pattern)}

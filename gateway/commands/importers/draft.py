"""A channel file that is being written: its sections, and notes on what it does not say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

Location: TypeAlias = tuple[str, ...]

_WIDTH: Final = 10**6  # a value stays on one line


@dataclass
class Draft:
    """The sections of a channel file as its reader takes them, and notes for whoever reads the file.

    Attributes:
        origin: What it was made from, for the first line.
        value: The sections. A field is a dict of the options of its long form.
        notes: What could not be carried over, by place; the empty place is the whole file.
        disabled: Channels that are written as comments, since something they need is unknown.
    """

    origin: str
    value: dict[str, Any] = field(default_factory=dict)
    notes: dict[Location, list[str]] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)

    def section(self, name: str) -> dict[str, Any]:
        """A section, which is made when there is none yet."""
        section: dict[str, Any] = self.value.setdefault(name, {})
        return section

    def note(self, location: Location, text: str) -> None:
        """Say what could not be carried over at a place; once is enough."""
        notes = self.notes.setdefault(location, [])
        if text not in notes:
            notes.append(text)

    def warnings(self) -> list[str]:
        """Every note with its place, one a line."""
        return [": ".join([".".join(place), text] if place else [text]) for place, text in self._all_notes()]

    def _all_notes(self) -> Iterator[tuple[Location, str]]:
        for place in sorted(self.notes, key=len):
            for text in self.notes[place]:
                yield place, text

    def text(self) -> str:
        """The channel file, as YAML."""
        lines = [f"# A channel file made from {self.origin}."]
        lines += [f"# {text}" for text in self.notes.get((), [])]
        for name, section in self.value.items():
            if name in ("enums", "structs", "channels"):
                lines += ["", *self._comments((name,), ""), f"{name}:"] if section or name == "channels" else []
                for entry, options in section.items():
                    lines += self._entry((name, entry), options)
            else:
                lines += ["", *self._comments((name,), "")]
                lines.append(f"{name}: {_flow(section)}")
                lines += self._comments_below(name)
        return "\n".join(lines) + "\n"

    def _entry(self, place: Location, options: dict[str, Any]) -> Iterator[str]:
        yield from self._comments(place, "  ")
        name = _flow(place[-1])
        if place[0] != "structs":
            mark = "# " if place[-1] in self.disabled and place[0] == "channels" else ""
            yield f"  {mark}{name}: {_flow(options)}"
            return
        yield f"  {name}:"
        for option, value in options.items():
            if option != "fields":
                yield f"    {option}: {_flow(value)}"
        fields = options.get("fields", {})
        yield "    fields:" if fields else "    fields: {}"
        for field_name, field_options in fields.items():
            yield from self._comments((*place, field_name), "      ")
            yield f"      {_flow(field_name)}: {_flow(_shortest(field_options))}"

    def _comments(self, place: Location, indent: str) -> Iterator[str]:
        for text in self.notes.get(place, []):
            yield f"{indent}# {text}"

    def _comments_below(self, section: str) -> Iterator[str]:
        for place, texts in self.notes.items():
            if len(place) > 1 and place[0] == section:
                yield from (f"# {'.'.join(place[1:])}: {text}" for text in texts)


def _shortest(options: dict[str, Any]) -> Any:
    """A field in the form ``TYPE`` or ``TYPE = JSON`` where that says everything."""
    if set(options) == {"type"}:
        return options["type"]
    if set(options) == {"type", "default"}:
        return f"{options['type']} = {json.dumps(options['default'], ensure_ascii=False)}"
    return options


class _OneLine(yaml.SafeDumper):
    """Writes a text with line breaks between double quotes, where they are escaped."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_OneLine.add_representer(str, _text)


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, width=_WIDTH, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").rstrip()


def as_name(text: str) -> str:
    """The nearest name that a channel file can have for something."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "unnamed"
    return f"_{name}" if name[0].isdigit() else name

"""What of a channel file a caller may know of: the channels it may use, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.channel_file import Declared
from gateway.fields import names_in
from gateway.structs import StructSpec


def visible_part(declared: Declared, channels: frozenset[str] | None) -> Declared:
    """A channel file as if it declared some channels only, and nothing that is used by others alone.

    Args:
        declared: The whole file.
        channels: The names of the channels, or None for everything.
    """
    if channels is None:
        return declared
    shown = tuple(spec for spec in declared.channels if spec.name in channels)
    controls = ["Controls"] if declared.options.controls else []
    names = _reachable({spec.name: spec for spec in declared.structs}, [*(spec.struct for spec in shown), *controls])
    names |= {spec.key_enum for spec in shown if spec.key_enum is not None}
    return replace(
        declared,
        channels=shown,
        structs=tuple(spec for spec in declared.structs if spec.name in names),
        enums=tuple(spec for spec in declared.enums if spec.name in names),
    )


def _reachable(structs: dict[str, StructSpec], roots: Iterable[str]) -> set[str]:
    """The names of structs and enumerations that some structs are made of, their own included."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in structs:
            waiting += [used for field in structs[name].fields for used in names_in(field.type)]
    return found

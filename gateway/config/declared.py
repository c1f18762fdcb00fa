"""What a channel file declares, once it has been read and checked.

Also decides what of it one caller may see, and what of it may change while a gateway runs: keys and their rights,
limits of queues and of lookup, strictness, static fields and the texts of the documents. Channels, structs, modules and
routes stay as they were until a restart (§8.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.config.models import ChannelFile
from gateway.engine.channels import ChannelSpec
from gateway.schema.field_types import EnumSpec, Scalar, names_in
from gateway.schema.structs import FieldSpec, StructSpec

_TEXTS: Final = ("title", "description", "version", "contact")
_FIXED_SECTIONS: Final = ("modules", "controls", "rest", "recent", "graph", "outputs")

CONTROLS_STRUCT: Final = StructSpec(
    "Controls",
    (
        FieldSpec("name", Scalar("str"), default="none"),
        FieldSpec("status", Scalar("str"), default="none"),
        FieldSpec("data", Scalar("object"), default={}),
        FieldSpec("data_str", Scalar("str"), default=""),
    ),
    python_type="csp_gateway.utils.web.controls.Controls",
    lookup=False,
)


@dataclass(frozen=True)
class Declared:
    """A channel file that was read and holds together.

    Attributes:
        options: Its sections.
        enums: The enumerations.
        structs: The structs, with the built-in `Controls` last.
        channels: The channels in order, with the built-in ``controls`` last.
        module_places: Where the file declares each module, as ``file:line: where``.
    """

    options: ChannelFile
    enums: tuple[EnumSpec, ...]
    structs: tuple[StructSpec, ...]
    channels: tuple[ChannelSpec, ...]
    module_places: tuple[str, ...] = field(default=(), compare=False)

    def visible_to(self, channels: frozenset[str] | None) -> Declared:
        """The file as if it declared some channels only, and nothing that is used by others alone.

        Args:
            channels: The names of the channels that a caller may use, or None for everything.
        """
        if channels is None:
            return self
        shown = tuple(spec for spec in self.channels if spec.name in channels)
        controls = ["Controls"] if self.options.controls else []
        names = _reachable({spec.name: spec for spec in self.structs}, [*(spec.struct for spec in shown), *controls])
        names |= {spec.key_enum for spec in shown if spec.key_enum is not None}
        return replace(
            self,
            channels=shown,
            structs=tuple(spec for spec in self.structs if spec.name in names),
            enums=tuple(spec for spec in self.enums if spec.name in names),
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


def needs_restart(before: Declared, after: Declared) -> list[str]:
    """The sections that differ and cannot change while the gateway runs."""
    changed: list[str] = [
        name for name in ("enums", "structs", "channels") if getattr(before, name) != getattr(after, name)
    ]
    old, new = before.options, after.options
    changed += [name for name in _FIXED_SECTIONS if getattr(old, name) != getattr(new, name)]
    changed += [
        f"server.{name}"
        for name in type(old.server).model_fields
        if name not in _TEXTS and getattr(old.server, name) != getattr(new.server, name)
    ]
    if (old.stream.path, old.stream.include, old.stream.ping_time_s) != (
        new.stream.path,
        new.stream.include,
        new.stream.ping_time_s,
    ):
        changed.append("stream (only readonly and queue may change)")
    if _fixed_auth(old) != _fixed_auth(new):
        changed.append("auth (only keys may change)")
    return changed


def _fixed_auth(options: ChannelFile) -> dict[str, Any] | None:
    api_key = options.auth.api_key
    return None if api_key is None else api_key.model_dump(exclude={"keys", "trusted_networks"})

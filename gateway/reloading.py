"""What of a channel file may change while a gateway runs (specification §8.2), and changing it.

Keys and their rights, limits of queues and of lookup, strictness, static fields and the words of the documents change
at once. What channels are, who provides them and where they answer stays as it was until a restart.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.access import Access
from gateway.channel_file import Declared
from gateway.declarations import ChannelFile
from gateway.lookup import LookupLimits
from gateway.runtime import Gateway

_WORDS: Final = ("title", "description", "version", "contact")
_FIXED_SECTIONS: Final = ("modules", "controls", "rest", "recent", "graph", "outputs")


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
        if name not in _WORDS and getattr(old.server, name) != getattr(new.server, name)
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


def change(gateway: Gateway, declared: Declared, access: Access) -> None:
    """Let a gateway go on with a changed channel file that needs no restart.

    Args:
        gateway: The gateway.
        declared: The file as it is now.
        access: Its keys.
    """
    gateway.declared = declared
    gateway.access.replace(access)
    lookup = declared.options.lookup
    for cache in gateway.engine.lookups.values():
        cache.limit(LookupLimits(lookup.max_items, lookup.max_bytes, lookup.ttl))

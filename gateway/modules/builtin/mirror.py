"""Copies of a channel's ticks on another channel, with other field names if need be."""

from __future__ import annotations

from typing import Any

from gateway.modules.api import Module, ModuleGateway
from gateway.schema.record import Record, at_path


class Mirror(Module):
    """Ticks whatever one channel ticks on another one too.

    Without `fields` and between channels of one struct type the very same struct ticks, with its id. Otherwise a new
    struct is made, with an id of its own, from the members that both structs have, or from those that `fields` names.

    Args:
        source: The channel that is copied.
        target: Where it is copied to.
        fields: For every member of the target, the member of the source, as a dotted path into nested structs.
        key: Copy only this key of a source basket.
        target_key: Where the target is a basket: the key; by default the source's own key.
    """

    def __init__(
        self,
        source: str,
        target: str,
        fields: dict[str, str] | None = None,
        key: str | None = None,
        target_key: str | None = None,
    ) -> None:
        if source == target and target_key in (None, key):
            raise ValueError("source and target are the same")
        self._source = source
        self._target = target
        self._fields = fields
        self._key = key
        self._target_key = target_key
        self._paths: dict[str, tuple[str, ...]] | None = None

    def connect(self, gw: ModuleGateway) -> None:
        target_keys = [key for _, key in gw.paths(self._target)]
        source_keys = [key for _, key in gw.paths(self._source) if self._key in (None, key)]
        written: list[str | None]
        if target_keys == [None]:
            written = [None]
        elif self._target_key is not None:
            written = [self._target_key]
        else:
            written = source_keys
        for key in dict.fromkeys(written):
            gw.writes(self._target, key)
        self._paths = self._mapping(gw)
        is_basket = target_keys != [None]

        @gw.on(self._source, self._key)
        def copy(tick: Any, key: str | None = None) -> None:
            gw.tick(self._target, self._copied(tick), (self._target_key or key) if is_basket else None)

    def _mapping(self, gw: ModuleGateway) -> dict[str, tuple[str, ...]] | None:
        ours, theirs = gw.fields(self._source), gw.fields(self._target)
        if self._fields is None:
            if gw.struct_of(self._source) == gw.struct_of(self._target):
                return None
            shared = [name for name in theirs if name in ours and name not in ("id", "timestamp")]
            if not shared:
                raise ValueError(f"{self._source} and {self._target} have no member in common: name 'fields'")
            return {name: (name,) for name in shared}
        for target, path in self._fields.items():
            if target not in theirs:
                raise ValueError(f"fields: {target!r} is not a member of {self._target}")
            if path.partition(".")[0] not in ours:
                raise ValueError(f"fields: {path!r} is not a member of {self._source}")
        return {target: tuple(path.split(".")) for target, path in self._fields.items()}

    def _copied(self, tick: Record | list[Record]) -> Any:
        paths = self._paths
        if paths is None:
            return tick
        if isinstance(tick, list):
            return [_renamed(record, paths) for record in tick]
        return _renamed(tick, paths)


def _renamed(record: Record, paths: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    found = {target: at_path(record.values, path) for target, path in paths.items()}
    return {target: value for target, value in found.items() if value is not None}

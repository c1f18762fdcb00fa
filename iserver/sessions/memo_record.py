"""A memo record: what a session was shown of one feature with one set of args (protocol §1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from iserver.evaluation.definition import Definition
from iserver.evaluation.plans import Assignment
from iserver.fdl.model import JsonValue
from iserver.sessions.finished import Event, Impression

Change: TypeAlias = "list[Any]"
"""One step in a session's life: its kind and JSON values (see `iserver.sessions.changes`)."""

FEW = 4
"""Up to so many impressions a search is cheaper than an index."""


@dataclass(slots=True, eq=False, repr=False)
class MemoRecord:
    """A memo record: the outputs that all requests of a session for a feature with equal args share (§1).

    Attributes:
        number: Position in the session.
        feature: Name of the feature.
        definition: The FDL program it was created under.
        args: Checked args, defaults included.
        outputs: Values by name; posted externals included, pending ones not.
        plugin_outputs: Values by name.
        external: Names of external outputs, posted or pending.
        variants: Assignments in the experiments that touch the feature; active once it is shown.
        impressions: In the order in which they happened.
        aliases: Ids minted for cache fills, by which clients may refer to the record.
        events: In the order in which they were received.
        is_open: Whether later requests may be answered from it.
        members: Its values encoded for responses, once cached (`iserver.protocol.responses`).
    """

    number: int
    feature: str
    definition: Definition
    args: Mapping[str, JsonValue]
    outputs: Mapping[str, JsonValue]
    plugin_outputs: Mapping[str, JsonValue]
    external: Mapping[str, str]
    variants: tuple[Assignment, ...]
    impressions: list[Impression] = field(default_factory=list, init=False)
    aliases: list[str] | None = field(default=None, init=False)
    events: list[Event] | None = field(default=None, init=False)
    is_open: bool = field(default=True, init=False)
    members: bytes | None = field(default=None, init=False)
    _times: dict[str, int] | None = field(default=None, init=False)

    def shows(self, impression_id: str) -> bool:
        """Whether the impression is on record already (§10.8)."""
        return self._time_of(impression_id) is not None

    def time_of(self, impression_id: str) -> int:
        """When an impression on record happened.

        Raises:
            KeyError: It is not on record.
        """
        time_ms = self._time_of(impression_id)
        if time_ms is None:
            raise KeyError(impression_id)
        return time_ms

    def _time_of(self, impression_id: str) -> int | None:
        if self._times is not None:
            return self._times.get(impression_id)
        for impression in self.impressions:
            if impression.id == impression_id:
                return impression.time_ms
        return None

    def add(self, impression: Impression) -> None:
        """Append an impression."""
        self.impressions.append(impression)
        if self._times is not None:
            self._times[impression.id] = impression.time_ms
        elif len(self.impressions) > FEW:
            self._times = {item.id: item.time_ms for item in self.impressions}

    def remove(self, impression_id: str) -> None:
        """Take an impression back."""
        self.impressions = [item for item in self.impressions if item.id != impression_id]
        if self._times is not None:
            self._times.pop(impression_id, None)

    def key(self, impression_id: str) -> tuple[str, str]:
        """How an impression is looked up: per feature, since clients use one id for all features of a request."""
        return (self.feature, impression_id)

    @property
    def pending(self) -> list[str]:
        """External outputs whose value was not posted yet (§5)."""
        return [output for output in self.external if output not in self.outputs]

    def describe(self) -> Iterator[Change]:
        """Changes that give a session a record equal to this one."""
        number = self.number
        yield [
            "record",
            self.feature,
            self.definition.fingerprint,
            self.args,
            self.outputs,
            self.plugin_outputs,
            self.external,
            self.variants,
        ]
        for impression in self.impressions:
            yield ["show", number, impression.id, impression.time_ms]
        for alias in self.aliases or ():
            yield ["alias", number, alias]
        for event in self.events or ():
            yield event_change(number, event)
        if not self.is_open:
            yield ["close", [number]]


def event_change(number: int | None, event: Event) -> Change:
    """The change that stores an event of a record, or with `None` of the session."""
    return ["event", number, event.name, event.time_ms, event.impression_id, event.event_id, event.fields]

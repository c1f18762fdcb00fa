"""What a plugin sees and may change: the session, an impression, an event.

Plugins get views. What they set is checked at once and takes effect only after the call has ended in time,
so that a plugin that hangs or fails changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from iserver.evaluation.definition import Definition
from iserver.fdl.model import FieldDefinition, JsonValue
from iserver.fdl.values import reader
from iserver.sessions.finished import Event
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.session import Session


class _View:
    """Values by name, of which some may be set."""

    def __init__(self, values: Mapping[str, JsonValue], settable: Callable[[str], FieldDefinition | None]) -> None:
        self._values = dict(values)
        self._settable = settable
        self.changes: dict[str, JsonValue] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """A value, `default` when it is not set."""
        return self._values.get(name, default)

    def set(self, name: str, value: Any) -> None:
        """Give a field a value.

        Raises:
            KeyError: There is no such field that a plugin may set.
            ValueError: The value has the wrong type, or is not text.
        """
        item = self._settable(name)
        if item is None:
            raise KeyError(f"a plugin cannot set '{name}'")
        checked = reader(item.type, name)(value)
        try:
            orjson.dumps(checked)
        except TypeError as error:
            raise ValueError(f"the value for '{name}' is not text: {error}") from error
        self._values[name] = self.changes[name] = checked


class SessionView(_View):
    """A session.

    Attributes:
        id: The session's id.
        no_log: Set it to exclude the session from the warehouse; nothing else changes.
    """

    def __init__(self, session: Session, definition: Definition) -> None:
        def settable(name: str) -> FieldDefinition | None:
            known = definition.session_plugin_outputs.get(name)
            return known or definition.program.session.mutables.get(name)

        super().__init__(session.fields, settable)
        self.id = session.id
        self.no_log = session.no_log

    @property
    def fields(self) -> Mapping[str, JsonValue]:
        """Keys, args and plugin outputs by name."""
        return MappingProxyType(self._values)


class ImpressionView(_View):
    """A feature that is being evaluated or was shown. `set` takes its plugin outputs.

    Attributes:
        feature: Name of the feature.
        args: Checked args.
        outputs: Values by name; empty before evaluation.
        impression_ids: Its impressions so far; empty before evaluation.
    """

    def __init__(
        self,
        definition: Definition,
        feature: str,
        args: Mapping[str, JsonValue],
        plugin_outputs: Mapping[str, JsonValue],
        record: MemoRecord | None = None,
    ) -> None:
        known = {item.name: item for item in definition.program.features[feature].plugin_outputs}
        super().__init__(plugin_outputs, known.get)
        self.feature = feature
        self.args = MappingProxyType(dict(args))
        self.outputs = MappingProxyType(dict(record.outputs) if record is not None else {})
        self.impression_ids = () if record is None else tuple(item.id for item in record.impressions)

    @classmethod
    def of(cls, record: MemoRecord) -> ImpressionView:
        """The view of a memo record."""
        return cls(record.definition, record.feature, record.args, record.plugin_outputs, record)


class EventView(_View):
    """An event that was just received. `set` takes its plugin fields.

    Attributes:
        name: Name of the event.
        id: Its id.
        impression_id: What it happened on.
    """

    def __init__(self, definition: Definition, feature: str | None, event: Event) -> None:
        known = definition.event((feature, event.name))
        settable = {item.name: item for item in known.plugin_fields} if known is not None else {}
        super().__init__(event.fields, settable.get)
        self.name = event.name
        self.id = event.event_id
        self.impression_id = event.impression_id

    @property
    def fields(self) -> Mapping[str, JsonValue]:
        """Values by name."""
        return MappingProxyType(self._values)

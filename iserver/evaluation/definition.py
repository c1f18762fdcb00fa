"""An FDL program made ready for traffic: everything that requests look up, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

import orjson

from iserver.evaluation.audiences import EventPath
from iserver.fdl.model import EventDefinition, FeatureDefinition, FieldDefinition, JsonValue, Program
from iserver.fdl.values import Arguments, Reader, reader

MemoKey: TypeAlias = "tuple[str, str]"
"""A feature and its args in canonical form (§10.3)."""

MAX_KNOWN_ARGS = 4096
LITTLE = 256


class Definition:
    """The vocabulary of one FDL program.

    A session and each of its memo records keep the definition they were created with, so that they are logged
    consistently when the program changes (§9.4).

    Attributes:
        program: The compiled program.
        fingerprint: Identifies it in the journal and in finished sessions.
        persistent_key: Name of the arg that identifies the device.
        keys: Names of all keys, the persistent key first.
    """

    def __init__(self, program: Program) -> None:
        session = program.session
        self.program = program
        self.fingerprint = program.fingerprint
        self.persistent_key = session.persistent_key.name
        self.keys = tuple(item.name for item in session.keys)
        self.split_key = session.split_key.name
        self._session_fields = {item.name: item for item in (*session.keys, *session.args)}
        self._session_readers = {name: reader(item.type, name) for name, item in self._session_fields.items()}
        self._session_arguments = Arguments(tuple(self._session_fields.values()))
        self._arguments = {feature.name: Arguments(feature.args) for feature in program.features.values()}
        self._known_args: dict[tuple[object, ...], tuple[dict[str, JsonValue], MemoKey]] = {}

    @cached_property
    def mutables(self) -> Mapping[str, Reader]:
        """Readers of the mutable session args and session plugin outputs, by name."""
        return {name: reader(item.type, name) for name, item in self.program.session.mutables.items()}

    @cached_property
    def session_plugin_outputs(self) -> Mapping[str, FieldDefinition]:
        """Session plugin outputs by name."""
        return {item.name: item for item in self.program.session.plugin_outputs}

    @cached_property
    def plugin_defaults(self) -> Mapping[str, JsonValue]:
        """FDL defaults of the session plugin outputs."""
        return {item.name: item.default for item in self.program.session.plugin_outputs}

    @cached_property
    def measures(self) -> bool:
        """Whether any output or event field is measured by the server (§11.5)."""
        program = self.program
        events = [program.session.events, *(feature.events for feature in program.features.values())]
        return any(
            item.elapsed is not None
            for fields in (
                *(feature.outputs for feature in program.features.values()),
                *(event.fields for owner in events for event in owner.values()),
            )
            for item in fields
        )

    def is_session_field(self, name: str) -> bool:
        """Whether the session has such an arg, key or plugin output."""
        return name in self._session_fields or name in self.session_plugin_outputs

    def feature(self, name: str) -> FeatureDefinition | None:
        """A feature that can be requested, `None` for unknown and abstract ones."""
        feature = self.program.features.get(name)
        return None if feature is None or feature.abstract else feature

    def event(self, path: EventPath) -> EventDefinition | None:
        """An event of a feature or of the session, `None` when it is unknown."""
        feature_name, event_name = path
        if feature_name is None:
            return self.program.session.events.get(event_name)
        feature = self.feature(feature_name)
        return None if feature is None else feature.events.get(event_name)

    def read_session_args(self, given: Mapping[str, Any]) -> dict[str, JsonValue]:
        """The args for a new session, defaults applied.

        Raises:
            InvalidValueError: A required arg is missing or a value has the wrong type.
        """
        return self._session_arguments.read(given)

    def read_given_session_args(self, given: Mapping[str, Any]) -> dict[str, JsonValue]:
        """The declared args among those a client sent; null is the same as absent, for every key too.

        Raises:
            InvalidValueError: A value has the wrong type.
        """
        result: dict[str, JsonValue] = {}
        for name, value in given.items():
            read = self._session_readers.get(name)
            if read is not None and not (value is None and name in self.keys):
                checked = read(value)
                if checked is not None:
                    result[name] = checked
        return result

    def read_feature_args(self, feature: str, given: Mapping[str, Any]) -> tuple[dict[str, JsonValue], MemoKey]:
        """The args of a feature request, defaults applied, and the key by which equal requests are found.

        Visitors ask for the same again and again, so requests with nothing but a little text are remembered: their
        args and keys are the same objects, and must not be modified.

        Raises:
            InvalidValueError: A required arg is missing or a value has the wrong type.
        """
        asked = (feature, *given.items())
        try:
            known = self._known_args.get(asked)
        except TypeError:  # a list or an object cannot be looked up
            known = None
        if known is not None:
            return known
        args = self._arguments[feature].read(given)
        read = (args, self.memo_key(feature, args))
        if _is_little_text(given):
            if len(self._known_args) >= MAX_KNOWN_ARGS:
                self._known_args.clear()
            self._known_args[asked] = read
        return read

    @staticmethod
    def memo_key(feature: str, args: Mapping[str, JsonValue]) -> MemoKey:
        """The canonical form by which two requests for a feature are the same (§10.3).

        Checked args are in the order of the definition with floats as floats, so their JSON is canonical, but
        for the two zeros.
        """
        encoded = orjson.dumps(args)
        if b"-0.0" in encoded:
            encoded = orjson.dumps(_with_one_zero(dict(args)))
        return (feature, encoded.decode())  # orjson's bytes keep their whole buffer alive

    def read_event_fields(self, path: EventPath, given: Mapping[str, Any]) -> dict[str, JsonValue]:
        """The fields of an event, defaults applied; plugin fields start with theirs.

        Raises:
            InvalidValueError: A required field is missing or a value has the wrong type.
        """
        arguments, plugin_defaults = self._event(path)
        return {**arguments.read(given), **plugin_defaults}

    def _event(self, path: EventPath) -> tuple[Arguments, Mapping[str, JsonValue]]:
        known = self._events.get(path)
        if known is None:
            event = self.event(path)
            assert event is not None
            defaults = {item.name: item.default for item in event.plugin_fields if item.has_default}
            known = self._events[path] = (Arguments(event.fields), defaults)
        return known

    @cached_property
    def _events(self) -> dict[EventPath, tuple[Arguments, Mapping[str, JsonValue]]]:
        return {}

    def external_reader(self, feature: str, output: str) -> Reader | None:
        """Reads the value that an application posts for an `@external` output, `None` when there is none."""
        definition = self.feature(feature)
        item = definition.fields.get(output) if definition is not None else None
        if item is None or not item.external:
            return None
        return reader(item.type, output)


def _is_little_text(given: Mapping[str, Any]) -> bool:
    size = 0
    for name, value in given.items():
        if type(value) is not str:
            return False
        size += len(name) + len(value)
    return size <= LITTLE


def _with_one_zero(value: JsonValue) -> JsonValue:
    """The value with `0.0` for `-0.0`: they are equal numbers (§10.3)."""
    if isinstance(value, float):
        return value + 0.0
    if isinstance(value, list):
        return [_with_one_zero(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_one_zero(item) for name, item in value.items()}
    return value

"""Reading a channel file: text to declarations, with the line of everything that is wrong."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaError

from gateway.config.declared import CONTROLS_STRUCT, Declared
from gateway.config.models import (
    NAME,
    ApiKeyOptions,
    ChannelFile,
    ChannelOptions,
    EnumOptions,
    FieldOptions,
    LiteralType,
    StateOptions,
    StructOptions,
)
from gateway.config.text import Location, Source, interpolate, override_value
from gateway.engine.channels import CONTROLS, HEARTBEAT, ChannelSpec
from gateway.schema.compiler import Compiler, FieldError, enum_key, reason_of
from gateway.schema.field_types import EnumSpec, FieldType, LiteralOf, parse_type
from gateway.schema.importers.json_schema import fields_of_schema
from gateway.schema.importers.pydantic_model import fields_of_model
from gateway.schema.structs import ABSENT, FieldSpec, Limits, StructSpec
from gateway.state.columns import Columns
from gateway.state.store import StateSpec


class References:
    """Fetches what a channel file refers to; the default can fetch nothing."""

    def json_schema(self, path: str) -> Mapping[str, Any]:
        """The JSON Schema in a file."""
        raise ValueError(f"cannot read {path}: no files here")

    def model(self, path: str) -> type[BaseModel]:
        """The pydantic model ``module:Class``."""
        raise ValueError(f"cannot import {path}: no imports here")


def parse_channel_file(
    text: str,
    name: str,
    environment: Mapping[str, str],
    references: References | None = None,
    overrides: Iterable[str] = (),
) -> Declared:
    """Read a channel file.

    Args:
        text: YAML or JSON, or TOML when the name ends so.
        name: The file's name, for messages.
        environment: Where ``${ENV:NAME}`` looks.
        references: Reads JSON schemas and pydantic models.
        overrides: Settings of the form ``server.port=8001``, put over the file's.

    Raises:
        ChannelFileError: The first thing that is wrong.
    """
    source = Source(text, name)
    value = interpolate(source, environment)
    for override in overrides:
        override_value(value, override, name)
    options = _validate(value, source)
    return _Reader(options, source, references or References()).read()


def _validate(value: Any, source: Source) -> ChannelFile:
    if not isinstance(value, dict):
        raise source.error((), "expected sections such as 'channels:'")
    try:
        return ChannelFile.model_validate(value)
    except ValidationError as error:
        faults = [(_clean(item["loc"], value, item["type"]), item) for item in error.errors(include_url=False)]
        # of the branches of a union, the one that was meant is the one that was read furthest
        location, first = min(faults, key=lambda fault: (fault[1]["type"] != "extra_forbidden", -len(fault[0])))
        message = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "is no option here" + _instead(location)
        elif first["type"] == "missing":
            message = "is missing"
        elif first["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, found {json.dumps(first['input'], default=str)}"
        raise source.error(location, message) from None


def _clean(location: Location, value: Any, kind: str) -> Location:
    """Leave out the labels of union branches that pydantic puts between the steps of a location."""
    steps: list[str | int] = []
    at = value
    for number, step in enumerate(location):
        is_last = number == len(location) - 1
        inside = (isinstance(at, dict) and step in at) or (
            isinstance(at, list) and isinstance(step, int) and step < len(at)
        )
        if inside:
            at = at[step]
            steps.append(step)
        elif is_last and kind == "missing":
            steps.append(step)
    return tuple(steps)


def _instead(location: Location) -> str:
    """What may have been meant by an option that does not exist."""
    word = str(location[-1])
    if location[0] == "channels" and len(location) == 3 and word.replace("_", "") == "readonly":
        return "; clients can send to a channel only if it has 'send: true'"
    section: type[BaseModel] = ChannelFile
    for step in location[:-1]:
        known = section.model_fields.get(str(step))
        section = section if known is None else _section_in(known.annotation) or section
    return _did_you_mean(word, [known.alias or name for name, known in section.model_fields.items()])


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that an option holds, be it in a list, by name or as one of several possibilities."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(each) for each in typing.get_args(annotation))
    return next((section for section in found if section is not None), None)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


class _Reader:
    """Turns the sections into specs and checks that they hold together."""

    def __init__(self, options: ChannelFile, source: Source, references: References) -> None:
        self._options = options
        self._source = source
        self._references = references

    def read(self) -> Declared:
        options = self._options
        enums = tuple(self._enum(name, enum) for name, enum in options.enums.items())
        structs = tuple(self._struct(name, struct) for name, struct in options.structs.items())
        structs = (*structs, *([] if "Controls" in options.structs else [CONTROLS_STRUCT]))
        specs = {spec.name: spec for spec in structs}
        by_name = {spec.name: spec for spec in enums}
        channels = [
            self._channel(name, channel, specs, by_name)
            for name, channel in options.channels.items()
            if name != CONTROLS
        ]
        if options.controls or CONTROLS in options.channels:
            channels.append(ChannelSpec(CONTROLS, "Controls", sendable=True))
        self._check_names(channels)
        self._check_fields(specs, by_name)
        self._check_states(channels, specs, by_name)
        names = {channel.name for channel in channels}
        self._check_selections(names, {state.alias for channel in channels for state in channel.states})
        self._check_keys(names)
        places = tuple(self._source.place(("modules", number)) for number in range(len(options.modules)))
        return Declared(options, enums, structs, tuple(channels), places)

    def _enum(self, name: str, enum: EnumOptions) -> EnumSpec:
        self._check_name(("enums", name), name)
        for member in enum.members:
            if not NAME.fullmatch(member):
                raise self._source.error(("enums", name, "members", member), "is not a name")
        first: dict[Any, str] = {}
        for member, value in enum.members.items():
            if enum_key(value) in first:
                other = first[enum_key(value)]
                raise self._source.error(("enums", name, "members", member), f"has the value of {other!r}: {value!r}")
            first[enum_key(value)] = member
        return EnumSpec(name, dict(enum.members), enum.wire)

    def _struct(self, name: str, struct: StructOptions) -> StructSpec:
        where: Location = ("structs", name)
        self._check_name(where, name)
        if name in self._options.enums:
            raise self._source.error(where, "is also the name of an enumeration")
        given = [struct.fields is not None, struct.json_schema is not None, struct.pydantic is not None]
        if sum(given) != 1:
            raise self._source.error(where, "expected exactly one of 'fields', 'schema' and 'pydantic'")
        model = None
        try:
            if struct.pydantic is not None:
                model = self._references.model(struct.pydantic)
                fields = fields_of_model(model)
            elif struct.json_schema is not None:
                fields = fields_of_schema(self._references.json_schema(struct.json_schema))
            else:
                fields = tuple(self._field(name, *item) for item in (struct.fields or {}).items())
        except ValueError as error:
            raise self._source.error(where, str(error)) from None
        if struct.implicit and struct.pydantic is None:
            for field in fields:
                if field.name in ("id", "timestamp"):
                    raise self._source.error((*where, "fields", field.name), "every struct has this member already")
        return StructSpec(name, fields, struct.implicit, struct.python_type, struct.lookup, model)

    def _field(self, struct: str, name: str, given: str | FieldOptions) -> FieldSpec:
        where: Location = ("structs", struct, "fields", name)
        self._check_name(where, name)
        if isinstance(given, str):
            text, equals, written = given.partition("=")
            try:
                value: Any = json.loads(written) if equals else ABSENT
            except json.JSONDecodeError:
                raise self._source.error(where, f"the default {written.strip()!r} is not JSON") from None
            return FieldSpec(name, self._type(text.strip(), where), default=value)
        if (given.type is None) == (given.literal is None):
            raise self._source.error(where, "expected either 'type' or 'literal'")
        literal = given.type.literal if isinstance(given.type, LiteralType) else given.literal
        declared: FieldType = (
            self._type(given.type, where) if isinstance(given.type, str) else LiteralOf(tuple(literal or ()))
        )
        default: Any = given.default if "default" in given.model_fields_set else ABSENT
        limits = Limits(given.ge, given.gt, given.le, given.lt, given.min_length, given.max_length, given.pattern)
        return FieldSpec(name, declared, default, given.default_now, limits, given.message)

    def _type(self, text: str, where: Location) -> FieldType:
        try:
            return parse_type(text, list(self._options.enums), list(self._options.structs))
        except ValueError as error:
            known = [*self._options.enums, *self._options.structs]
            raise self._source.error(where, f"{error}{_did_you_mean(text, known)}") from None

    def _channel(
        self, name: str, channel: ChannelOptions, structs: Mapping[str, StructSpec], enums: Mapping[str, EnumSpec]
    ) -> ChannelSpec:
        where: Location = ("channels", name)
        self._check_name(where, name)
        if channel.type not in structs:
            hint = _did_you_mean(channel.type, structs)
            raise self._source.error((*where, "type"), f"{channel.type!r} is not a declared struct{hint}")
        keys, key_enum = self._keys(name, channel, enums)
        return ChannelSpec(
            name=name,
            struct=channel.type,
            is_list=channel.is_list,
            keys=keys,
            key_enum=key_enum,
            sendable=channel.send,
            staged=channel.stage,
            states=self._states(name, channel),
            conflatable=channel.conflatable,
            policy=channel.policy,
        )

    def _keys(
        self, name: str, channel: ChannelOptions, enums: Mapping[str, EnumSpec]
    ) -> tuple[tuple[str, ...] | None, str | None]:
        where: Location = ("channels", name, "keys")
        if channel.keys is None:
            return None, None
        if isinstance(channel.keys, str):
            if channel.keys not in enums:
                hint = _did_you_mean(channel.keys, enums)
                raise self._source.error(where, f"{channel.keys!r} is not a declared enumeration{hint}")
            return tuple(enums[channel.keys].members), channel.keys
        if not channel.keys:
            raise self._source.error(where, "a basket needs at least one key")
        for key in channel.keys:
            if not key:
                raise self._source.error(where, "a key is empty")
            if channel.keys.count(key) > 1:
                raise self._source.error(where, f"the key {key!r} is given twice")
        return tuple(channel.keys), None

    def _states(self, name: str, channel: ChannelOptions) -> tuple[StateSpec, ...]:
        given = channel.state
        if given is False:
            return ()
        options = [StateOptions()] if given is True else given if isinstance(given, list) else [given]
        defaults = self._options.state
        return tuple(
            StateSpec(
                alias=item.alias or name,
                keyby=tuple(item.keyby),
                max_keys=item.max_keys if item.max_keys is not None else defaults.max_keys,
                evict=item.evict if "evict" in item.model_fields_set else defaults.evict,
            )
            for item in options
        )

    def _check_name(self, where: Location, name: str) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise self._source.error(where, f"{name!r} is not a name (letters, digits and _)")

    def _check_names(self, channels: Iterable[ChannelSpec]) -> None:
        for channel in channels:
            if channel.name in ("id", HEARTBEAT):
                where: Location = ("channels", channel.name)
                raise self._source.error(where, f"the name {channel.name!r} is taken by the gateway itself")

    def _check_fields(self, structs: Mapping[str, StructSpec], enums: Mapping[str, EnumSpec]) -> None:
        never = datetime(1970, 1, 1, tzinfo=UTC)
        for spec in structs.values():
            compiler = Compiler(structs, enums, lambda: "", lambda: never, never)
            try:
                compiler.validator(compiler.struct(spec))
            except FieldError as error:
                raise self._source.error(("structs", error.struct, "fields", error.field), error.reason) from None
            except SchemaError as error:
                raise self._source.error(("structs", spec.name), reason_of(error)) from None

    def _check_states(
        self,
        channels: Iterable[ChannelSpec],
        structs: Mapping[str, StructSpec],
        enums: Mapping[str, EnumSpec],
    ) -> None:
        aliases: dict[str, str] = {}
        for channel in channels:
            columns = Columns(structs[channel.struct], structs, enums)
            for state in channel.states:
                where: Location = ("channels", channel.name, "state")
                if state.alias in aliases:
                    raise self._source.error(where, f"the alias {state.alias!r} belongs to {aliases[state.alias]!r}")
                self._check_name(where, state.alias)
                aliases[state.alias] = channel.name
                for path in state.keyby:
                    if not columns.has(path):
                        names = [field.name for field in structs[channel.struct].fields] + ["id", "timestamp"]
                        hint = _did_you_mean(path, names)
                        raise self._source.error(where, f"keyby {path!r} is not a field of {channel.struct}{hint}")

    def _check_selections(self, channels: set[str], aliases: set[str]) -> None:
        options = self._options
        lists: list[tuple[Location, list[str]]] = [(("stream", "include"), options.stream.include or [])]
        for group in ("last", "next", "send", "state", "lookup", "stage"):
            selection = getattr(options.rest, group)
            if selection is not False and group != "state":
                lists.append((("rest", group, "include"), selection.include or []))
                lists.append((("rest", group, "exclude"), selection.exclude))
        for where, names in lists:
            for number, name in enumerate(names):
                if name not in channels and name != HEARTBEAT:
                    hint = _did_you_mean(name.partition("/")[0], channels)
                    raise self._source.error((*where, number), f"{name!r} is not a channel{hint}")
        state = options.rest.state
        for kind, names in () if state is False else (("include", state.include or []), ("exclude", state.exclude)):
            for number, name in enumerate(names):
                if name not in aliases:
                    hint = _did_you_mean(name, aliases)
                    raise self._source.error(("rest", "state", kind, number), f"{name!r} is not a state{hint}")

    def _check_keys(self, channels: set[str]) -> None:
        api_key = self._options.auth.api_key
        known: set[str] = set()
        for number, key in enumerate([] if api_key is None else api_key.keys):
            text = key.key if isinstance(key, ApiKeyOptions) else key
            if text in known:
                raise self._source.error(("auth", "api_key", "keys", number), "this key is given twice")
            known.add(text)
            for at, name in enumerate((key.channels or []) if isinstance(key, ApiKeyOptions) else []):
                if name not in channels and name != HEARTBEAT:
                    where: Location = ("auth", "api_key", "keys", number, "channels", at)
                    raise self._source.error(where, f"{name!r} is not a channel{_did_you_mean(name, channels)}")

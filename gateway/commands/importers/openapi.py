"""A channel file from the OpenAPI document of a csp-gateway server, and from what its read-only routes list.

The document has the structs and the routes. It does not say whether a tick is one struct or a list of them, which keys
a basket has, and what the members of an enumeration are called; `Listings` has what a running server answers to that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from gateway.commands.importers.draft import Draft
from gateway.commands.importers.json_types import JsonTypes, Schema
from gateway.engine.channels import CONTROLS, HEARTBEAT

_GROUPS: Final = ("last", "next", "send", "state", "lookup", "stage")
_KEYED_BY = re.compile(r"\*\*Keyed by:\*\*([^\n]*)")
_VALIDATORS = "Validators, modules and API keys are not in the document."
_KEY = "The server shows keys of baskets, last values and static fields to callers with a key alone: see --token."
_LISTS = "The document does not say where a tick is a list of structs: write list: true there."
_UNKNOWN_KEYS = "its keys are not in the document; write them in place of KEY and remove the mark of the comment"


@dataclass
class Listings:
    """What a running server lists beside its document.

    Attributes:
        stream: Feeds that can be subscribed to, in the order of declaration: channels, and BASKET/KEY.
        send: What can be sent to, in the same form; None when it is unknown.
        last: Last values by feed.
        fields: Static fields.
        omitted: Channels whose last value is not found by lookup.
        asks_for_key: Whether the server would list more to callers with a key.
    """

    stream: list[str] = field(default_factory=list)
    send: list[str] | None = None
    last: dict[str, list[Any]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    omitted: set[str] = field(default_factory=set)
    asks_for_key: bool = False

    def keys(self, channel: str) -> list[str]:
        """The keys of a basket."""
        feeds = self.stream or self.send or []
        return [feed.partition("/")[2] for feed in feeds if feed.startswith(f"{channel}/")]

    def values(self, channel: str) -> list[Any]:
        """Last values of a channel, of all its keys."""
        return [value for feed, values in self.last.items() if feed.partition("/")[0] == channel for value in values]

    def ticks_lists(self, channel: str) -> bool:
        """Whether a last value was seen that can only be that of a list channel."""
        return any(len(values) > 1 for feed, values in self.last.items() if feed in (channel, *self._feeds(channel)))

    def _feeds(self, channel: str) -> Iterator[str]:
        return (f"{channel}/{key}" for key in self.keys(channel))


def base_of(document: Mapping[str, Any]) -> str:
    """The path in front of all routes of the API, such as ``/api/v1``.

    Raises:
        ValueError: The document has none of the routes of a csp-gateway.
    """
    for path in document.get("paths", {}):
        found = re.fullmatch(r"(.*)/(?:last|next|send|state|lookup)/", path)
        if found:
            return found.group(1)
    raise ValueError("this is not the document of a csp-gateway: it has no path such as /api/v1/last/")


def feeds_of(document: Mapping[str, Any], group: str = "last") -> list[str]:
    """The channels of a group of routes, without the keys of baskets."""
    return list(_channels(document.get("paths", {}), base_of(document), group))


def draft_of_document(document: Mapping[str, Any], listings: Listings, origin: str) -> Draft:
    """A channel file with the channels of an OpenAPI document.

    Args:
        document: The document of a csp-gateway server.
        listings: What the server lists, empty when there is the document alone.
        origin: Where the document is from, for the first line of the file.

    Raises:
        ValueError: It is the document of something else.
    """
    return _Reader(document, listings, origin).draft()


def _channels(paths: Mapping[str, Any], base: str, group: str) -> dict[str, dict[str, Any]]:
    """The operation of each channel in a group, by channel; that of one key where there is none of the channel."""
    found: dict[str, dict[str, Any]] = {}
    for path, operations in paths.items():
        matched = re.fullmatch(rf"{re.escape(base)}/{group}/([^/{{}}]+)(/\{{\w+\}})?", path)
        if matched and matched.group(1) != "id":
            operation = operations.get("get") or operations.get("post") or {}
            if matched.group(2) is None or matched.group(1) not in found:
                found[matched.group(1)] = operation
    return found


class _Reader:
    def __init__(self, document: Mapping[str, Any], listings: Listings, origin: str) -> None:
        self._paths: Mapping[str, Any] = document.get("paths", {})
        self._document = document
        self._listings = listings
        self._base = base_of(document)
        self._draft = Draft(origin)
        self._groups = {group: _channels(self._paths, self._base, group) for group in _GROUPS}
        components = document.get("components", {}).get("schemas", {})
        self._types = JsonTypes(self._draft, components, self._examples(components))

    def draft(self) -> Draft:
        draft = self._draft
        draft.note((), _VALIDATORS)
        if self._listings.asks_for_key:
            draft.note((), _KEY)
        draft.value |= {"server": self._server(), "enums": {}, "structs": {}, "channels": {}}
        names = self._names()
        for name in names:
            self._channel(name)
        self._states(names)
        self._lists(names)
        self._sections(names)
        if not names:
            raise ValueError("the document has no channel")
        return draft

    def _examples(self, components: Mapping[str, Schema]) -> dict[str, list[Mapping[str, Any]]]:
        """Last values by the title of their struct."""
        examples: dict[str, list[Mapping[str, Any]]] = {}
        for name, operation in self._groups["last"].items():
            schema = _answer(operation) or {}
            schema = components.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
            examples.setdefault(str(schema.get("title")), []).extend(self._listings.values(name))
        return examples

    def _names(self) -> list[str]:
        """The channels in the order of declaration, as far as that is known."""
        listed = [feed.partition("/")[0] for feed in self._listings.stream]
        mounted = [name for group in ("lookup", "last", "next", "send", "stage") for name in self._groups[group]]
        return [name for name in dict.fromkeys([*listed, *mounted]) if name not in (CONTROLS, HEARTBEAT)]

    def _channel(self, name: str) -> None:
        struct = self._struct(name)
        options: dict[str, Any] = {"type": struct}
        self._draft.section("channels")[name] = options
        if self._listings.ticks_lists(name):
            options["list"] = True
        if any(f"{self._base}/{group}/{name}/{{key}}" in self._paths for group in ("last", "next", "send")):
            options["keys"] = self._keys(name)
        if self._sendable(name):
            options["send"] = True
        if name in self._groups["stage"]:
            options["stage"] = True
        if name in self._listings.omitted:
            self._draft.section("structs")[struct]["lookup"] = False

    def _struct(self, name: str) -> str:
        for group in ("last", "next", "lookup", "send"):
            operation = self._groups[group].get(name)
            schema = None if operation is None else _answer(operation)
            if operation is not None and schema is not None:
                struct = self._types.struct(schema)
                python_type = operation.get("type_")
                if python_type and not python_type.startswith("__main__."):
                    self._draft.section("structs")[struct].setdefault("python_type", python_type)
                return struct
        raise ValueError(f"the document does not say what ticks on {name!r}")

    def _sendable(self, name: str) -> bool:
        if self._listings.send is None:
            return name in self._groups["send"]
        keys = [feed.partition("/")[2] for feed in self._listings.send if feed.startswith(f"{name}/")]
        missing = sorted({*self._listings.keys(name)} - {*keys})
        if keys and missing:
            self._draft.note(("channels", name), f"only the keys {', '.join(keys)} could be sent to")
        return name in self._listings.send or bool(keys)

    def _keys(self, name: str) -> str | list[str]:
        keys = self._listings.keys(name)
        operation = self._paths.get(f"{self._base}/send/{name}/{{key}}", {}).get("post", {})
        schema: Schema = next((each["schema"] for each in operation.get("parameters", []) if each["name"] == "key"), {})
        enum = self._types.enum(schema, keys) if "$ref" in schema else None
        if enum is not None and (not keys or {*keys} == {*self._draft.section("enums")[enum]["members"]}):
            return enum
        keys = keys or [str(key) for key in schema.get("enum", [])]
        if not keys:
            self._draft.disabled.add(name)
            self._draft.note(("channels", name), _UNKNOWN_KEYS)
        return keys or ["KEY"]

    def _states(self, names: list[str]) -> None:
        channels = self._draft.section("channels")
        for alias, operation in self._groups["state"].items():
            keyed = _KEYED_BY.search(str(operation.get("description", "")))
            keyby = re.findall(r"'([^']+)'", keyed.group(1)) if keyed else []
            schema = _answer(operation)
            struct = None if schema is None else self._types.struct(schema)
            same = [name for name in names if channels[name]["type"] == struct and name not in self._draft.disabled]
            if alias not in same and not same:
                self._draft.note(("channels",), f"the state {alias!r} is left out: no channel has its struct")
                continue
            channel = alias if alias in same else max(same, key=lambda name: _common(name, alias))
            if channel != alias and len(same) > 1:
                place = ("channels", channel)
                others = ", ".join(name for name in same if name != channel)
                self._draft.note(place, f"the state {alias!r} may also be that of {others}")
            if not keyby:
                self._draft.note(("channels", channel), f"the key of the state {alias!r} is not in the document")
            state = {"keyby": keyby or ["id"]} | ({} if alias == channel else {"alias": alias})
            channels[channel].setdefault("state", []).append(state)
        for options in channels.values():
            if len(options.get("state", [])) == 1:
                options["state"] = options["state"][0]

    def _lists(self, names: list[str]) -> None:
        channels = self._draft.section("channels")
        known = [name for name in names if channels[name].get("list")]
        open_names = [name for name in names if name not in known]
        if open_names:
            seen = f" {', '.join(known)} ticked several at once." if known else ""
            self._draft.note(("channels",), f"{_LISTS}{seen} Check {', '.join(open_names)}.")

    def _server(self) -> dict[str, Any]:
        info = self._document.get("info", {})
        prefix, _, version = self._base.rpartition("/")
        server = {key: info[key] for key in ("title", "description", "version", "contact") if info.get(key)}
        if "contact" in server:
            server["contact"] = {key: server["contact"][key] for key in ("name", "email") if key in server["contact"]}
        if (prefix, version) != ("/api", "v1"):
            server |= {"api_prefix": prefix.strip("/"), "api_version": version}
        roots = [each.get("url", "") for each in self._document.get("servers", [])]
        return server | ({"root_path": roots[0]} if roots and roots[0].startswith("/") else {})

    def _sections(self, names: list[str]) -> None:
        draft, paths, base = self._draft, self._paths, self._base
        static_path = re.compile(rf"{re.escape(base)}/field/([^/{{}}]+)")
        static = [found.group(1) for found in map(static_path.fullmatch, paths) if found]
        if static:
            draft.value["fields"] = {name: self._listings.fields.get(name) for name in static}
            for name in static:
                if name not in self._listings.fields:
                    draft.note(("fields", name), "its value is not in the document")
        controls = {name: f"{base}/controls/{name}" in paths for name in ("heartbeat", "stats", "shutdown")}
        draft.value["controls"] = controls if any(controls.values()) else False
        rest = self._rest([name for name in names if name not in draft.disabled])
        if rest:
            draft.value["rest"] = rest
        if f"{base}/channels_graph" not in paths:
            draft.value["graph"] = False
        if not any(path.endswith(("/stream",)) for path in paths):
            draft.note((), "The document has no stream; here there is one.")
        if "/outputs/{full_path}" in paths:
            draft.note((), "Its folder of logs is not in the document: add outputs: FOLDER.")
        if any(path.startswith(f"{base}/perspective") for path in paths):
            draft.note((), "Perspective tables are not served here.")
        schemes = self._document.get("components", {}).get("securitySchemes", {})
        if schemes:
            keyed = [each for each in schemes.values() if each.get("type") == "apiKey"]
            draft.value["auth"] = {"api_key": {"name": keyed[0]["name"]} if keyed else {}}
            draft.note(("auth",), 'add keys: ["${ENV:NAME}"]; without it, a key is made up at each start')
            if not keyed:
                draft.note(("auth",), f"{', '.join(schemes)} is not known here; API keys stand in for it")

    def _rest(self, names: list[str]) -> dict[str, Any]:
        """Which channels are missing in groups of routes that are there."""
        rest: dict[str, Any] = {}
        for group in ("last", "next", "lookup"):
            mounted = self._groups[group]
            missing = [name for name in names if name not in mounted]
            if f"{self._base}/{group}/" not in self._paths and not mounted:
                rest[group] = False
            elif missing:
                rest[group] = {"exclude": missing}
        return rest


def _answer(operation: Mapping[str, Any]) -> Schema | None:
    """The schema of the struct in a successful answer."""
    content = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    inner = schema.get("items") or schema.get("additionalProperties")
    return inner if isinstance(inner, dict) and inner else None


def _common(name: str, alias: str) -> int:
    """How many characters in a row two names have in common."""
    matcher = SequenceMatcher(None, name, alias, autojunk=False)
    return matcher.find_longest_match(0, len(name), 0, len(alias)).size

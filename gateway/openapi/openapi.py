"""The OpenAPI document (§5.1): the real clients learn from it what they may call.

It is built from the declarations alone. Order and names follow what those clients and the pages read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from gateway.config.declared import Declared
from gateway.config.route_groups import RouteGroups
from gateway.engine.channels import ChannelSpec
from gateway.openapi.fixed_parts import ERROR_404, FILTERS, HTTP_VALIDATION_ERROR, STAGED, STRINGS, VALIDATION_ERROR
from gateway.schema.json_schema import Schema, Schemas
from gateway.schema.structs import StructSpec
from gateway.state.store import StateSpec, describe_key

Operation: TypeAlias = dict[str, Any]
Method = Literal["get", "post", "put", "patch", "delete"]


class OpenApi:
    """Builds the document of one gateway.

    Args:
        declared: The channel file.
        groups: Which routes exist.
        schemas: The schemas of the structs.
        key_name: Name of the API key's parameter, when callers need one.
        providers: Names of the channels that something can tick.
    """

    def __init__(self, declared: Declared, groups: RouteGroups, schemas: Schemas, key_name: str | None) -> None:
        self._declared = declared
        self._groups = groups
        self._schemas = schemas
        self._key_name = key_name
        self._structs = {spec.name: spec for spec in declared.structs}
        self._base = groups.base
        self._paths: dict[str, dict[str, Operation]] = {}

    def document(self) -> dict[str, Any]:
        """The whole document."""
        self._last_and_next()
        self._states()
        self._sends()
        self._lookups()
        self._controls()
        self._stages()
        self._streaming()
        self._utilities()
        server = self._declared.options.server
        document: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": {
                "title": server.title,
                "description": server.description,
                "contact": {"name": server.contact.name, "email": server.contact.email},
                "version": server.version,
            },
            "paths": self._paths,
            "components": self._components(),
        }
        if server.root_path:
            document["servers"] = [{"url": server.root_path}]
        return document

    def _components(self) -> dict[str, Any]:
        schemas = self._schemas.components() | {
            "Error404": ERROR_404,
            "HTTPValidationError": HTTP_VALIDATION_ERROR,
            "ValidationError": VALIDATION_ERROR,
        }
        components: dict[str, Any] = {"schemas": schemas}
        if self._key_name is not None:
            components["securitySchemes"] = {
                f"APIKey{place.title()}": {"type": "apiKey", "in": place, "name": self._key_name}
                for place in ("query", "header", "cookie")
            }
        return components

    # --- groups ---

    def _last_and_next(self) -> None:
        for group, tag, does in (
            ("last", "Last", "Get the last ticked value"),
            ("next", "Next", "Wait for the next tick"),
        ):
            channels = self._groups.last if group == "last" else self._groups.next
            if channels is None:
                continue
            for spec in channels:
                struct = self._structs[spec.struct]
                answer = self._records(struct)
                title = f"Get {tag} {spec.name}"
                if spec.keys is not None:
                    key = [_path_parameter("key", self._key_schema(spec))]
                    self._add(
                        f"/{group}/{spec.name}/{{key}}", "get", tag, f"{title} by key", answer,
                        f"{does} of one key of the basket `{spec.name}`.", parameters=[*key, *_waiting(group)],
                        type_=struct.python_type,
                    )  # fmt: skip
                whole = struct.python_type if spec.keys is None or group == "next" else None
                self._add(
                    f"/{group}/{spec.name}", "get", tag, title, answer,
                    f"{does} of the channel `{spec.name}`, always as a list.", parameters=_waiting(group), type_=whole,
                )  # fmt: skip
            self._listing(group, tag, f"get_{group}")

    def _states(self) -> None:
        if self._groups.states is None:
            return
        for state, spec in self._groups.states:
            self._state(state, spec)
        self._listing("state", "State", "get_state")

    def _state(self, state: StateSpec, spec: ChannelSpec) -> None:
        struct = self._structs[spec.struct]
        query = {
            "name": "query",
            "in": "query",
            "required": False,
            "description": "Query Parameters",
            "schema": {"type": "string", "contentMediaType": "application/json", "title": "Query"},
        }
        about = f"**Keyed by:** {describe_key(state)}\n\n"
        about += FILTERS.format(base=f"{self._base}/state/{state.alias}")
        title = f"Get State {state.alias}"
        answer = self._records(struct)
        self._add(
            f"/state/{state.alias}", "get", "State", title, answer, about, parameters=[query], type_=struct.python_type
        )
        if spec.keys is not None:
            key = _path_parameter("key", self._key_schema(spec))
            self._add(
                f"/state/{state.alias}/{{key}}", "get", "State", f"{title} by key", answer, about,
                parameters=[key, query], type_=struct.python_type,
            )  # fmt: skip

    def _sends(self) -> None:
        if self._groups.send is None:
            return
        for spec in self._groups.send:
            struct = self._structs[spec.struct]
            reference = self._schemas.reference(spec.struct)
            one_or_many = {"anyOf": [{"type": "array", "items": reference}, reference], "title": "Data"}
            answer = self._records(struct)
            title = f"Send {spec.name}"
            if spec.keys is not None:
                self._add(
                    f"/send/{spec.name}/{{key}}", "post", "Requests", f"{title} by key", answer,
                    f"Tick one key of the basket `{spec.name}`.",
                    parameters=[_path_parameter("key", self._key_schema(spec))], body=one_or_many,
                    type_=struct.python_type,
                )  # fmt: skip
                whole: Schema = {
                    "type": "object",
                    "title": "Data",
                    "additionalProperties": one_or_many if spec.is_list else reference,
                }
                if spec.key_enum is not None:
                    whole["propertyNames"] = self._schemas.key_enum(spec.key_enum)
                self._add(
                    f"/send/{spec.name}", "post", "Requests", title, answer,
                    f"Tick several keys of the basket `{spec.name}` at once.", body=whole, type_=struct.python_type,
                )  # fmt: skip
            else:
                self._add(
                    f"/send/{spec.name}", "post", "Requests", title, answer, f"Tick the channel `{spec.name}`.",
                    body=one_or_many, type_=struct.python_type,
                )  # fmt: skip
        self._listing("send", "Requests", "get_send")

    def _lookups(self) -> None:
        if self._groups.lookup is None:
            return
        parameter = _path_parameter("id", {"type": "string", "title": "Id"})
        for spec in self._groups.lookup:
            struct = self._structs[spec.struct]
            self._add(
                f"/lookup/{spec.name}/{{id}}", "get", "Lookup", f"Lookup {spec.name}", self._records(struct),
                f"Find a `{spec.struct}` by its id; an unknown id is an empty list.", parameters=[parameter],
                type_=struct.python_type,
            )  # fmt: skip
        self._add(
            "/lookup/id/{id}", "get", "Lookup", "get_lookup_by_id", {"type": "array", "items": {"type": "object"}},
            "Find a struct of any type by its id.", parameters=[parameter],
        )  # fmt: skip
        self._listing("lookup", "Lookup", "get_lookup")

    def _controls(self) -> None:
        titles = {"heartbeat": "Get Heartbeat", "stats": "Get CSP Stats", "shutdown": "Shutdown Server"}
        about = {
            "heartbeat": "A tick through the engine: proves that it lives.",
            "stats": "Load, memory, versions of time, and the gateway's own counters.",
            "shutdown": "End the server cleanly.",
        }
        for name in self._groups.controls:
            method: Method = "post" if name == "shutdown" else "get"
            struct = self._structs["Controls"]
            self._add(
                f"/controls/{name}", method, "Controls", titles[name], self._records(struct), about[name],
                type_=struct.python_type,
            )  # fmt: skip
        if self._groups.controls:
            self._listing("controls", "Controls", "get_controls")

    def _stages(self) -> None:
        if not self._groups.stage:
            return
        query = {
            "name": "id",
            "in": "query",
            "required": False,
            "description": "Staging ids, separated by commas; empty for all",
            "schema": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Id"},
        }
        for spec in self._groups.stage:
            areas = {"type": "object", "additionalProperties": self._records(self._structs[spec.struct])}
            for verb, does in STAGED.items():
                body = None
                if verb in ("POST", "DELETE"):
                    body = {"anyOf": [self._schemas.reference(spec.struct), {"type": "null"}], "title": "Data"}
                method: Any = verb.lower()
                self._add(
                    f"/stage/{spec.name}", method, "Stage", f"Stage {does} {spec.name}",
                    STRINGS if verb == "GET" else areas, f"{does} staged structs of the channel `{spec.name}`.",
                    parameters=[query], body=body, body_required=False,
                )  # fmt: skip
        self._listing("stage", "Stage", "get_staged_channels")

    def _streaming(self) -> None:
        path = self._groups.stream_path
        self._add(
            path, "get", "Streaming", "stream", STRINGS,
            "The channels that can be subscribed to. The WebSocket is on the same path; its messages are described "
            "in `/asyncapi.json`.",
        )  # fmt: skip
        channel = {"name": "channel", "in": "query", "required": True, "schema": {"type": "string"}}
        self._add(
            "/sse", "get", "Streaming", "Server Sent Events", {"type": "string"},
            "The same messages as server-sent events, for clients without WebSockets. `channel` may be given several "
            "times, as `name` or `basket/key`; `Last-Event-ID` resumes behind a struct.", parameters=[channel],
        )  # fmt: skip

    def _utilities(self) -> None:
        options = self._declared.options
        if options.fields:
            self._add("/field", "get", "Utility", "Get Fields", STRINGS, "Names of the static fields.")
        for name in options.fields:
            self._add(f"/field/{name}", "get", "Utility", f"Get Field {name}", {}, "A static value.")
        if options.graph:
            modules = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": STRINGS}}
            about = "Which modules read and which provide each channel."
            self._add("/channels_graph", "get", "Utility", "Channels Graph Data", modules, about)
            self._add_top("/channels_graph", "Utility", "Browse Channels Graph")
        if self._key_name is not None:
            for name in ("login", "logout"):
                self._add(f"/auth/{name}", "get", "Auth", f"Route {name}", {}, f"Set or clear the cookie: {name}.")
        if options.outputs:
            self._add_top("/outputs/{full_path}", "Utility", "Browse Logs")
        self._add_top(self._groups.api_root, "Utility", "get_api_versions")

    # --- parts ---

    def _records(self, struct: StructSpec) -> Schema:
        return {"type": "array", "items": self._schemas.reference(struct.name)}

    def _key_schema(self, spec: ChannelSpec) -> Schema:
        if spec.key_enum is not None:
            return self._schemas.key_enum(spec.key_enum)
        return {"type": "string", "enum": list(spec.keys or ()), "title": "Key"}

    def _listing(self, group: str, tag: str, name: str) -> None:
        about = f"The names under `/{group}`."
        self._add(f"/{group}/", "get", tag, name, STRINGS, about)

    def _add_top(self, path: str, tag: str, name: str) -> None:
        self._put(path, "get", tag, name, {}, name.replace("_", " ").capitalize(), (), None, False, None)

    def _add(
        self,
        path: str,
        method: Method,
        tag: str,
        name: str,
        answer: Schema,
        about: str,
        *,
        parameters: Iterable[Operation] = (),
        body: Schema | None = None,
        body_required: bool = True,
        type_: str | None = None,
    ) -> None:
        self._put(self._base + path, method, tag, name, answer, about, parameters, body, body_required, type_)

    def _put(
        self,
        path: str,
        method: Method,
        tag: str,
        name: str,
        answer: Schema,
        about: str,
        parameters: Iterable[Operation],
        body: Schema | None,
        body_required: bool,
        type_: str | None,
    ) -> None:
        named = list(parameters)
        operation: Operation = {
            "tags": [tag],
            "summary": name.replace("_", " ").title(),
            "description": about,
            "operationId": re.sub(r"\W", "_", f"{name}{path}_{method}"),
        }
        if named:
            operation["parameters"] = named
        if body is not None:
            operation["requestBody"] = {
                "required": body_required,
                "content": {"application/json": {"schema": body}},
            }
        operation["responses"] = self._responses(answer, bool(named) or body is not None)
        if type_ is not None:
            operation["type_"] = type_
        if self._key_name is not None:
            operation["security"] = [{f"APIKey{place}": []} for place in ("Query", "Header", "Cookie")]
        self._paths.setdefault(path, {})[method] = operation

    @staticmethod
    def _responses(answer: Schema, has_input: bool) -> dict[str, Any]:
        responses: dict[str, Any] = {
            "200": {"description": "Successful Response", "content": {"application/json": {"schema": answer}}},
            "404": {
                "description": "Not Found",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error404"}}},
            },
        }
        if has_input:
            responses["422"] = {
                "description": "Validation Error",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}},
            }
        return responses


def _path_parameter(name: str, schema: Schema) -> Operation:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _waiting(group: str) -> list[Operation]:
    if group != "next":
        return []
    return [
        {
            "name": "timeout",
            "in": "query",
            "required": False,
            "description": "Seconds to wait; then 408",
            "schema": {"type": "number", "title": "Timeout"},
        },
        {
            "name": "after",
            "in": "query",
            "required": False,
            "description": "Id of a struct: answer at once if the channel has ticked since",
            "schema": {"type": "string", "title": "After"},
        },
    ]

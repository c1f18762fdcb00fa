"""The AsyncAPI document of the stream: which messages go over the WebSocket, in both directions (§4)."""

from __future__ import annotations

from typing import Any

from gateway.config.declared import Declared
from gateway.config.route_groups import RouteGroups
from gateway.engine.channels import HEARTBEAT, ChannelSpec
from gateway.schema.json_schema import Schema, Schemas


def asyncapi_document(declared: Declared, groups: RouteGroups, schemas: Schemas) -> dict[str, Any]:
    """The whole document, version 3.0; `schemas` refer to ``#/components/schemas``."""
    server = declared.options.server
    messages = _actions()
    for spec in groups.stream:
        messages[f"{spec.name}_ticked"] = _ticked(spec, schemas)
        if spec.sendable and not (declared.options.stream.readonly or server.send_readonly):
            messages[f"send_{spec.name}"] = _send(spec, schemas)
    messages["heartbeat"] = _message(
        "The regular sign of life", _object({"channel": {"const": HEARTBEAT}, "data": {"const": "PING"}})
    )
    outgoing = [name for name in messages if name.endswith("_ticked") or name in ("heartbeat", "ack", "error")]
    incoming = [name for name in messages if name not in outgoing]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": server.title, "version": server.version, "description": server.description},
        "channels": {
            "stream": {
                "address": server.root_path + groups.base + groups.stream_path,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "receive": _operation("send", outgoing, "What the gateway sends to a client"),
            "act": _operation("receive", incoming, "What a client may send to the gateway"),
        },
        "components": {"schemas": schemas.components(), "messages": messages},
    }


def _operation(action: str, messages: list[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in messages],
    }


def _actions() -> dict[str, Any]:
    text: Schema = {"type": "string"}
    subscription = {"channel": text, "key": text}
    more = {"snapshot": {"type": "boolean"}, "after": text}
    members = {"action": text, "channel": text, "key": {"type": ["string", "null"]}}
    detail: Schema = {"anyOf": [text, {"type": "array"}]}
    return {
        "subscribe": _message(
            "Start to receive a channel, or one key of a basket",
            _object({"action": {"const": "subscribe"}, **subscription, **more}, ["action", "channel"]),
        ),
        "unsubscribe": _message(
            "Stop to receive it", _object({"action": {"const": "unsubscribe"}, **subscription}, ["action", "channel"])
        ),
        "hello": _message(
            "Ask for acknowledgements and errors",
            _object({"action": {"const": "hello"}, "errors": {"type": "boolean"}}, ["action"]),
        ),
        "ack": _message(
            "An action was carried out (after hello)",
            _object(
                {
                    "channel": {"const": "ack"},
                    "data": _object({"action": text, "channel": text, "ids": {"type": "array", "items": text}}),
                }
            ),
        ),
        "error": _message(
            "An action was ignored (after hello)",
            _object({"channel": {"const": "error"}, "data": _object({**members, "detail": detail})}),
        ),
    }


def _ticked(spec: ChannelSpec, schemas: Schemas) -> dict[str, Any]:
    members: dict[str, Schema] = {"channel": {"const": spec.name}}
    if spec.keys is not None:
        members["key"] = {"enum": list(spec.keys)}
    members["data"] = {"type": "array", "items": schemas.reference(spec.struct)}
    return _message(f"A tick of {spec.name}", _object(members))


def _send(spec: ChannelSpec, schemas: Schemas) -> dict[str, Any]:
    members: dict[str, Schema] = {"action": {"const": "send"}, "channel": {"const": spec.name}}
    if spec.keys is not None:
        members["key"] = {"enum": list(spec.keys)}
    reference = schemas.reference(spec.struct)
    members["data"] = {"anyOf": [reference, {"type": "array", "items": reference}]}
    return _message(f"Tick {spec.name}", _object(members))


def _message(summary: str, payload: Schema) -> dict[str, Any]:
    return {"summary": summary, "contentType": "application/json", "payload": payload}


def _object(members: dict[str, Schema], required: list[str] | None = None) -> Schema:
    return {"type": "object", "properties": members, "required": list(members) if required is None else required}

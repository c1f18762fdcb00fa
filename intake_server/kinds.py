"""What the kinds of values are called in messages."""

from __future__ import annotations

_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a map",
    bytes: "bytes",
}


def kind_of(value: object) -> str:
    """The kind of a value from a YAML file or a MessagePack message, such as "a list"; "nothing" for null."""
    return "nothing" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")

"""What is wrong with an input, in the shape that clients are used to (§2.5, §3)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from pydantic_core import ErrorDetails, ValidationError

Location: TypeAlias = tuple[str | int, ...]
ErrorItem: TypeAlias = dict[str, Any]

MOST_FAULTS: Final = 1000
UNREADABLE = "There was an error parsing the body"
NOT_A_STRUCT = "Input should be a valid dictionary or object to extract fields from"


class InvalidInput(Exception):  # noqa: N818 - an answer to a client, not a failure of the program
    """An input that is not what was declared.

    Attributes:
        errors: One item for each fault: ``type``, ``loc``, ``msg``, ``input`` and, for some, ``ctx``.
    """

    def __init__(self, errors: Sequence[ErrorItem]) -> None:
        super().__init__("; ".join(describe(error) for error in errors))
        self.errors = list(errors)


class UnreadableInput(InvalidInput):
    """An input that is not even text, or not text that can be read: the real server answers 400, not 422."""


def describe(error: ErrorItem) -> str:
    """One fault as a line for people: where, what."""
    where = ".".join(str(step) for step in error["loc"])
    return f"{where}: {error['msg']}" if where else str(error["msg"])


def error_item(kind: str, loc: Location, message: str, given: Any, context: Any = None) -> ErrorItem:
    """One fault, in the order of members that clients print."""
    item: ErrorItem = {"type": kind, "loc": list(loc), "msg": message, "input": given}
    if context is not None:
        item["ctx"] = context
    return item


def error_items(errors: Iterable[ErrorDetails], prefix: Location) -> list[ErrorItem]:
    """The faults that pydantic found, placed under a location; exceptions in their context become ``{}``."""
    items = []
    for error in errors:
        context = error.get("ctx")
        if context is not None:
            context = {name: {} if isinstance(value, Exception) else value for name, value in context.items()}
        items.append(error_item(error["type"], (*prefix, *error["loc"]), error["msg"], error["input"], context))
    return items


def from_validation(error: ValidationError, prefix: Location, first: int = 0) -> InvalidInput:
    """What pydantic said, as an answer; `first` is the index of the first item when it was shown a part of a list."""
    count = error.error_count()
    if count > MOST_FAULTS:
        message = f"{count} faults: too many to list, send fewer structs to see each"
        return InvalidInput([error_item("too_many_errors", prefix, message, None, {"max_errors": MOST_FAULTS})])
    items = error_items(error.errors(include_url=False), prefix)
    for item in items if first else ():
        item["loc"][len(prefix)] += first
    return InvalidInput(items)


def missing_body() -> InvalidInput:
    """The request has no body."""
    return InvalidInput([error_item("missing", ("body",), "Field required", None)])


def not_json(text: bytes, loc: Location = ("body",)) -> InvalidInput:
    """The body is no JSON; the location ends with the offset at which reading failed."""
    offset, reason = 0, "Expecting value"
    try:
        json.loads(text.decode("utf-8"))
    except json.JSONDecodeError as error:
        offset, reason = error.pos, error.msg
    except (ValueError, RecursionError):  # no UTF-8, a number of thousands of digits, or endless nesting
        return UnreadableInput([error_item("json_invalid", loc, UNREADABLE, None)])
    return InvalidInput([error_item("json_invalid", (*loc, offset), "JSON decode error", {}, {"error": reason})])


def not_a_struct(given: Any, loc: Location) -> InvalidInput:
    """The input is neither an object nor, where that is allowed, a list of objects."""
    return InvalidInput([error_item("model_attributes_type", loc, NOT_A_STRUCT, given)])

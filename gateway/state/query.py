"""The state query language: filters, sort, limit, offset and fields (§3).

A query is read into plain data here, compiled against the columns of a struct in `gateway.state.selection`, and
evaluated over the columns of a state in `gateway.state.filters`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import ErrorDetails

from gateway.schema.invalid import InvalidInput, error_item

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

_EXTRA: Final = ("in", "is_null", "not_null")


def _keep_bool(value: Any, read: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, bool) else read(value)


class Condition(BaseModel):
    """The right-hand side of a filter: a value, a time or another field."""

    model_config = ConfigDict(extra="ignore")

    value: Annotated[float | int | str | None, WrapValidator(_keep_bool)] = None
    when: datetime | None = None
    attr: str = ""
    where: Operator = "=="


class Membership(BaseModel):
    """The filters that go beyond the reference: one of several values, null, not null."""

    model_config = ConfigDict(extra="ignore")

    value: list[Annotated[float | int | str | None, WrapValidator(_keep_bool)]] = Field(default_factory=list)
    where: Literal["in", "is_null", "not_null"]


def _read_condition(value: Any, read: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict) and value.get("where") in _EXTRA:
        if value["where"] != "in":
            value = {"where": value["where"]}
        return Membership.model_validate(value)
    return read(value)


class Filter(BaseModel):
    """One filter; all filters of a query must hold."""

    model_config = ConfigDict(extra="ignore")

    attr: str = ""
    by: Annotated[Condition, WrapValidator(_read_condition)]


def _none_is_empty(value: Any) -> Any:
    return [] if value is None else value


class Query(BaseModel):
    """A whole query."""

    model_config = ConfigDict(extra="ignore")

    filters: Annotated[list[Filter], BeforeValidator(_none_is_empty)] = Field(default_factory=list)
    sort: list[tuple[str, Literal["asc", "desc"]]] = Field(default_factory=list)
    limit: Annotated[int, Field(ge=0)] | None = None
    offset: Annotated[int, Field(ge=0)] = 0
    fields: list[str] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it selects every record unchanged."""
        return not (self.filters or self.sort or self.offset or self.fields) and self.limit is None


class BadQuery(Exception):  # noqa: N818 - an answer to a client, not a failure of the program
    """The query is JSON, but of the wrong shape: a 400 with a list of errors."""

    def __init__(self, errors: Sequence[ErrorDetails] | Sequence[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(error["msg"]) for error in errors))
        self.errors = [dict(error) for error in errors]


_QUERY: TypeAdapter[Query | None] = TypeAdapter(Query | None)
NO_FILTER: Final = Query()


def read_query(text: str | None) -> Query:
    """Read the ``query`` parameter.

    Raises:
        InvalidInput: The text is no JSON.
        BadQuery: The JSON is no query.
    """
    if text is None:
        return NO_FILTER
    if text.strip() == "null":
        return NO_FILTER
    try:
        return Query.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors()
        if errors[0]["type"] == "json_invalid":
            message = str(errors[0]["msg"])
            context = {"error": message.removeprefix("Invalid JSON: ")}
            raise InvalidInput([error_item("json_invalid", ("query", "query"), message, text, context)]) from None
        raise BadQuery(errors) from None

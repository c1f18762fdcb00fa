"""Struct types: validate the bytes of a request into records in one step.

Identifiers and the time come from whoever builds the `StructTypes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, TypeAlias

from pydantic import BaseModel
from pydantic_core import SchemaValidator, ValidationError, from_json, to_json
from pydantic_core import core_schema as cs

from gateway.schema.compiler import Compiler
from gateway.schema.field_types import EnumSpec
from gateway.schema.invalid import (
    InvalidInput,
    Location,
    error_item,
    from_validation,
    missing_body,
    not_a_struct,
    not_json,
)
from gateway.schema.memory_estimate import LARGE, MemoryLimit
from gateway.schema.record import Members, Record
from gateway.schema.structs import StructSpec

_BEYOND_FLOAT: Final = 309
_LONG_NUMBER: Final = re.compile(rb"[0-9]{309}")
_TEN_DIGITS: Final = re.compile(rb"[0-9]{10}")
RecordCheck: TypeAlias = Callable[[Record], object]
MAX_BODY: Final = 16 * 2**20


class StructType:
    """A compiled struct: turns JSON or Python values into records."""

    def __init__(
        self, spec: StructSpec, one: SchemaValidator, many: SchemaValidator, memory_limit: MemoryLimit | None = None
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self._one = one
        self._many = many
        self._memory_limit = memory_limit or MemoryLimit.of(MAX_BODY, {})
        self._checks: list[RecordCheck] = []

    def add_check(self, check: RecordCheck) -> None:
        """Run a check on every record from now on; a `ValueError` it raises rejects the record."""
        self._checks.append(check)

    def read(self, body: bytes, prefix: Location = ("body",)) -> list[Record]:
        """The records of a request body: one object, or a list of objects.

        Raises:
            InvalidInput: The body is absent, is no JSON, is not what was declared, or would take too much memory.
        """
        self._memory_limit.check(body, prefix)
        if has_long_number(body):
            return self.take(parse_json(body), prefix)
        start = body[:1] if body[:1] in (b"{", b"[") else body[:64].lstrip(b" \t\r\n")[:1]
        try:
            if start == b"{":
                return [self._record(self._one.validate_json(body), prefix)]
            if start == b"[":
                return self._records(self._many.validate_json(body), prefix)
        except ValidationError as error:
            raise _not_json_or_invalid(error, body, prefix) from None
        return self.take(parse_json(body), prefix)

    def read_in_slices(self, body: bytes, prefix: Location = ("body",)) -> Iterator[list[Record]]:
        """The records of `read` in slices of moderate size, each validated and encoded when it is requested.

        Raises:
            InvalidInput: As `read`; of a long list only the errors of the first slice that has any are reported.
        """
        self._memory_limit.check(body, prefix)
        return self.take_in_slices(parse_json(body), prefix)

    def take_in_slices(self, value: Any, prefix: Location = ("body",)) -> Iterator[list[Record]]:
        """The records of `take` for a value that was read from JSON, in slices as of `read_in_slices`."""
        if not isinstance(value, list):
            yield self.take(value, prefix)
            return
        for start in range(0, len(value), LARGE):
            encoded = to_json(value[start : start + LARGE], inf_nan_mode="constants")
            try:
                if has_long_number(encoded):
                    members = self._many.validate_python(value[start : start + LARGE])
                else:
                    members = self._many.validate_json(encoded)
            except ValidationError as error:
                raise from_validation(error, prefix, start) from None
            records = self._records(members, prefix, start)
            for record in records:
                record.encoded  # noqa: B018 - printed now, so that ticking it does not take the time
            yield records

    def take(self, value: Any, prefix: Location = ("body",)) -> list[Record]:
        """The records of a parsed value: one object, or a list of objects.

        Raises:
            InvalidInput: The value is not what was declared.
        """
        if isinstance(value, Record):
            return [self.take_one(value, prefix)]
        if isinstance(value, (list, tuple)):
            if any(isinstance(item, Record) for item in value):
                return [self.take_one(item, (*prefix, at)) for at, item in enumerate(value)]
            try:
                members = self._many.validate_python(value)
            except ValidationError as error:
                raise from_validation(error, prefix) from None
            return self._records(members, prefix)
        return [self.take_one(value, prefix)]

    def take_one(self, value: Any, prefix: Location = ("body",)) -> Record:
        """The record of one parsed object.

        Raises:
            InvalidInput: The value is not what was declared.
        """
        if isinstance(value, Record) and value.struct == self.name:
            return value
        if isinstance(value, (Record, BaseModel)):
            value = value.values if isinstance(value, Record) else value.model_dump(exclude_unset=True)
        if not isinstance(value, dict):
            raise not_a_struct(value, prefix)
        try:
            return self._record(self._one.validate_python(value), prefix)
        except ValidationError as error:
            raise from_validation(error, prefix) from None

    def restore(self, encoded: bytes) -> list[Record]:
        """Records from the JSON array that they were once printed as; what was absent stays absent.

        Raises:
            ValidationError: They do not fit this struct (any more).
        """
        return [Record(self.name, members) for members in self._many.validate_json(encoded)]

    def _records(self, members: list[Members], prefix: Location, start: int = 0) -> list[Record]:
        if self._checks:
            return [self._record(item, (*prefix, at)) for at, item in enumerate(members, start)]
        name = self.name
        return [Record(name, item) for item in members]

    def _record(self, members: Members, prefix: Location) -> Record:
        record = Record(self.name, members)
        if not self._checks:
            return record
        for check in self._checks:
            try:
                check(record)
            except ValueError as error:
                raise InvalidInput(
                    [error_item("value_error", prefix, f"Value error, {error}", members, {"error": {}})]
                ) from None
        return record


def has_long_number(text: bytes) -> bool:
    """Whether a text has a run of digits that may be an integer beyond the range of floats.

    A validator that reads JSON makes infinity of it for a float, which would be stored as null; one that reads Python
    values rejects it. Of such a run at least ten characters are among every thirtieth.
    """
    if len(text) < _BEYOND_FLOAT or _TEN_DIGITS.search(text[::30]) is None:
        return False
    return _LONG_NUMBER.search(text) is not None


def parse_json(body: bytes, prefix: Location = ("body",)) -> Any:
    """Any JSON text, with the same latitude as struct bodies (bare NaN is read).

    Raises:
        InvalidInput: There is no text, or it is no JSON.
    """
    if not body.strip():
        raise missing_body()
    try:
        return from_json(body)
    except ValueError:
        raise not_json(body, prefix) from None


def _not_json_or_invalid(error: ValidationError, body: bytes, prefix: Location) -> InvalidInput:
    if error.error_count() == 1 and error.errors(include_url=False)[0]["type"] == "json_invalid":
        return not_json(body, prefix)
    return from_validation(error, prefix)


class StructTypes:
    """Every struct of a gateway, compiled.

    Args:
        structs: The declarations.
        enums: The enumerations they use.
        next_id: Gives the identifier of a new struct.
        now: Gives the current time, aware.
        started: When the process started, for ``default_now: start``.
        max_body: The largest body, in bytes; what its records may take is measured by it.

    Raises:
        ValueError: A declaration contradicts itself; the message names struct and field.
    """

    def __init__(
        self,
        structs: Iterable[StructSpec],
        enums: Iterable[EnumSpec],
        *,
        next_id: Callable[[], str],
        now: Callable[[], datetime],
        started: datetime,
        max_body: int = MAX_BODY,
    ) -> None:
        self.specs = {spec.name: spec for spec in structs}
        self.enums = {spec.name: spec for spec in enums}
        self._next_id = next_id
        self._now = now
        self._started = started
        self.memory_limit = MemoryLimit.of(max_body, self.specs)
        self._types = {name: self._compile(spec) for name, spec in self.specs.items()}

    def __getitem__(self, name: str) -> StructType:
        return self._types[name]

    def __iter__(self) -> Iterator[StructType]:
        return iter(self._types.values())

    def parse(self, body: bytes, prefix: Location = ("body",)) -> Any:
        """Any JSON text that structs will be taken from.

        Raises:
            InvalidInput: There is no text, it is no JSON, or its structs would take too much memory.
        """
        self.memory_limit.check(body, prefix)
        return parse_json(body, prefix)

    def _compile(self, spec: StructSpec) -> StructType:
        compiler = Compiler(self.specs, self.enums, self._next_id, self._now, self._started)
        schema = compiler.struct(spec)
        return StructType(
            spec, compiler.validator(schema), compiler.validator(cs.list_schema(schema)), self.memory_limit
        )

"""Struct types as data: what a record must look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from gateway.schema.field_types import (
    FieldType,
)


class _Absent:
    """The default of a field that has none."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Limits:
    """Constraints of a field, each optional (§8.2)."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    def given(self) -> dict[str, Any]:
        """The constraints that are set, by name."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One declared field.

    Attributes:
        name: Member name.
        type: What it may hold.
        default: JSON value it has when absent, or `ABSENT`: then an absent member stays absent.
        default_now: ``start`` or ``tick``: the default is the time of the process start or of the tick.
        limits: Constraints.
        message: What a client reads when a constraint fails, instead of pydantic's words.
    """

    name: str
    type: FieldType
    default: Any = ABSENT
    default_now: Literal["start", "tick"] | None = None
    limits: Limits = field(default_factory=Limits)
    message: str | None = None

    @property
    def has_default(self) -> bool:
        """Whether an absent member is filled in."""
        return self.default_now is not None or not isinstance(self.default, _Absent)


@dataclass(frozen=True, slots=True)
class StructSpec:
    """A declared struct.

    Attributes:
        name: Its name in the channel file.
        fields: The declared fields, in order.
        implicit: Whether ``id`` and ``timestamp`` lead the fields.
        python_type: Dotted path of the class on the machine of a Python client, for ``return_type="struct"``.
        lookup: Whether records are kept for lookup by id.
        model: A pydantic model that validates the members, when the struct was imported from one.
    """

    name: str
    fields: tuple[FieldSpec, ...]
    implicit: bool = True
    python_type: str | None = None
    lookup: bool = True
    model: type[BaseModel] | None = None

    def field(self, name: str) -> FieldSpec | None:
        """The declared field of that name."""
        return next((spec for spec in self.fields if spec.name == name), None)

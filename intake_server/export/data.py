"""What the data have to offer to be exported: opened sources do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class DataSchema(Protocol):
    """What is known of the data before they are read."""

    @property
    def container(self) -> str:
        """``dataframe``, ``ndarray``, ``python`` or ``xarray``."""

    @property
    def dtype(self) -> Any:
        """For arrays: a numpy dtype text."""

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Lengths, None where unknown."""

    @property
    def npartitions(self) -> int:
        """How many partitions there are, at least one."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...] | None:
        """For arrays: the lengths of the blocks along every axis."""


class Data(Protocol):
    """Opened data."""

    @property
    def schema(self) -> DataSchema:
        """What is known before reading."""

    def read(self, partition: Any) -> Any:
        """One partition: a table, frame, array or list. None reads data that have a single partition."""


@runtime_checkable
class Divisible(Protocol):
    """Opened arrays that can also be read in smaller blocks."""

    def divided(self, most_bytes: int) -> Data:
        """The same data in blocks of about so many bytes, if such blocks can be read without reading more."""


@runtime_checkable
class DataSet(Protocol):
    """Opened data of several named arrays; a partition's first part is the name of one."""

    @property
    def variables(self) -> Mapping[str, DataSchema]:
        """Every variable as an array of its own."""

    @property
    def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """The names of every variable's axes."""

    def read(self, partition: Any) -> Any:
        """One block of a variable."""


class Variable:
    """One variable of a data set, as data of their own.

    Args:
        source: The data set.
        name: The variable's name.
        schema: The variable as an array.
    """

    def __init__(self, source: DataSet, name: str, schema: DataSchema) -> None:
        self._source = source
        self._name = name
        self.schema = schema

    def read(self, partition: Any) -> Any:
        """One block."""
        return self._source.read((self._name, *(partition or ())))

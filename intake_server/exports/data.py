"""What the data have to offer to be exported: opened sources do (specification §9.6)."""

from __future__ import annotations

from typing import Any, Protocol


class Schema(Protocol):
    """What is known of the data before they are read."""

    @property
    def container(self) -> str:
        """``dataframe``, ``ndarray`` or ``python``."""

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
    def schema(self) -> Schema:
        """What is known before reading."""

    def read(self, partition: Any) -> Any:
        """One partition: a table, frame, array or list. None reads data that have a single partition."""

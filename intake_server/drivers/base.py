"""What a driver is: the one small protocol between the server and every kind of data.

Drivers block: they are only ever called in worker threads. They know nothing of callers, catalogs or HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Partition = int | tuple[Any, ...]


class Unopenable(Exception):  # noqa: N818 - a property of the data or the arguments, answered as 400
    """The data cannot be opened as the entry says; the text names what is wrong."""


class NotServed(Unopenable):
    """Data of this kind are not served at all, answered as 501; the text says why."""


class NoSuchPartition(Exception):  # noqa: N818 - the caller's mistake, answered as 400
    """The partition asked for does not exist."""


class Unreadable(Exception):  # noqa: N818 - a property of the data, answered as 500 on this source alone
    """A partition exists and cannot be read; the text says why."""


class Replaced(Unreadable):
    """A file is not the one that the source was opened with; a fresh open reads what is there now."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What opening tells (§3.3).

    Attributes:
        container: ``dataframe``, ``ndarray``, ``python`` or ``xarray``.
        dtype: A map from columns to pandas dtype texts, a numpy dtype text, or None.
        shape: Lengths, None where unknown.
        npartitions: How many partitions there are, at least one.
        chunks: For arrays: the lengths of the blocks along every axis.
        metadata: What the driver adds to the entry's metadata.
    """

    container: str
    dtype: Any
    shape: tuple[int | None, ...] | None
    npartitions: int
    chunks: tuple[tuple[int, ...], ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Opened data. Its partitions stay what they are: changed data are another source."""

    schema: Schema
    version: str
    """A fingerprint of the state of the data; equal data have equal ones."""
    pin: Any
    """What `Driver.open` needs to open exactly this state again; None when it needs nothing."""

    def is_current(self) -> bool:
        """Whether opening again would find the same data; cheap."""

    def read(self, partition: Partition | None) -> Any:
        """One partition: a table, frame, array or list. None reads a source that has a single partition.

        Raises:
            NoSuchPartition: It does not exist.
            Unreadable: It cannot be read.
        """

    def stamp(self, partition: Partition | None) -> Any:
        """What a cached copy of a partition depends on besides the source itself; cheap."""

    def close(self) -> None:
        """Give back files and memory."""


class Driver(Protocol):
    """Opens one kind of data."""

    container: str
    """The container of everything it opens."""

    def open(self, arguments: Mapping[str, Any], pin: Any = None) -> Source:
        """Find the data and their schema.

        Args:
            arguments: The entry's rendered arguments.
            pin: Of a source that was opened before: open that state of the data.

        Raises:
            Unopenable: The arguments or the data are wrong.
        """


def cause(error: BaseException) -> str:
    """Why something could not be read: fsspec raises what names only the address, from the error that says why."""
    while isinstance(error, FileNotFoundError) and not error.strerror:
        below = error.__cause__ or error.__context__
        if below is None:
            return "not found"
        error = below
    reason = getattr(error, "strerror", None) if type(error).__module__ == "builtins" else None
    return reason or str(error) or type(error).__name__


def take(arguments: Mapping[str, Any], driver: str, **accepted: Any) -> list[Any]:
    """The values of a driver's arguments, in the order of `accepted`.

    Args:
        arguments: The entry's arguments.
        driver: The driver's name, for the message.
        accepted: Argument names and their defaults; `...` marks a required one.

    Raises:
        Unopenable: One is missing or unknown.
    """
    unknown = arguments.keys() - accepted.keys()
    if unknown:
        known = ", ".join(accepted)
        raise Unopenable(f"{driver}: unknown argument {sorted(unknown)[0]!r}, expected some of {known}")
    for name, default in accepted.items():
        if default is ... and arguments.get(name) in (None, "", []):
            raise Unopenable(f"{driver}: the argument {name!r} is missing")
    return [arguments.get(name, default) for name, default in accepted.items()]


def single_index(partition: Partition | None, count: int) -> int:
    """The number of a partition of a source that counts them 0, 1, 2, …

    Raises:
        NoSuchPartition: It is none of them, or None where there are several.
    """
    if partition is None:
        if count != 1:
            raise NoSuchPartition(f"partition: this source has {count} partitions, name one")
        return 0
    if isinstance(partition, tuple):
        if len(partition) != 1:
            raise NoSuchPartition(f"partition: expected one integer, found {len(partition)} of them")
        partition = partition[0]
    if isinstance(partition, bool) or not isinstance(partition, int):
        raise NoSuchPartition(f"partition: expected an integer, found {type(partition).__name__}")
    if not 0 <= partition < count:
        raise NoSuchPartition(f"partition: {partition} is not between 0 and {count - 1}")
    return partition


def block_index(partition: Partition | None, chunks: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The block that a caller names: one index an axis, or one integer where only axis 0 has several blocks.

    Raises:
        NoSuchPartition: It is not a block of the array.
    """
    counts = [len(lengths) for lengths in chunks]
    total = 1
    for count in counts:
        total *= count
    if partition is None:
        if total != 1:
            raise NoSuchPartition(f"partition: this array has {total} blocks, name one")
        return (0,) * len(counts)
    if isinstance(partition, int) and not isinstance(partition, bool):
        if any(count != 1 for count in counts[1:]):
            raise NoSuchPartition(f"partition: expected {len(counts)} integers, found one")
        partition = (partition, *(0 for _ in counts[1:])) if counts or partition else ()
    if not isinstance(partition, tuple) or any(isinstance(n, bool) or not isinstance(n, int) for n in partition):
        raise NoSuchPartition("partition: expected a list of integers")
    if len(partition) != len(counts):
        raise NoSuchPartition(f"partition: expected {len(counts)} integers, found {len(partition)}")
    for axis, (index, count) in enumerate(zip(partition, counts, strict=True)):
        if not 0 <= index < count:
            raise NoSuchPartition(f"partition: {index} on axis {axis} is not between 0 and {count - 1}")
    return partition

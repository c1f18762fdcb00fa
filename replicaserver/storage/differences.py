"""What one sorted sequence of rows has that another one has not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Row = tuple[bytes, bytes]


def differences(wanted: Iterable[Row], present: Iterable[Row]) -> Iterator[tuple[bytes, bytes | None]]:
    """The changes that make rows what they shall be.

    Args:
        wanted: The rows as they shall be, sorted by key.
        present: The rows as they are, sorted by key.

    Yields:
        Keys with the value that is to be put, or None for those that are to be removed.
    """
    left, right = iter(wanted), iter(present)
    row, other = next(left, None), next(right, None)
    while row is not None or other is not None:
        if other is None or (row is not None and row[0] < other[0]):
            assert row is not None
            yield row
            row = next(left, None)
        elif row is None or other[0] < row[0]:
            yield other[0], None
            other = next(right, None)
        else:
            if row[1] != other[1]:
                yield row
            row, other = next(left, None), next(right, None)

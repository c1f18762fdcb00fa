"""What pyarrow and its like write into, one piece after the other."""

from __future__ import annotations

from typing import Any


class Sink:
    """A binary file that is written from its beginning to its end, and cannot be read."""

    closed = False

    def write(self, piece: Any, /) -> int:
        """Take the next bytes; how many they were."""
        raise NotImplementedError

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever made it ends it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False

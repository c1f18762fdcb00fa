"""Who waits for a table that is being made or brought back: the answer says that it is in service (§12.3)."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["Openings"]


class Openings:
    """Requests that are answered when their table is in service.

    Clients ask for a table's partitions as soon as its creation is answered, and take ERR_BUSY_CREATING for a
    failure. So the answer waits for the primaries; but not for long, as what was decided is durable already.

    Args:
        longest_s: After how many seconds a request is answered all the same.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._waiting: dict[int, asyncio.Event] = {}

    def begin(self, app_id: int) -> None:
        """A table is being made or brought back."""
        self._waiting.setdefault(app_id, asyncio.Event())

    def end(self, app_id: int) -> None:
        """The table is in service, or it is not known when it will be: nobody waits for it."""
        event = self._waiting.pop(app_id, None)
        if event is not None:
            event.set()

    async def wait(self, app_id: int) -> None:
        """Wait for the end of what has begun, at most the longest time."""
        event = self._waiting.get(app_id)
        if event is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._longest_s):
                    await event.wait()

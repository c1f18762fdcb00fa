"""Timeouts of a connection: for incomplete requests, for unread answers, for idle connections.

A server checks its connections every few seconds; each `Deadlines` compares the progress with that of the last check.
Pure: it knows no sockets and no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REQUEST_S = 60.0
"""The longest time in which a request must arrive."""
SEND_S = 60.0
"""The longest time in which a client must read some of the answers that wait for it."""
HTTP_IDLE_S = 120.0
RPC_IDLE_S = math.inf
"""Pegasus clients keep connections open, some to every server long before they use them. Not all notice that a server
has closed one: the Python client waits for answers on it until its calls time out. Keep-alive finds dead hosts."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a connection at one check.

    Attributes:
        requests: How many requests have arrived whole.
        received: How often anything has arrived.
        is_partial: A request has arrived in part, or nothing yet.
        is_owed: Requests are not answered yet, or reading is paused.
        unsent_bytes: Bytes that wait because the client does not read.
    """

    requests: int = 0
    received: int = 0
    is_partial: bool = True
    is_owed: bool = False
    unsent_bytes: int = 0


class Deadlines:
    """The deadlines of one connection.

    Args:
        now_s: When it was opened.
    """

    def __init__(self, now_s: float) -> None:
        self._seen = Progress()
        self._partial_s = self._idle_s = self._unsent_s = now_s

    @property
    def idle_since_s(self) -> float:
        """The last check that saw data arrive."""
        return self._idle_s

    def check(self, now_s: float, progress: Progress, idle_s: float) -> str | None:
        """Compare with the last check.

        Returns:
            The reason to close the connection; None when it may stay.
        """
        seen, self._seen = self._seen, progress
        if not progress.is_partial or progress.is_owed or progress.requests != seen.requests:
            self._partial_s = now_s
        if progress.is_owed or progress.received != seen.received:
            self._idle_s = now_s
        if not progress.unsent_bytes or progress.unsent_bytes < seen.unsent_bytes:
            self._unsent_s = now_s
        if now_s - self._partial_s >= REQUEST_S:
            return f"a request was not there within {REQUEST_S:g} s"
        if now_s - self._unsent_s >= SEND_S:
            return f"its client took no answer for {SEND_S:g} s"
        if now_s - self._idle_s >= idle_s:
            return f"idle for {idle_s:g} s"
        return None

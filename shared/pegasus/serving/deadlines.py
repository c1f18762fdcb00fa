"""When a connection has been silent for too long: deadlines for requests, for answers that are not taken, for idling.

A client owes something while a request of it is incomplete, and while answers lie unsent because it does not take them.
A server looks at its connections every few seconds, and each `Deadlines` compares what it sees with what it saw before.
Pure: it knows no sockets and no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REQUEST_S = 60.0
"""How long a request may take to arrive."""
SEND_S = 60.0
"""How long a client may take nothing of the answers that wait for it."""
HTTP_IDLE_S = 120.0
RPC_IDLE_S = math.inf
"""Clients of Pegasus keep their connections, some open one to every server long before they need it, and not all of
them notice that a server closes one: the Python client waits for answers on it until its calls time out. Hosts that are
gone are noticed by TCP keep-alive, and connections that are idle make room where others need it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a look at a connection sees.

    Attributes:
        requests: How many requests have arrived whole.
        received: How often anything has arrived.
        is_partial: A request has arrived in part, or nothing yet.
        is_owed: Requests of the client are not answered yet, or it is not read from.
        unsent_bytes: How much waits to be sent because the client does not take it.
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
        """Since when nothing has arrived, as far as it was looked at."""
        return self._idle_s

    def look(self, now_s: float, progress: Progress, idle_s: float) -> str | None:
        """Compare with the last look.

        Returns:
            Why the connection is to be closed, None when it may stay.
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

"""What an RPC code does: the table from which a server answers (protocol §10.3, §10.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, final

from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.thrift import Codec, codec_of

__all__ = ["NO_REPLY", "Asker", "NoReply", "Offloaded", "Pending", "Rpc", "Shortcut", "rpc"]

MAX_REQUEST_BYTES = 1024 * 1024
"""The longest request of a code that says nothing else."""

Q = TypeVar("Q")
R = TypeVar("R")


@final
class NoReply:
    """The type of `NO_REPLY`."""


NO_REPLY: Final = NoReply()
"""Returned by a function whose client shall get no answer at all."""


Listener = Callable[[Any, Exception | None], None]
"""Told the answer, or what went wrong."""


def _nobody(_answer: Any, _error: Exception | None) -> None:
    """Nobody listens."""


class Pending:
    """An answer that comes in a later turn of the loop, to one listener, at a fraction of the cost of a future.

    Attributes:
        listener: To be set in the turn in which the `Pending` was made, unless it is awaited then.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        self.listener: Listener = _nobody

    def future(self) -> asyncio.Future[Any]:
        """The answer as a future, which is the listener from now on."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def listen(answer: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)

        self.listener = listen
        return future

    def __await__(self) -> Generator[Any, None, Any]:
        return self.future().__await__()


@dataclass(frozen=True, slots=True)
class Offloaded:
    """An answer that is large: a worker thread makes it and encodes it, and the event loop serves on meanwhile.

    Nothing else that its connection has asked for is answered until then, so that a connection holds one at a time.

    Attributes:
        work: Makes the result from values that do not change.
    """

    work: Callable[[], Any]


class Asker(Protocol):
    """Who has sent a request that a shortcut took; to be answered or refused once, now or later."""

    def answer(self, reply: bytes) -> None:
        """Send a whole reply."""

    def refuse(self, code: str, seqid: int, error: Exception) -> None:
        """Reply with an error."""


Shortcut = Callable[[bytes, int, Asker], int]
"""Takes a request as it arrived, from what arrived and the place where it begins, past the table of codes.

Returns where the request ends, or 0 when it is not taken: because it is incomplete, or not of the kind that the
shortcut is for. Then, and when the shortcut raises, the table answers, so nothing may have been done for it.
"""


def _admit(_request: Request) -> None:
    """Every size that `max_bytes` allows is admitted."""


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Q, R]):
    """One RPC code.

    Attributes:
        decode: Reads the request value from `Request.arguments`.
        encode: Writes the result struct; None for a one-way code, which is never answered.
        function: Answers: receives the request value and the request; returns the result, an awaitable of
            it, an `Offloaded`, or `NO_REPLY`. A plain result costs least, then a `Pending`, then a future, then a
            coroutine. Raises `RpcError` for an answer without result.
        max_bytes: The longest request.
        admit: Looks at a large request before it is decoded; raises `RpcError` when its size is not allowed. One longer
            than `max_bytes` has no arguments any more.
    """

    decode: Callable[[bytes], Q]
    encode: Callable[[R], bytes] | None
    function: Callable[[Q, Request], R | NoReply | Offloaded | Awaitable[R | NoReply]]
    max_bytes: int = MAX_REQUEST_BYTES
    admit: Callable[[Request], None] = _admit


def rpc(
    request: type[Q] | Any,
    response: type[R] | Any | None,
    function: Callable[[Q, Request], R | NoReply | Offloaded | Awaitable[R | NoReply]],
    *,
    compat: bool = False,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Rpc[Q, R]:
    """An RPC by the types of its request and response.

    Args:
        request: A struct, or a bare type such as `bytes`.
        response: The same; None for a one-way code.
        compat: Leave host_port members out of the answer (§10.5).
        max_bytes: The longest request.
    """
    encode: Callable[[R], bytes] | None = None
    if response is not None:
        codec: Codec[R] = codec_of(response)
        encode = (codec.compat if compat else codec).encode_field
    question: Codec[Q] = codec_of(request)
    return Rpc(question.decode_field, encode, function, max_bytes)

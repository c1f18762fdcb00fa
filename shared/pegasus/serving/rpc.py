"""The table of RPC codes from which a server answers (protocol §10.3, §10.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, final

from shared.pegasus.wire.framing import Request
from shared.pegasus.wire.thrift import Codec, codec_of

__all__ = ["NO_REPLY", "FastPath", "NoReply", "Offloaded", "Pending", "Rpc", "RpcCaller", "rpc"]

MAX_REQUEST_BYTES = 1024 * 1024
"""The default limit of a code's requests."""

Q = TypeVar("Q")
R = TypeVar("R")


@final
class NoReply:
    """The type of `NO_REPLY`."""


NO_REPLY: Final = NoReply()
"""Returned by a function whose client shall get no answer at all."""


Listener = Callable[[Any, Exception | None], None]
"""Receives the answer, or the error."""


def _no_listener(_answer: Any, _error: Exception | None) -> None:
    """Ignore the answer."""


class Pending:
    """An answer in a later iteration of the event loop, for one listener, at a fraction of a future's cost.

    Attributes:
        listener: To be set in the iteration in which the `Pending` was made, unless it is awaited then.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        self.listener: Listener = _no_listener

    def future(self) -> asyncio.Future[Any]:
        """The answer as a future, which becomes the listener."""
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


class RpcCaller(Protocol):
    """The sender of a request that the fast path accepted; receives one answer or error, now or later."""

    def answer(self, reply: bytes) -> None:
        """Send a complete reply."""

    def reject(self, code: str, seqid: int, error: Exception) -> None:
        """Reply with an error."""


FastPath = Callable[[bytes, int, RpcCaller], int]
"""Handles a request from its raw bytes: the data received and the offset where the request begins.

Returns where the request ends, or 0 when it is incomplete or of another kind. Then, and when the fast path raises, the
table answers, so the fast path must not have had any effect.
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

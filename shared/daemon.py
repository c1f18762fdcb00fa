"""The life cycle of a daemon: bind, start, announce, serve, drain.

A daemon implements `Service`; this module runs it with an event loop, listening sockets and signal handlers:
SIGTERM and SIGINT drain and exit 0, a second one ends the process at once, SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog
from aiohttp import web

from shared.errors import StartupError
from shared.http.app import reject_unknown_expectations
from shared.http.fast_path import FastPath
from shared.listener import Listener
from shared.tasks import Supervisor, start_task

log = structlog.get_logger("shared.daemon")

BACKLOG = 1024


class Service(Protocol):
    """What a daemon does between start and stop."""

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Open what is needed, then accept connections on the bound sockets.

        Raises:
            StartupError: The daemon cannot do its work; the text says why in one line.
        """

    async def drain(self) -> None:
        """Stop accepting, finish what is in flight, make everything durable, and close."""

    async def reload(self) -> None:
        """Read again what may change while running; keep the old state when the new one is invalid."""


class WebService:
    """A `Service` made of one aiohttp application, whose own start-up and clean-up signals open and close its parts.

    Args:
        app: The application.
        reload: Reads again what may change.
        before_drain: Awaited before the sockets are closed.
        drain_timeout_s: How long requests may take that are in flight when the drain begins, in seconds.
        handler_cancellation: Whether a client that goes away ends its handler.
        fast_path: Answers plain requests to fast routes of the same application.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        reload: Callable[[], Awaitable[None]] | None = None,
        before_drain: Callable[[], Awaitable[None]] | None = None,
        drain_timeout_s: float = 10.0,
        handler_cancellation: bool = False,
        fast_path: FastPath | None = None,
    ) -> None:
        self._fast_path = fast_path
        self._servers: list[asyncio.Server] = []
        if fast_path is not None:
            app.on_shutdown.append(lambda _app: fast_path.drain(drain_timeout_s))
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            access_log=None,
            shutdown_timeout=drain_timeout_s,
            handler_cancellation=handler_cancellation,
        )
        self._reload = reload
        self._before_drain = before_drain

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = reject_unknown_expectations(server.request_handler)
        connect: Callable[[], asyncio.Protocol] = server if self._fast_path is None else self._fast_path.before(server)
        loop = asyncio.get_running_loop()
        for bound in sockets:
            self._servers.append(await loop.create_server(connect, sock=bound, ssl=tls, backlog=BACKLOG))

    async def drain(self) -> None:
        if self._before_drain is not None:
            await self._before_drain()
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    async def reload(self) -> None:
        if self._reload is not None:
            await self._reload()


def serve(name: str, listener: Listener, service: Service) -> int:
    """Run a service until a signal stops it.

    Returns:
        The exit code of the process: 0 after a clean drain.

    Raises:
        StartupError: The address cannot be bound, or the service cannot start.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(name, listener, service))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not built for this platform
        return None
    return uvloop.new_event_loop


async def _run(name: str, listener: Listener, service: Service) -> int:
    stop = asyncio.Event()
    reloads = _Reloads(service)
    loop = asyncio.get_running_loop()

    def on_stop(received: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + received)
        stop.set()

    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, on_stop, received)
    loop.add_signal_handler(signal.SIGHUP, reloads.request)

    sockets = bind(listener)
    tls = tls_context(listener)
    starting = start_task(service.start(sockets, tls), name="start")
    stopping = start_task(stop.wait(), name="stop")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return 0
    await starting
    for bound in sockets:
        log.info("listening", daemon=name, address=address(bound, listener), pid=os.getpid())
    notify_systemd("READY=1")
    await stopping
    notify_systemd("STOPPING=1")
    log.info("draining", daemon=name)
    await reloads.finish()
    await service.drain()
    log.info("stopped", daemon=name)
    return 0


class _Reloads:
    """Runs reloads one at a time; requests that arrive during one are merged into the next."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tasks = Supervisor(expected=())
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def request(self) -> None:
        self._again = True
        if self._task is None or self._task.done():
            self._task = start_task(self._run(), name="reload")

    async def finish(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._again:
            self._again = False
            notify_systemd("RELOADING=1")
            await self._tasks.once("reload", self._reload)
            notify_systemd("READY=1")

    async def _reload(self) -> None:
        try:
            await self._service.reload()
        except StartupError as error:
            log.error("reload failed, the old state stays in force", reason=str(error))
        else:
            log.info("reloaded")


def bind(listener: Listener) -> list[socket.socket]:
    """Open a listening socket on every address of the listener's host.

    Raises:
        StartupError: The host is unknown, the port is in use, or the address is not this machine's.
    """
    where = f"{listener.host}:{listener.port}"
    try:
        found = socket.getaddrinfo(
            listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise StartupError(f"cannot listen on {where}: unknown host {listener.host!r}") from error
    sockets: list[socket.socket] = []
    port = listener.port
    for family, kind, protocol, _, target in dict.fromkeys(found):
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((target[0], port, *target[2:]))
            bound.listen(BACKLOG)
            bound.setblocking(False)
        except OSError as error:
            bound.close()
            if family == socket.AF_INET6 and len(found) > 1 and sockets:
                continue  # a name that also has an IPv6 address on a machine without IPv6
            for other in sockets:
                other.close()
            reason = "the port is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error)).lower()
            raise StartupError(f"cannot listen on {where}: {reason}") from error
        port = bound.getsockname()[1]
        sockets.append(bound)
    return sockets


def tls_context(listener: Listener) -> ssl.SSLContext | None:
    """The server-side TLS context of a listener, None for plain HTTP.

    Raises:
        StartupError: The certificate or its key cannot be read, or they do not belong together.
    """
    if listener.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(listener.tls_cert, listener.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"cannot use the TLS certificate {listener.tls_cert}: {error}") from error
    return context


def address(bound: socket.socket, listener: Listener) -> str:
    """The URL under which a bound socket answers."""
    host, port = bound.getsockname()[:2]
    scheme = "http" if listener.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{listener.path}"


def notify_systemd(state: str) -> None:
    """Tell systemd about a change of state, if it started us with ``Type=notify``."""
    target = os.environ.get("NOTIFY_SOCKET")
    if not target:
        return
    path = "\0" + target[1:] if target.startswith("@") else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect(path)
            channel.sendall(state.encode())
        except OSError as error:
            log.warning("cannot notify systemd", socket=target, reason=str(error))

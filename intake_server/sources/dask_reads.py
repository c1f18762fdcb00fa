"""Reads on a dask cluster: the workers open the data themselves and send back encoded partitions.

Needs the extra ``[dask]``, and this package on every worker.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import structlog

from intake_server.concurrency.thread_pool import Busy
from intake_server.drivers import third_party
from intake_server.drivers.base import NoSuchPartition, Partition, Source, Unopenable, Unreadable
from intake_server.drivers.registry import DriverRegistry
from intake_server.serialization import values
from intake_server.serialization.control import pack
from intake_server.serialization.negotiation import WireFormat
from intake_server.serialization.parts import Parts, TooLarge
from intake_server.sources.pool import OpenSource
from shared.errors import StartupError

log = structlog.get_logger("intake_server.dask")
_CONNECT_S = 5.0
_MAX_SOURCES = 64


class DaskReads:
    """Reads partitions on the workers of one scheduler; used from threads.

    Args:
        address: The scheduler's address, such as ``tcp://10.0.0.1:8786``.
        stringify: Whether frame columns that Arrow cannot carry become text.
        limit: The most bytes that an encoded partition may have.

    Raises:
        StartupError: dask.distributed is not installed, or the scheduler does not answer.
    """

    def __init__(self, address: str, *, stringify: bool, limit: int) -> None:
        try:
            import distributed
        except ImportError as error:
            raise StartupError("--scheduler needs dask.distributed: pip install 'entrepot[dask]'") from error
        self._stringify = stringify
        self._limit = limit
        try:
            connect: Any = distributed.Client
            self._client: Any = connect(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise StartupError(f"the dask scheduler at {address} does not answer: {error}") from error
        self._lost: tuple[type[Exception], ...] = (OSError, distributed.CancelledError, distributed.KilledWorker)

    def read(self, opened: OpenSource, partition: Partition | None, form: WireFormat) -> Parts:
        """The encoded answer to a read; blocks.

        Raises:
            Busy: The cluster lost the task or cannot be reached.
            NoSuchPartition, Unreadable, TooLarge: As when read here.
        """
        task = functools.partial(
            read_on_worker,
            driver=opened.driver,
            arguments=dict(opened.arguments),
            pin=opened.source.pin,
            version=opened.source.version,
            partition=partition,
            form=form,
            stringify=self._stringify,
            limit=self._limit,
        )
        future: Any = self._client.submit(task, pure=False)
        try:
            return Parts.of(future.result())
        except (NoSuchPartition, Unreadable, *values.Unsendable):
            raise
        except self._lost as error:
            log.warning("the dask cluster did not read", entry=opened.name, reason=str(error))
            raise Busy("the dask cluster did not answer") from error
        finally:
            future.release()

    def close(self) -> None:
        """Leave the cluster."""
        self._client.close()


def read_on_worker(
    *,
    driver: str,
    arguments: Mapping[str, Any],
    pin: Any,
    version: str,
    partition: Partition | None,
    form: WireFormat,
    stringify: bool,
    limit: int,
) -> list[bytes]:
    """Read and encode one partition in a worker process.

    Returns:
        The pieces of the whole answer.

    Raises:
        Unreadable: The data cannot be read, opened, or sent, or have changed meanwhile.
    """
    key = (driver, pack([arguments, pin]), version)
    source = _open_sources.get(key)
    try:
        if source is None:
            source = DriverRegistry(third_party.find).driver(driver).open(arguments, pin)
            if len(_open_sources) >= _MAX_SOURCES:
                _open_sources.clear()
            _open_sources[key] = source
        value = source.read(partition)
        parts = values.answer(value, source.schema.container, form, stringify=stringify, limit=limit)
    except Unopenable as error:
        raise Unreadable(str(error)) from error
    except TooLarge as error:
        raise Unreadable(str(error)) from error
    return [bytes(view) for view in parts.buffers]


_open_sources: dict[Any, Source] = {}

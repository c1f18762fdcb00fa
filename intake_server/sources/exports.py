"""Carries out exports in threads: streams with one piece in memory at a time, and files made once for everybody."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import zlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from intake_server.concurrency.backpressure import Holding, InFlight
from intake_server.concurrency.single_flight import SingleFlight
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong, not_now
from intake_server.drivers.base import NoSuchPartition, Replaced, Unreadable
from intake_server.errors import public_reason
from intake_server.export import arrays, lists, previews, tables
from intake_server.export.arrays import Cut
from intake_server.export.data import DataSet, Divisible, Variable
from intake_server.export.drawing import NotDrawable
from intake_server.export.formats import Format, NotAvailable
from intake_server.export.scan import Scan, Selective, scan
from intake_server.export.selection import Selection, SelectionError
from intake_server.serialization.blocks import NotABlock
from intake_server.serialization.frames import NotAFrame
from intake_server.sources.export_files import ExportFile, ExportFiles, FullError, LimitedFile, UnwantedError
from intake_server.sources.pool import OpenSource
from shared.errors import Problem

log = structlog.get_logger("intake_server.exports")
T = TypeVar("T")
ENCODER = "2"
"""Changes whenever the bytes of any format change, so that entity tags do."""
_BLOCK_BYTES = 1 << 22
"""The blocks in which arrays are read that can be read in smaller ones than their own."""
_PYTHON_BYTES = 4
"""How many bytes a byte of a text or JSON file takes as Python objects, about."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is sent.

    Attributes:
        opened: The source.
        selection: The part of it.
        form: The format.
        is_gzipped: Whether the bytes are compressed on their way.
    """

    opened: OpenSource
    selection: Selection
    form: Format
    is_gzipped: bool = False

    @property
    def key(self) -> str:
        """Equal for exports with the same bytes."""
        parts = (*self.opened.identity, self.selection.canonical(), self.form.name, self.is_gzipped, ENCODER)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    @property
    def etag(self) -> str:
        """A strong entity tag, quoted."""
        return f'"{self.key}"'


class Exports:
    """Makes exports.

    Args:
        threads: Reads and writes.
        files: Stores what was made as a whole.
        in_flight: All answers, whose memory is limited together.
        timeout_s: How long one step of an export may take, in seconds.
    """

    def __init__(self, threads: ThreadPool, files: ExportFiles, in_flight: InFlight, *, timeout_s: float) -> None:
        self._threads = threads
        self.files = files
        self.in_flight = in_flight
        self._timeout_s = timeout_s
        self._making: SingleFlight[ExportFile] = SingleFlight()

    async def stored(self, export: Export) -> StoredExport:
        """An export as a whole: the data's own file, one made before, or a new one.

        Raises:
            Problem: 400 the selection does not fit; 406 the format; 413 it is too large; 500 unreadable; 503 not now.
        """
        known = self.files.cache.get(export.key)
        file = known or await self._making.run(export.key, lambda: self._make(export))
        return StoredExport(self, export, file)

    async def _make(self, export: Export) -> ExportFile:
        unwanted = threading.Event()
        with self.in_flight.holding(export.opened.name) as held:
            await self._reserve(held, _needed(export))
            try:
                made, is_new = await self._run(export, lambda: self._make_in_thread(export, unwanted))
            finally:
                unwanted.set()
        if is_new:
            self.files.cache.put(export.key, made, made.size)
        return made

    async def _reserve(self, held: Holding, size: int) -> None:
        try:
            await self.in_flight.reserve(held, size)
        except Busy as error:
            raise not_now(error) or error from error

    def _make_in_thread(self, export: Export, unwanted: threading.Event) -> tuple[ExportFile, bool]:
        source = export.opened.source
        original = getattr(source, "original", None)
        if original is not None and export.form.name == "parquet" and export.selection == Selection():
            path = original()
            if path is not None:
                file = ExportFile.of(path)
                if source.is_current():  # what was opened now is what the entity tag names
                    return file, False
        return self.files.make(lambda sink: _write(export, sink), lambda: not unwanted.is_set()), True

    async def streamed(self, export: Export, held: Holding) -> AsyncGenerator[bytes]:
        """An export, piece by piece; the next piece is made when the one before has been taken, and there is room.

        Args:
            export: What to send.
            held: Counts what it needs of memory.

        Raises:
            Problem: As `stored`.
        """
        pieces = _pieces(export)
        needed = _needed(export)
        end = object()
        try:
            while True:
                await self._reserve(held, needed)
                piece: Any = await self._run(export, lambda: next(pieces, end))
                if piece is end:
                    return
                needed = max(needed, 2 * memoryview(piece).nbytes)  # the one before goes when this one is there
                held.moved()
                yield piece
        finally:
            with contextlib.suppress(ValueError):  # a thread that was given up is still inside
                pieces.close()

    async def read(self, export: Export, file: ExportFile, start: int, length: int) -> bytes:
        """A part of an export that was made as a whole; see `StoredExport`."""
        return await self._run(export, lambda: file.read(start, length))

    async def _run(self, export: Export, work: Callable[[], T]) -> T:
        opened = export.opened
        try:
            return await self._threads.run(lambda: _guarded(work), key=opened.thread_key, timeout_s=self._timeout_s)
        except SelectionError as error:
            raise Problem(400, str(error), code="bad_selection") from error
        except (NotAvailable, NotDrawable) as error:
            raise Problem(406, str(error), code="not_acceptable") from error
        except FullError as error:
            raise Problem(413, "the export is too large; select less, or another format", code="too_large") from error
        except Replaced as error:  # the next request opens what is there now
            raise Problem(
                503, public_reason(str(error), [opened.directory]), code="replaced", headers={"Retry-After": "1"}
            ) from error
        except (Unreadable, NotAFrame, NotABlock, NoSuchPartition) as error:
            log.warning("cannot export", entry=opened.name, format=export.form.name, reason=str(error))
            raise Problem(500, public_reason(str(error), [opened.directory]), code="unreadable") from error
        except (Busy, TookTooLong) as error:
            raise Problem(
                503, f"the data cannot be read now: {error}", code="busy", headers={"Retry-After": "1"}
            ) from error


@dataclass(frozen=True, slots=True)
class StoredExport:
    """An export that was made as a whole.

    Attributes:
        exports: What made it.
        export: What it is.
        file: Where it is.
    """

    exports: Exports
    export: Export
    file: ExportFile

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.file.size

    async def read(self, start: int, length: int) -> bytes:
        """A part of it; fewer bytes than asked for when the data's own file was cut short meanwhile.

        Raises:
            Problem: 500 unreadable; 503 not now.
        """
        return await self.exports.read(self.export, self.file, start, length)


_EXPECTED = (
    FullError,
    UnwantedError,
    SelectionError,
    NotAvailable,
    NotDrawable,
    Unreadable,
    NotAFrame,
    NotABlock,
    NoSuchPartition,
)


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except _EXPECTED:
        raise
    except MemoryError as error:
        raise Unreadable("there is not enough memory to read this") from error
    except Exception as error:
        # a driver calls libraries that raise what they like; only this export fails
        log.warning("an export failed", exc_info=error)
        raise Unreadable(str(error) or type(error).__name__) from error


def check_variable(opened: OpenSource, selection: Selection) -> None:
    """Refuse a selection that names no variable of a data set.

    Raises:
        SelectionError: The data are a data set, and none of its variables is named.
    """
    source = opened.source
    if isinstance(source, DataSet) and selection.variable not in source.variables:
        known = ", ".join(list(source.variables)[:20])
        found = "" if selection.variable is None else f", found {selection.variable[:40]!r}"
        raise SelectionError(f"variable: name a variable of this data set, one of {known}{found}")


def _data(export: Export) -> Any:
    """What is sent: the source itself, in blocks that need little memory, or one variable of a data set."""
    source, name = export.opened.source, export.selection.variable
    if isinstance(source, DataSet) and name is not None:
        return Variable(source, name, source.variables[name])
    return source.divided(_BLOCK_BYTES) if isinstance(source, Divisible) else source


def _needed(export: Export) -> int:
    """How many bytes of memory one step of an export needs, as far as that is known beforehand."""
    source = _data(export)
    container = source.schema.container
    if container not in ("dataframe", "python"):
        try:
            return arrays.needed(source, _cut(source, export.selection), export.form.name)
        except SelectionError:
            return 0  # it is refused when it is made
    files = [file[1] or 0 for file in source.pin] if isinstance(source.pin, list) else []
    if container == "dataframe" and isinstance(source, Selective):
        files = []  # it is read in batches
    return max([export.opened.largest, *files]) * (_PYTHON_BYTES if container == "python" else 1)


def _write(export: Export, sink: LimitedFile) -> None:
    """Write an export as a whole; runs in a thread."""
    source, selection, name = _data(export), export.selection, export.selection.variable or export.opened.name
    if export.form.name == "parquet":
        rows = scan(source, selection)
        tables.write_parquet(Scan(rows.schema, _while_wanted(rows.batches, sink)), sink)
    elif export.form.name == "png":
        is_frame = source.schema.container == "dataframe"
        sink.write(
            previews.draw_frame(source, selection, name)
            if is_frame
            else previews.draw_array(source, _cut(source, selection), name)
        )
    else:
        for piece in _pieces(export):
            sink.write(piece)


def _while_wanted(batches: Iterator[T], sink: LimitedFile) -> Iterator[T]:
    for batch in batches:
        sink.check()
        yield batch


def _pieces(export: Export) -> Generator[Any, None, None]:
    pieces = _plain_pieces(export)
    return _gzipped(pieces) if export.is_gzipped else pieces


def _plain_pieces(export: Export) -> Generator[Any, None, None]:
    source, selection, form = _data(export), export.selection, export.form.name
    container = source.schema.container
    if container == "dataframe":
        yield from tables.STREAMED[form](scan(source, selection))
    elif container == "python":
        yield from lists.STREAMED[form](source, selection.rows)
    else:
        yield from arrays.STREAMED[form](source, _cut(source, selection))


def _cut(source: Any, selection: Selection) -> Cut:
    return Cut.of(selection.axes, tuple(length or 0 for length in source.schema.shape or ()))


def _gzipped(pieces: Iterator[Any]) -> Generator[Any, None, None]:
    squeeze = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        squeezed = squeeze.compress(piece)
        if squeezed:
            yield squeezed
    yield squeeze.flush()

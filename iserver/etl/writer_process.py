"""The warehouse in a process of its own, so that writing it never makes a request wait.

Building columns is Python work: in a thread of the server it would hold the interpreter for most of the time, and its
libraries would take a hundred megabytes. The process is started with the first call and lives as long as the server;
it ends when its standard input does, so it never outlives the server by more than the file it is putting in place.

Both directions carry frames: four bytes of length, then as many bytes. A call is a JSON array, the name of a
`Warehouse` method and its arguments; `write` is followed by frames of sessions, one a line, and an empty frame.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO, Any

import orjson

from iserver.etl.interface import WarehouseError, WriteResult
from iserver.fdl import Program, SourceFile, compile_program
from iserver.settings import TableFormat
from shared.errors import StartupError

STOP_TIMEOUT_S = 10.0
NICENESS = 5
"""Requests go first where both want the same core."""


# --- the server's side ----------------------------------------------------------------------------


class WarehouseProcess:
    """The tables of one environment, as `iserver.etl.writer.Warehouse` has them.

    Its methods block; call them from a worker thread, one at a time.
    """

    def __init__(self, location: str, table_format: TableFormat) -> None:
        """
        Args:
            location: Path or URL of the warehouse.
            table_format: What the tables consist of.
        """
        self.location = location
        self._table_format = table_format
        self._process: subprocess.Popen[bytes] | None = None
        self._known_programs: set[str] = set()

    @classmethod
    def open(cls, location: str, table_format: TableFormat) -> WarehouseProcess:
        """Open or create the warehouse at a path or URL, after a test write.

        Raises:
            StartupError: Nothing can be written there, or a package for it is not installed.
        """
        warehouse = cls(location, table_format)
        warehouse._running()
        return warehouse

    @property
    def pid(self) -> int | None:
        """Id of the process, `None` while there is none."""
        return None if self._process is None else self._process.pid

    def prepare(self, program: Program, now_ms: int) -> None:
        """Make every table of a program openable and name it in the catalog, also before it has rows.

        Raises:
            WarehouseError: It cannot be written.
        """
        self._know([program])
        self._call("prepare", program.fingerprint, now_ms)

    def write_metadata(self, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        """Replace the metadata tables by those of the configuration.

        Raises:
            WarehouseError: They cannot be written.
        """
        self._call("write_metadata", rows)

    def write_lines(self, sessions: Iterable[bytes], batch_id: str, programs: Iterable[Program]) -> WriteResult:
        """Log a batch of sessions. When this returns they are in the warehouse; repeat it after a failure.

        Args:
            sessions: Some finished sessions in each item, one a line, as `FinishedSession.to_json` writes them; read
                once, in order.
            batch_id: Fit for a file name; a repetition must bring the same sessions in the same order.
            programs: Every program that sessions and records may refer to.

        Raises:
            WarehouseError: The batch is not in the warehouse.
        """
        self._know(programs)
        return WriteResult(**self._call("write", batch_id, frames=sessions))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        self._known_programs.clear()
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.close()
            process.wait(STOP_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        finally:
            process.stdout.close()

    def _know(self, programs: Iterable[Program]) -> None:
        for program in programs:
            self._running()  # a new process knows none
            if program.fingerprint not in self._known_programs:
                sources = [[source.name, source.text] for source in program.sources]
                self._call("know", program.fingerprint, sources)
                self._known_programs.add(program.fingerprint)

    def _call(self, name: str, *arguments: object, frames: Iterable[bytes] | None = None) -> Any:
        """Make a call and return its result."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            send(process.stdin, orjson.dumps([name, *arguments]))
            if frames is not None:
                for frame in frames:
                    send(process.stdin, frame)
                send(process.stdin, b"")
            process.stdin.flush()
            answer = orjson.loads(receive(process.stdout))
        except (OSError, EOFError) as error:
            self.close()
            raise WarehouseError(f"the process that writes the warehouse ended: {error}") from error
        except BaseException:
            self.close()  # the call is half sent
            raise
        if "startup" in answer:
            raise StartupError(answer["startup"])
        if "error" in answer:
            raise WarehouseError(answer["error"])
        return answer["result"]

    def _running(self) -> subprocess.Popen[bytes]:
        """The process, started and opened if there is none."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server, which still has something to write
        )
        try:
            self._call("open", self.location, self._table_format)
        except StartupError:
            self.close()
            raise
        return self._process


# --- frames ---------------------------------------------------------------------------------------


def send(stream: IO[bytes], frame: bytes) -> None:
    """Write one frame."""
    stream.write(len(frame).to_bytes(4, "big"))
    stream.write(frame)


def receive(stream: IO[bytes]) -> bytes:
    """Read one frame.

    Raises:
        EOFError: The stream ended before the frame did.
    """
    head = stream.read(4)
    if len(head) == 4:
        size = int.from_bytes(head, "big")
        frame = stream.read(size)
        if len(frame) == size:
            return frame
    raise EOFError("no answer")


# --- the process's side ---------------------------------------------------------------------------


class _Worker:
    """Carries out the calls of a server."""

    def __init__(self, calls: IO[bytes], answers: IO[bytes]) -> None:
        self._calls = calls
        self._answers = answers
        self._sources: dict[str, list[SourceFile]] = {}
        self._programs: dict[str, Program] = {}
        self._is_streaming = False

    def run(self) -> None:
        """Answer calls until there are no more."""
        while True:
            try:
                name, *arguments = orjson.loads(receive(self._calls))
            except EOFError:
                return
            send(self._answers, orjson.dumps(self._answer(name, arguments)))
            self._answers.flush()

    def _answer(self, name: str, arguments: list[Any]) -> dict[str, object]:
        method: Callable[..., object] = getattr(self, f"call_{name}")
        self._is_streaming = name == "write"
        try:
            return {"result": method(*arguments)}
        except StartupError as error:
            return {"startup": str(error)}
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 - drivers of stores raise whatever their libraries raise
            for _ in self._frames():
                pass  # the rest of the call is still on its way
            return {"error": f"{type(error).__name__}: {error}"}

    def _frames(self) -> Iterator[bytes]:
        while self._is_streaming:
            frame = receive(self._calls)
            self._is_streaming = bool(frame)
            if frame:
                yield frame

    def _program(self, fingerprint: str) -> Program:
        program = self._programs.get(fingerprint)
        if program is None:
            program = self._programs[fingerprint] = compile_program(self._sources[fingerprint], is_stored=True)
        return program

    def call_open(self, location: str, table_format: TableFormat) -> None:
        from iserver.etl.writer import Warehouse

        self._warehouse = Warehouse.open(location, table_format)
        gc.collect()
        gc.freeze()
        gc.disable()  # sessions and columns have no cycles, and looking for some takes a third of the time

    def call_know(self, fingerprint: str, sources: list[list[str]]) -> None:
        self._sources[fingerprint] = [SourceFile(name, text) for name, text in sources]

    def call_prepare(self, fingerprint: str, now_ms: int) -> None:
        self._warehouse.prepare(self._program(fingerprint), now_ms)

    def call_write_metadata(self, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        self._warehouse.write_metadata(rows)

    def call_write(self, batch_id: str) -> WriteResult:
        from iserver.sessions.finished import sessions_in

        sessions = chain.from_iterable(map(sessions_in, self._frames()))
        written = self._warehouse.write(sessions, batch_id, self._program)
        gc.collect()
        return written


def main() -> None:
    """Serve the process on the other side of the standard streams."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server decides when to end: it closes the standard input
    with contextlib.suppress(OSError):  # a sandbox may forbid it, as the systemd unit does
        os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not be read as an answer
    try:
        _Worker(sys.stdin.buffer, answers).run()
    except (EOFError, BrokenPipeError):
        sys.exit("iserver: the server ended while the warehouse was written; it writes the same again when it starts")


if __name__ == "__main__":
    main()

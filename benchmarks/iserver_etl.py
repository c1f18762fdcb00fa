"""From a million finished sessions to Parquet: ``python -m benchmarks.iserver --only etl``, from the project's root.

A journal is filled with finished sessions, an iserver is started on it, and told to write them to its warehouse: once
with nothing else to do, and once while a client asks for features as fast as it gets answers. The limit beside it is
pyarrow, writing the same rows from memory, columns ready.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import orjson
import pyarrow.parquet as parquet
import uvloop

from benchmarks.harness import Goal, Line, Server, running, say
from benchmarks.http_load import Measured, load
from benchmarks.iserver import visits
from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession, Impression
from iserver.storage.journal import Journal

START_MS = 1_700_000_000_000
SESSIONS_PER_S = 50_000
P99_MS = 50.0
MEMORY_MB = 600.0
FINISHED_AT_ONCE = 256
EXAMPLE = Path(str(resources.files("iserver.example")))


def session(number: int, definition: str) -> FinishedSession:
    """A visitor who saw a rating box, and often rated or bought."""
    session_id = f"5d0a2f0e-7f0c-4a7e-9a55-{number:012d}"
    start_ms = START_MS + number % 3_600_000
    cart = Event("AddToCart", start_ms + 5_000, session_id, f"c-{number}", {"value": 9.5, "sku": "s1", "qty": 1})
    rating = Event("Rating", start_ms + 9_000, f"imp-{number}", f"r-{number}", {"stars": number % 5})
    return FinishedSession(
        session_id=session_id,
        definition=definition,
        persistent_key=f"dev-{number}",
        start_ms=start_ms,
        last_activity_ms=start_ms + 60_000,
        end_ms=start_ms + 1_860_000,
        user_agent="Mozilla/5.0 (X11; Linux x86_64)",
        entry_url=f"/products/{number % 1000}",
        args={"deviceId": f"dev-{number}", "channel": "email"},
        plugin_outputs={"tier": "basic"},
        variants=("c0000001",) if number % 2 else ("e1a7c0de-0000-4000-8000-0000000000b1",),
        events=(cart,) if number % 5 == 0 else (),
        records=(
            FinishedRecord(
                "RatingBox",
                definition,
                (Impression(f"imp-{number}", start_ms + 250),),
                args={"product": f"product {number % 1000}"},
                outputs={"callToAction": "Rate this product!", "actionButton": "Submit", "tone": "CASUAL"},
                events=(rating,) if number % 4 == 0 else (),
            ),
        ),
    )


async def fill(journal_path: Path, sessions: int) -> None:
    """A journal with finished sessions in it."""
    example = EXAMPLE / "shop.fdl"
    definition = Definition(compile_program([SourceFile("shop.fdl", example.read_text())]))
    journal = await Journal.open(journal_path)
    await journal.store_definition(definition)
    await journal.close()
    firsts = range(0, sessions, FINISHED_AT_ONCE)
    with sqlite3.connect(journal_path) as connection:
        connection.executemany(
            "INSERT INTO finished (sessions, ids, data) VALUES (?, ?, ?)",
            (_row(range(first, min(first + FINISHED_AT_ONCE, sessions)), definition.fingerprint) for first in firsts),
        )
    connection.close()


def _row(numbers: range, definition: str) -> tuple[int, bytes, bytes]:
    finished = [session(number, definition) for number in numbers]
    ids = orjson.dumps([item.session_id for item in finished])
    return len(finished), ids, b"\n".join([item.to_json() for item in finished])


@contextmanager
def iserver(data: Path, log: Path) -> Iterator[Server]:
    """An iserver on a data folder."""
    own = Path(sys.executable).with_name("iserver")
    command: list[str | Path] = [
        own,
        "start",
        "--port",
        "{port}",
        "--fdl",
        EXAMPLE / "shop.fdl",
        "--data-dir",
        data,
        "--enable-cmd",
    ]
    with running("iserver", command, ready="/readyz", log=log) as server:
        yield server


def flush(server: Server) -> float:
    """Have everything written; how long it took, in seconds."""
    request = urllib.request.Request(f"{server.url}/iserver/cmd", b'{"action":"flushToWarehouse"}', method="POST")
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as answer:
        answer.read()
    return time.perf_counter() - began


def flush_under_load(server: Server) -> tuple[float, Measured]:
    """The same while a client asks for features without pause."""
    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(flush(server)))
    measured = Measured()
    requests = visits(f"{server.url}/iserver")
    thread.start()
    while thread.is_alive():
        measured.add(uvloop.run(load(requests, clients=1, seconds=0.5, warm_up=False)))
    return seconds[0], measured


def peaks_mb(server: Server) -> tuple[float, float]:
    """The most memory that the server and the process that writes for it have held."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    every = [
        pid for task in Path(f"/proc/{server.pid}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    writer = Server("writer", "", int((children or every)[0]))
    return server.peak_mb(), writer.peak_mb()


def limit(warehouse: Path, sessions: int) -> float:
    """Sessions per second of pyarrow alone, for the rows that were written."""
    tables = [
        parquet.read_table(file, partitioning=None)
        for name in ("session", "rating_box")
        for file in (warehouse / "tables" / name).glob("ds=*/hh=*/*.parquet")
    ]
    began = time.perf_counter()
    for number, rows in enumerate(tables):
        parquet.write_table(rows, warehouse / f"{number}.parquet", compression="zstd", row_group_size=20_000)
    return sessions / (time.perf_counter() - began)


def measurements(folder: Path, sessions: int) -> Iterator[Line]:
    """The speed alone, then the latency under load, and the memory of both processes."""
    journal = folder / "full" / "journal.sqlite"
    journal.parent.mkdir()
    say(f"filling a journal with {sessions} sessions")
    asyncio.run(fill(journal, sessions))
    for is_loaded in (False, True):
        data = folder / f"data-{is_loaded}"
        shutil.copytree(journal.parent, data)
        with iserver(data, folder / "log") as server:
            if is_loaded:
                say("writing them while a client asks for features")
                seconds, measured = flush_under_load(server)
                p99_ms = measured.percentile(0.99)
                text = f"{measured.rps:.0f}/s, p50 {measured.percentile(0.5):.2f}, p99 {p99_ms:.2f} ms"
                yield Line("features meanwhile, p99", "", text, p99_ms, Goal(P99_MS, at_least=False, unit="ms"))
                yield Line("sessions/s meanwhile", "", f"{sessions / seconds:.0f}/s", sessions / seconds, unit="/s")
                continue
            say("writing them with nothing else to do")
            rate = sessions / flush(server)
            bound = limit(data / "warehouse", sessions)
            yield Line("sessions/s", f"{bound:.0f}/s", f"{rate:.0f}/s", rate, Goal(SESSIONS_PER_S, unit="/s"))
            mine, writer = peaks_mb(server)
            memory = Goal(MEMORY_MB, at_least=False, unit="MB")
            yield Line("peak memory", "", f"server {mine:.0f}, writer {writer:.0f} MB", mine + writer, memory)

"""Run the five daemons on example data until Ctrl-C; called by scripts/start, which sets the environment up."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from datasets import write_datasets
from traffic import flush, play

HERE = Path(__file__).parent
READY_TIMEOUT_S = 60.0
VISITORS = 40


@dataclass(frozen=True, slots=True)
class Daemon:
    """One daemon of the example: its command, and the address at which it will answer."""

    name: str
    port: int
    path: str
    arguments: Sequence[str]

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return self.origin + self.path


def daemons(data: Path, catalogs: Sequence[Path]) -> list[Daemon]:
    """The five daemons with embedded defaults, in the order in which they are started."""
    shop = ["--fdl", str(HERE / "shop.fdl"), "--enable-cmd"]
    return [
        Daemon("metaserver", 34601, "", []),
        Daemon("replicaserver", 34801, "", ["--meta", "127.0.0.1:34601"]),
        Daemon("gateway", 8000, "", []),
        Daemon("iserver", 3004, "/iserver", [*shop, "--warehouse", str(data / "warehouse")]),
        Daemon("intake_server", 5000, "", [str(catalog) for catalog in catalogs]),
    ]


class ExampleError(Exception):
    """The example cannot go on; the text is what the person at the terminal reads."""


class Running:
    """The processes that were started, each with a log file of its own."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._processes: list[tuple[Daemon, asyncio.subprocess.Process, Path]] = []

    async def start(self, daemon: Daemon, http: aiohttp.ClientSession) -> None:
        """Start a daemon and wait until it is ready."""
        log = self._data / "logs" / f"{daemon.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name(daemon.name)), "start", "--port", str(daemon.port)]
        command += ["--data-dir", str(self._data / daemon.name), "--log-format", "json", *daemon.arguments]
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(*command, stderr=stderr, start_new_session=True)
        self._processes.append((daemon, process, log))
        await self._until_ready(daemon, process, log, http)

    async def _until_ready(
        self, daemon: Daemon, process: asyncio.subprocess.Process, log: Path, http: aiohttp.ClientSession
    ) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.returncode is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise ExampleError(last[0])
            try:
                async with http.get(f"{daemon.origin}/healthz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        raise ExampleError(f"{daemon.name} did not become ready within {READY_TIMEOUT_S:g} s, see {log}")

    async def first_to_end(self) -> None:
        """Return only when a daemon ends by itself.

        Raises:
            ExampleError: always, naming the daemon.
        """
        waits = {asyncio.create_task(process.wait()): (daemon, log) for daemon, process, log in self._processes}
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        daemon, log = waits[done.pop()]
        raise ExampleError(f"{daemon.name} ended by itself, see {log}")

    async def stop(self) -> None:
        """Drain the daemons, the last one first."""
        for _, process, _ in reversed(self._processes):
            if process.returncode is None:
                process.terminate()
        for daemon, process, log in reversed(self._processes):
            if await process.wait() not in (0, 1):
                print(f"{daemon.name} ended with status {process.returncode}, see {log}", file=sys.stderr)


async def run(data: Path, check: bool) -> None:
    """Start everything, play the traffic, print what to do next, and wait."""
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    datasets = await asyncio.to_thread(write_datasets, data / "datasets")
    running = Running(data)
    async with aiohttp.ClientSession() as http:
        try:
            plan = daemons(data, [data / "warehouse" / "catalog.yml", datasets])
            *first, intake_server = plan
            for daemon in first:
                await running.start(daemon, http)
            iserver = next(daemon for daemon in plan if daemon.name == "iserver")
            played = await play(http, iserver.address, VISITORS, seed=1)
            await flush(http, iserver.address)
            await running.start(intake_server, http)
            print_addresses(plan, data)
            print_next_steps(played.impressions, played.ratings, intake_server)
            if not check:
                await running.first_to_end()
        finally:
            await running.stop()


def print_addresses(plan: Sequence[Daemon], data: Path) -> None:
    print(f"\nThe data are under {data}. Ready:\n")
    for daemon in sorted(plan, key=lambda daemon: daemon.name):
        print(f"  {daemon.name:15} {daemon.address}")


def print_next_steps(impressions: int, ratings: int, intake_server: Daemon) -> None:
    print(f"\n{VISITORS} visitors came by just now: {impressions} impressions of RatingBox, {ratings} ratings.")
    print("Read them, where `pip install intake==0.7.0 dask[dataframe] requests msgpack pyarrow` was run:\n")
    print("  import intake")
    print(f'  catalog = intake.open_catalog("intake://127.0.0.1:{intake_server.port}")')
    print("  print(catalog.rating_box.read())")
    print("\nCtrl-C stops the daemons.", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/start", add_help=False)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(run(arguments.data_dir, arguments.check))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, task.cancel)
            loop.run_until_complete(task)
    except asyncio.CancelledError:
        print("\nstopped")
    except (ExampleError, OSError, RuntimeError) as failure:
        print(f"scripts/start: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

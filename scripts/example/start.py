"""Run the five daemons on example data until Ctrl-C; called by scripts/start, which sets the environment up."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from datasets import write_datasets
from traffic import Played, flush, play

SHOP = Path(__file__).parents[2] / "iserver" / "example" / "shop.fdl"
READY_TIMEOUT_S = 60.0
VISITORS = 40
PORTS = {"metaserver": 34601, "replicaserver": 34801, "gateway": 8000, "iserver": 3004, "intake_server": 5000}


class ExampleError(Exception):
    """The example cannot go on; the text is what the person at the terminal reads."""


@dataclass(frozen=True, slots=True)
class Running:
    """One daemon that was started."""

    name: str
    process: asyncio.subprocess.Process
    log: Path


class Example:
    """The daemons of the example, each with a folder and a log file of its own under the data folder."""

    def __init__(self, data: Path, ports: Mapping[str, int]) -> None:
        self._data = data
        self._ports = ports
        self._running: list[Running] = []
        self.addresses: dict[str, str] = {}

    async def start(self, name: str, *arguments: str | Path) -> str:
        """Start a daemon and wait until it listens.

        Returns:
            The address that it announced.
        """
        log = self._data / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [Path(sys.executable).with_name(name), "start", "--port", str(self._ports[name])]
        command += ["--data-dir", self._data / name, "--log-format", "json", *arguments]
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(*command, stderr=stderr, start_new_session=True)
        running = Running(name, process, log)
        self._running.append(running)
        self.addresses[name] = await self._announced(running)
        return self.addresses[name]

    async def _announced(self, running: Running) -> str:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            lines = running.log.read_text(errors="replace").splitlines()
            if running.process.returncode is not None:
                raise ExampleError(lines[-1] if lines else f"{running.name} ended without a word")
            for line in lines:
                if '"listening"' in line:
                    return str(json.loads(line)["address"])
            await asyncio.sleep(0.05)
        raise ExampleError(f"{running.name} did not begin to listen within {READY_TIMEOUT_S:g} s, see {running.log}")

    async def until_one_ends(self) -> None:
        """Wait.

        Raises:
            ExampleError: A daemon ended by itself.
        """
        waits = {asyncio.create_task(running.process.wait()): running for running in self._running}
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        ended = waits[done.pop()]
        raise ExampleError(f"{ended.name} ended by itself, see {ended.log}")

    async def stop(self) -> None:
        """Drain the daemons, all at once."""
        for running in self._running:
            if running.process.returncode is None:
                running.process.terminate()
        for running in self._running:
            if await running.process.wait() != 0:
                print(
                    f"{running.name} ended with status {running.process.returncode}, see {running.log}", file=sys.stderr
                )


async def run(data: Path, ports: Mapping[str, int], *, check: bool) -> None:
    """Start everything, play the traffic, print what to do next, and wait."""
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    warehouse = data / "warehouse"
    datasets = await asyncio.to_thread(write_datasets, data / "datasets")
    example = Example(data, ports)
    try:
        metaserver = await example.start("metaserver")
        await example.start("replicaserver", "--meta", metaserver.removeprefix("http://"))
        await example.start("gateway")
        shop = ("--fdl", SHOP, "--enable-cmd", "--warehouse", warehouse)
        iserver = await example.start("iserver", *shop)
        async with aiohttp.ClientSession() as http:
            played = await play(http, iserver, VISITORS, seed=time.time_ns())
            await flush(http, iserver)
        await example.start("intake_server", warehouse / "catalog.yml", datasets)
        print_addresses(data, example.addresses)
        print_next_steps(played, example.addresses["intake_server"])
        if not check:
            await example.until_one_ends()
    finally:
        await example.stop()


def print_addresses(data: Path, addresses: Mapping[str, str]) -> None:
    print(f"\nThe data are under {data}. Ready:\n")
    for name, address in sorted(addresses.items()):
        print(f"  {name:15} {address}")


def print_next_steps(played: Played, intake_server: str) -> None:
    print(f"\n{played.visitors} visitors came by just now: {played.impressions} impressions of RatingBox,", end=" ")
    print(f"{played.ratings} ratings.\nRead them where the published client is installed,")
    print("`pip install intake==0.7.0 'dask[dataframe]' requests msgpack pyarrow`:\n")
    print("  import intake")
    print(f'  catalog = intake.open_catalog("{intake_server.replace("http://", "intake://")}")')
    print("  print(catalog.rating_box.read())")
    print("\nCtrl-C stops the daemons.", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/start", add_help=False)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--free-ports", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments: argparse.Namespace = parser.parse_args()
    ports: Mapping[str, int] = dict.fromkeys(PORTS, 0) if arguments.free_ports else PORTS
    try:
        run_until_stopped(run(arguments.data_dir, ports, check=arguments.check))
    except asyncio.CancelledError:
        print("\nstopped")
    except (ExampleError, OSError, RuntimeError) as error:
        print(f"scripts/start: {error}", file=sys.stderr)
        return 1
    return 0


def run_until_stopped(work: Coroutine[None, None, None]) -> None:
    """Run a coroutine; Ctrl-C and SIGTERM cancel it."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        loop.run_until_complete(task)


if __name__ == "__main__":
    sys.exit(main())

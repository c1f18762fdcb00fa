"""`/pprof/*` for a Python process: what google-pprof and `go tool pprof` expect of a native one (protocol §8).

Python functions get synthetic addresses, 16 bytes apart, in a stretch of the address space that nothing is mapped to;
profiles carry those addresses, and `/pprof/symbol` gives their names back (§8.6). CPU time is found by a signal for
every 10 ms that the process uses: the stacks of all threads are then charged what each has used since the signal
before. Memory is counted by tracemalloc.
"""

from __future__ import annotations

import array
import asyncio
import re
import signal
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

from shared.pegasus.process.pprof_names import function_at
from shared.pegasus.process.statistics import command_line, memory_maps, thread_time_ns
from shared.tasks import cancel_and_wait, start_task

PERIOD_US = 10_000
SAMPLE_VARIABLE = "TCMALLOC_SAMPLE_PARAMETER"
NO_SAMPLING = (
    f"The environment variable {SAMPLE_VARIABLE} should set to a positive value, such as 524288, before running."
)
MMAP_THRESHOLD = 128 * 1024
"""Allocations of this many bytes get address space of their own; smaller ones share what is already there."""
FRAMES = 24
MAX_SECONDS = 600
"""The longest profile: there is one at a time."""
_BASE = 0x0100_0000_0000
_STEP = 16
_MAX_STACK = 64

T = TypeVar("T")
Stack = tuple[int, ...]
"""Addresses, the innermost function first."""


class Answer(NamedTuple):
    """What a route answers."""

    status: int
    body: bytes


class Symbols:
    """The address of every function that was seen, and back."""

    def __init__(self) -> None:
        self._addresses: dict[str, int] = {}
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self._names)

    def address(self, name: str) -> int:
        """Where a function is said to be; the same for as long as the process lives.

        It is 8 bytes into the function, because the tools subtract 1 from return addresses before they ask.
        """
        found = self._addresses.get(name)
        if found is None:
            found = self._addresses[name] = _BASE + _STEP * len(self._names)
            self._names.append(name)
        return found + _STEP // 2

    def name(self, address: int) -> str | None:
        """The function with the greatest start that is not after an address, None when there is none."""
        if address < _BASE or not self._names:
            return None
        return self._names[min((address - _BASE) // _STEP, len(self._names) - 1)]


class CpuSampler:
    """Counts which stacks use CPU time.

    A thread is charged the CPU time that it used since its last sample, so one that waits costs nothing.
    """

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._spent_ns: dict[int, int] = {}
        self.counts: Counter[Stack] = Counter()

    def sample(self, interrupted: FrameType | None = None) -> None:
        """Take one sample of every thread.

        Args:
            interrupted: Where the calling thread was when a signal interrupted it; None leaves it out.
        """
        frames = sys._current_frames()
        own = threading.get_ident()
        del frames[own]
        if interrupted is not None:
            frames[own] = interrupted
        for thread, frame in frames.items():
            try:
                now_ns = thread_time_ns(thread)
            except OSError:  # the thread ended meanwhile
                continue
            last_ns = self._spent_ns.setdefault(thread, now_ns)
            ticks = (now_ns - last_ns) // (PERIOD_US * 1000)
            if ticks > 0:
                self._spent_ns[thread] = last_ns + ticks * PERIOD_US * 1000
                self.counts[self._stack(frame)] += ticks

    def _stack(self, innermost: FrameType) -> Stack:
        addresses: list[int] = []
        frame: FrameType | None = innermost
        while frame is not None and len(addresses) < _MAX_STACK:
            code = frame.f_code
            addresses.append(self._symbols.address(f"{module_of(code.co_filename)}.{code.co_qualname}"))
            frame = frame.f_back
        return tuple(addresses)


@lru_cache(maxsize=4096)
def module_of(filename: str) -> str:
    """The dotted name of a source file's module: as it was imported, else after the file."""
    if filename.startswith("<"):
        return filename.strip("<>").replace(" ", "_")
    for name, module in tuple(sys.modules.items()):
        if name != "__main__" and getattr(module, "__file__", None) == filename:
            return name
    return Path(filename).name.removesuffix(".py").replace(" ", "_")


def cpu_profile(counts: Mapping[Stack, int], maps: bytes) -> bytes:
    """The legacy binary CPU profile (§8.5)."""
    words = array.array("Q", (0, 3, 0, PERIOD_US, 0))
    for stack, count in counts.items():
        words.extend((count, len(stack), *stack))
    words.extend((0, 1, 0))
    return words.tobytes() + maps


class Block(NamedTuple):
    """Live allocations that one stack made."""

    stack: Stack
    objects: int
    size: int


def heap_profile(blocks: Sequence[Block], kind: str, maps: bytes) -> bytes:
    """The legacy text heap profile (§8.3, §8.4); `kind` is the tail of its header, such as ``heap_v2/1``.

    Objects without a size are left out: google-pprof divides by it.
    """
    blocks = [block for block in blocks if block.size > 0]
    objects, size = sum(block.objects for block in blocks), sum(block.size for block in blocks)
    lines = [f"heap profile: {_counts(objects, size)} @ {kind}"]
    for block in sorted(blocks, key=lambda block: (-block.size, block.stack)):
        lines.append(f"{_counts(block.objects, block.size)} @ {' '.join(f'0x{pc:016x}' for pc in block.stack)}")
    return "\n".join([*lines, "", "MAPPED_LIBRARIES:", ""]).encode() + maps


def _counts(objects: int, size: int) -> str:
    return f"{objects:6d}: {size:8d} [{objects:6d}: {size:8d}]"


class Pprof:
    """The five routes. One profile is taken at a time, in a thread of its own; everything else goes on meanwhile."""

    def __init__(self, environment: Mapping[str, str], executor: Executor | None = None) -> None:
        """Start counting allocations at once if the environment asks for it, as the original does (§8.3)."""
        self.symbols = Symbols()
        self._executor = executor
        self._busy = False
        self._stop = asyncio.Event()
        self._counts_always = _is_positive(environment.get(SAMPLE_VARIABLE, ""))
        if self._counts_always and not tracemalloc.is_tracing():
            tracemalloc.start(FRAMES)

    def close(self) -> None:
        """End a running profile early."""
        self._stop.set()

    def symbol(self, method: str, body: bytes) -> Answer:
        """The number of symbols, or with POST the names of addresses (§8.1)."""
        if method != "POST":
            return Answer(200, f"num_symbols: {max(1, len(self.symbols))}\n".encode())
        lines = []
        for text in body.decode("latin-1").strip().strip("'\"").split("+"):
            with suppress(ValueError):
                address = int(text.strip(), 16)
                shown = f"0x{address:08x}"
                lines.append(f"{shown}\t{self.symbols.name(address) or shown}\n")
        return Answer(200, "".join(lines).encode())

    def cmdline(self) -> Answer:
        """The command line, one argument a line (§8.2)."""
        return Answer(200, "".join(f"{argument}\n" for argument in command_line()).encode("utf-8", "surrogateescape"))

    async def heap(self, arguments: Mapping[str, str], gone: asyncio.Event | None = None) -> Answer:
        """Live objects, or with ``seconds`` those allocated meanwhile (§8.3).

        Args:
            arguments: Of the request.
            gone: Set when nobody waits for the answer any more.
        """
        seconds = _unsigned(arguments.get("seconds"))
        if seconds is not None:
            return _too_long(seconds) or await self._alone(self._allocations(seconds, gone))
        if not self._counts_always:
            return Answer(500, NO_SAMPLING.encode())
        return await self._alone(self._in_thread(self._live))

    async def growth(self) -> Answer:
        """The allocations that took address space of their own (§8.4)."""
        return await self._alone(self._in_thread(self._growth))

    async def profile(self, target: str, gone: asyncio.Event | None = None) -> Answer:
        """A CPU profile (§8.5).

        Args:
            target: The request target as it was received: ``seconds`` is read undecoded.
            gone: Set when nobody waits for the answer any more.
        """
        found = re.search(r"[?&]seconds=([^&#]*)", target)
        seconds = 60 if found is None else _unsigned(found[1]) or 0
        return _too_long(seconds) or await self._alone(self._cpu(seconds, gone))

    async def _alone(self, work: Coroutine[None, None, bytes]) -> Answer:
        if self._busy:
            work.close()
            return Answer(500, b"")
        self._busy = True
        try:
            return Answer(200, await work)
        finally:
            self._busy = False

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    async def _cpu(self, seconds: int, gone: asyncio.Event | None) -> bytes:
        """Sample for some seconds, or until told to stop; the loop must run in the main thread."""
        sampler = CpuSampler(self.symbols)
        sampler.sample(sys._getframe())
        signal.signal(signal.SIGPROF, lambda _signal, frame: sampler.sample(frame))
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, PERIOD_US / 1e6, PERIOD_US / 1e6)
        try:
            await self._wait(seconds, gone)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, signal.SIG_IGN)  # one that is still on its way must not end the process
        return cpu_profile(sampler.counts, memory_maps())

    async def _wait(self, seconds: int, gone: asyncio.Event | None) -> None:
        """Wait for some seconds, until `close`, or until nobody waits for the answer."""
        events = [event for event in (self._stop, gone) if event is not None]
        waiting = [start_task(event.wait(), name="profile") for event in events]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*waiting)

    def _live(self) -> bytes:
        return heap_profile(self._blocks(tracemalloc.take_snapshot()), "heap_v2/1", memory_maps())

    def _growth(self) -> bytes:
        blocks: list[Block] = []
        if tracemalloc.is_tracing():
            snapshot = tracemalloc.take_snapshot()
            large = [trace for trace in snapshot.traces if trace.size >= MMAP_THRESHOLD]
            blocks = [Block(self._stack(reversed(trace.traceback)), 1, trace.size) for trace in large]
        return heap_profile(blocks, "growth", memory_maps())

    async def _allocations(self, seconds: int, gone: asyncio.Event | None) -> bytes:
        starts = not tracemalloc.is_tracing()
        if starts:
            tracemalloc.start(FRAMES)
        try:
            before = None if starts else await self._in_thread(tracemalloc.take_snapshot)
            await self._wait(seconds, gone)
            return await self._in_thread(self._allocated_since, before)
        finally:
            if starts:
                tracemalloc.stop()

    def _allocated_since(self, before: tracemalloc.Snapshot | None) -> bytes:
        blocks = self._blocks(tracemalloc.take_snapshot())
        if before is not None:
            had = {block.stack: block for block in self._blocks(before)}
            blocks = [grown for block in blocks if (grown := _grown(block, had.get(block.stack)))]
        return heap_profile(blocks, "heapprofile", memory_maps())

    def _blocks(self, snapshot: tracemalloc.Snapshot) -> list[Block]:
        merged: dict[Stack, Block] = {}
        for statistic in snapshot.statistics("traceback"):
            stack = self._stack(reversed(statistic.traceback))
            block = merged.get(stack, Block(stack, 0, 0))
            merged[stack] = Block(stack, block.objects + statistic.count, block.size + statistic.size)
        return list(merged.values())

    def _stack(self, frames: Iterable[tracemalloc.Frame]) -> Stack:
        return tuple(
            self.symbols.address(f"{module_of(frame.filename)}.{function_at(frame.filename, frame.lineno)}")
            for frame in frames
        )


def _grown(block: Block, before: Block | None) -> Block | None:
    if before is None:
        return block
    if block.size <= before.size:
        return None
    return Block(block.stack, max(1, block.objects - before.objects), block.size - before.size)


def _too_long(seconds: int) -> Answer | None:
    if seconds <= MAX_SECONDS:
        return None
    return Answer(400, f"seconds={seconds}: a profile takes at most {MAX_SECONDS} seconds\n".encode())


def _is_positive(text: str) -> bool:
    number = _unsigned(text)
    return number is not None and number > 0


def _unsigned(text: str | None) -> int | None:
    """A 32-bit unsigned number in C's notation, None when it is not one."""
    found = re.fullmatch(r"\+?(0[xX][0-9a-fA-F]+|[0-9]+)", text or "")
    if found is None:
        return None
    digits = found[1]
    try:
        number = int(digits, 8 if digits.startswith("0") and digits[1:].isdigit() else 0)
    except ValueError:  # an 8 or 9 among octal digits
        return None
    return number if number < 2**32 else None

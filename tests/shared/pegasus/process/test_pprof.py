"""What profiling tools are told about a Python process (protocol §8)."""

from __future__ import annotations

import array
import asyncio
import re
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.pegasus.process.pprof import (
    NO_SAMPLING,
    Block,
    CpuSampler,
    Pprof,
    Symbols,
    cpu_profile,
    heap_profile,
    module_of,
)
from shared.pegasus.process.pprof_names import function_at


@pytest.fixture
async def pprof() -> AsyncIterator[Pprof]:
    with ThreadPoolExecutor(1) as executor:
        made = Pprof({}, executor)
        yield made
        made.close()


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start(10)
    yield
    tracemalloc.stop()


def addresses(text: str) -> list[str]:
    return re.findall(r"0x[0-9a-f]{16}", text.partition("MAPPED_LIBRARIES")[0])


def names_of(pprof: Pprof, found: list[str]) -> str:
    return pprof.symbol("POST", "+".join(found).encode()).body.decode()


def test_every_function_has_one_address_and_its_name_back() -> None:
    symbols = Symbols()
    first, second = symbols.address("pkg.first"), symbols.address("pkg.second")
    assert symbols.address("pkg.first") == first
    assert second - first == 16
    assert symbols.name(first) == "pkg.first"
    assert symbols.name(first - 1) == "pkg.first"  # the tools subtract one from return addresses
    assert symbols.name(second - 1) == "pkg.second"
    assert symbols.name(0x401000) is None


async def test_addresses_are_named_in_order_one_a_line(pprof: Pprof) -> None:
    first, second = pprof.symbols.address("pkg.first"), pprof.symbols.address("pkg.second")
    status, body = pprof.symbol("POST", f"'0x{second:x}+{first:x}+0x00401000".encode())
    assert status == 200
    assert body.decode() == f"0x{second:08x}\tpkg.second\n0x{first:08x}\tpkg.first\n0x00401000\t0x00401000\n"


async def test_there_are_always_symbols(pprof: Pprof) -> None:
    assert pprof.symbol("GET", b"").body == b"num_symbols: 1\n"
    pprof.symbols.address("a")
    pprof.symbols.address("b")
    assert pprof.symbol("GET", b"").body == b"num_symbols: 2\n"


async def test_what_is_no_address_is_left_out(pprof: Pprof) -> None:
    assert pprof.symbol("POST", b"hello+0x10+").body == b"0x00000010\t0x00000010\n"


async def test_the_command_line_has_one_argument_a_line(pprof: Pprof) -> None:
    status, body = pprof.cmdline()
    assert status == 200
    assert body.endswith(b"\n")
    assert b"\0" not in body


def test_a_cpu_profile_is_words_then_the_maps() -> None:
    body = cpu_profile({(0x10, 0x20): 3, (0x30,): 1}, b"maps")
    words = array.array("Q", body[: -len("maps")])
    assert list(words) == [0, 3, 0, 10_000, 0, 3, 2, 0x10, 0x20, 1, 1, 0x30, 0, 1, 0]


def test_a_heap_profile_starts_with_its_totals() -> None:
    blocks = [Block((0x401010, 0x401090), 2, 100), Block((0x20,), 1, 4000), Block((0x30,), 5, 0)]
    body = heap_profile(blocks, "heap_v2/1", b"maps\n")
    assert body.decode() == (
        "heap profile:      3:     4100 [     3:     4100] @ heap_v2/1\n"
        "     1:     4000 [     1:     4000] @ 0x0000000000000020\n"
        "     2:      100 [     2:      100] @ 0x0000000000401010 0x0000000000401090\n"
        "\n"
        "MAPPED_LIBRARIES:\n"
        "maps\n"
    )


async def test_without_the_variable_the_heap_needs_seconds(pprof: Pprof) -> None:
    assert await pprof.heap({}) == (500, NO_SAMPLING.encode())
    assert await pprof.heap({"seconds": "ten"}) == (500, NO_SAMPLING.encode())
    assert (await pprof.heap({"seconds": "4294967296"})).status == 500


@pytest.mark.parametrize("value", ["", "0", "-1", "no"])
async def test_the_variable_must_be_positive(value: str) -> None:
    assert (await Pprof({"TCMALLOC_SAMPLE_PARAMETER": value}).heap({})).status == 500


async def test_with_the_variable_the_heap_shows_live_objects_by_function(tracing: None) -> None:
    with ThreadPoolExecutor(1) as executor:
        pprof = Pprof({"TCMALLOC_SAMPLE_PARAMETER": "524288"}, executor)
        kept = hold_memory(300)
        status, body = await pprof.heap({})
    text = body.decode()
    assert status == 200
    assert text.splitlines()[0].endswith("@ heap_v2/1")
    assert "\nMAPPED_LIBRARIES:\n" in text
    assert len(kept) == 300
    assert ".hold_memory\n" in names_of(pprof, addresses(text))


def hold_memory(count: int) -> list[bytearray]:
    return [bytearray(1000) for _ in range(count)]


async def test_a_heap_profile_over_no_time_counts_nothing_from_before(pprof: Pprof) -> None:
    kept = hold_memory(10)
    status, body = await pprof.heap({"seconds": "0"})
    assert status == 200
    assert body.decode().splitlines()[0].endswith("@ heapprofile")
    assert len(kept) == 10
    assert ".hold_memory" not in names_of(pprof, addresses(body.decode()))
    assert not tracemalloc.is_tracing()


async def test_growth_is_empty_while_nothing_is_counted(pprof: Pprof) -> None:
    status, body = await pprof.growth()
    assert status == 200
    assert body.startswith(b"heap profile:      0:        0 [     0:        0] @ growth\n\nMAPPED_LIBRARIES:\n")


async def test_growth_shows_what_took_address_space_of_its_own(pprof: Pprof, tracing: None) -> None:
    kept = [bytearray(1 << 20), bytearray(1000)]
    text = (await pprof.growth()).body.decode()
    sizes = [int(size) for size in re.findall(r"^ *\d+: +(\d+) \[.*@ 0x", text, re.M)]
    assert len(kept[0]) < max(sizes) < len(kept[0]) + 100
    assert min(sizes) >= 128 * 1024


async def test_a_cpu_profile_over_no_time_is_just_its_frame(pprof: Pprof) -> None:
    for target in ("/pprof/profile?seconds=0", "/pprof/profile?seconds=abc"):
        status, body = await pprof.profile(target)
        assert status == 200
        assert list(array.array("Q", body[:40])) == [0, 3, 0, 10_000, 0]
        assert b"/proc" not in body[:64]


def test_the_function_that_uses_the_cpu_is_the_one_that_is_charged() -> None:
    symbols = Symbols()
    sampler = CpuSampler(symbols)
    stop = threading.Event()
    busy = threading.Thread(target=spin, args=(stop,))
    idle = threading.Thread(target=stop.wait)
    busy.start()
    idle.start()
    try:
        watcher = threading.Thread(target=sample_until_charged, args=(sampler,))
        watcher.start()
        watcher.join()
    finally:
        stop.set()
        busy.join()
        idle.join()
    by_leaf = {symbols.name(stack[0]): count for stack, count in sampler.counts.items()}
    assert any(str(name).endswith(("test_pprof.spin", "Event.is_set")) for name in by_leaf)
    charged = {symbols.name(pc) for stack in sampler.counts for pc in stack}
    assert not any(str(name).endswith("Event.wait") for name in charged)


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(1000))


def sample_until_charged(sampler: CpuSampler) -> None:
    own_wait = threading.Event()
    while sum(sampler.counts.values()) < 5:
        sampler.sample()
        own_wait.wait(0.001)


async def test_a_profile_charges_what_the_event_loop_runs(pprof: Pprof) -> None:
    task = asyncio.ensure_future(pprof.profile("/pprof/profile"))
    await asyncio.sleep(0)
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        sum(range(1000))
    pprof.close()
    words = array.array("Q", (await task).body[:8000])
    names = {pprof.symbols.name(word) for word in words}
    assert any(str(name).endswith("test_a_profile_charges_what_the_event_loop_runs") for name in names)


async def test_one_profile_at_a_time() -> None:
    with ThreadPoolExecutor(1) as executor:
        pprof = Pprof({}, executor)
        first = asyncio.ensure_future(pprof.profile("/pprof/profile"))  # for a minute
        await asyncio.sleep(0)
        assert await pprof.growth() == (500, b"")
        assert await pprof.heap({"seconds": "1"}) == (500, b"")
        assert await pprof.profile("/pprof/profile?seconds=1") == (500, b"")
        pprof.close()
        assert (await first).status == 200
        assert (await pprof.growth()).status == 200


async def test_a_profile_of_years_is_refused() -> None:
    pprof = Pprof({})
    for answer in (await pprof.profile("/pprof/profile?seconds=4000000000"), await pprof.heap({"seconds": "601"})):
        assert (answer.status, b"at most 600 seconds" in answer.body) == (400, True)


@pytest.mark.parametrize("kind", ["cpu", "heap"])
async def test_a_profile_ends_when_nobody_waits_for_it(kind) -> None:
    with ThreadPoolExecutor(1) as executor:
        pprof, gone = Pprof({}, executor), asyncio.Event()
        if kind == "cpu":
            profile = asyncio.ensure_future(pprof.profile("/pprof/profile?seconds=600", gone))
        else:
            profile = asyncio.ensure_future(pprof.heap({"seconds": "600"}, gone))
        await asyncio.sleep(0)
        gone.set()
        assert (await profile).status == 200
        assert (await pprof.growth()).status == 200


def test_a_line_is_named_after_its_innermost_function() -> None:
    line = test_a_line_is_named_after_its_innermost_function.__code__.co_firstlineno

    def inner() -> None: ...

    assert function_at(__file__, line + 1) == "test_a_line_is_named_after_its_innermost_function"
    assert function_at(__file__, inner.__code__.co_firstlineno).endswith("function.<locals>.inner")
    method = Symbols.address.__code__
    assert function_at(method.co_filename, method.co_firstlineno + 6) == "Symbols.address"
    assert function_at(method.co_filename, method.co_firstlineno) == "Symbols.address"
    assert function_at(__file__, 1) == "<module>"
    assert function_at("<string>", 3) == "<module>"
    assert function_at(__file__, 10**6) == "<module>"


def test_a_file_is_named_as_its_module() -> None:
    assert module_of(threading.__file__) == "threading"
    assert module_of(asyncio.__file__) == "asyncio"
    assert module_of("/somewhere/else/my script.py") == "my_script"
    assert module_of("<string>") == "string"

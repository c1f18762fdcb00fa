"""FastPath give the bytes that the table of RPCs gives, to whatever request (protocol §10.1, §11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicaserver.handlers.fast_path import FastPath
from replicaserver.partition.write_batches import WriteBatches
from replicaserver.partition.write_queue import PlainPut
from replicaserver.storage.engine import StoreError
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.framing import encode_error, encode_request
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from shared.pegasus.wire.thrift import codec_of
from tests.replicaserver.conftest import Clock, Served, start

KEY = encode_key(b"hk", b"sk")
GET, PUT = "RPC_RRDB_RRDB_GET", "RPC_RRDB_RRDB_PUT"

keys = st.one_of(
    st.just(KEY), st.builds(encode_key, st.binary(max_size=4), st.binary(max_size=4)), st.binary(max_size=6)
)
puts = st.builds(
    UpdateRequest,
    keys,
    st.binary(max_size=20),
    st.sampled_from([0, 1, 1500, 2**31 - 1, -1, -(2**31)]),
    st.sampled_from([None, 0, 1]),
)
damage = st.one_of(st.none(), st.tuples(st.integers(77, 140), st.integers(0, 255)))


def put_frame(value: UpdateRequest, seqid: int = 1, index: int = 0) -> bytes:
    arguments = codec_of(UpdateRequest).encode_field(value, 1)
    return encode_request(PUT, seqid, arguments, app_id=2, partition_index=index)


def get_frame(key: bytes, seqid: int = 1, index: int = 0) -> bytes:
    return encode_request(GET, seqid, codec_of(bytes).encode_field(key, 1), app_id=2, partition_index=index)


def damaged(frame: bytes, change: tuple[int, int] | None) -> bytes:
    """A frame with one byte of its arguments exchanged."""
    if change is None or change[0] >= len(frame):
        return frame
    place, byte = change
    return frame[:place] + bytes((byte,)) + frame[place + 1 :]


requests = st.one_of(
    st.builds(damaged, st.builds(put_frame, puts, st.integers(-5, 5), st.integers(0, 1)), damage),
    st.builds(damaged, st.builds(get_frame, keys, st.integers(-5, 5), st.integers(0, 1)), damage),
)


@dataclass
class Client:
    """A client that sends bytes and reads replies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def of(cls, served: Served) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", served.address.port))

    async def ask(self, *frames: bytes) -> list[bytes]:
        """Send frames at once; their replies in order of arrival."""
        self.writer.write(b"".join(frames))
        return [await self.reply() for _ in frames]

    async def reply(self) -> bytes:
        async with asyncio.timeout(10):
            length = await self.reader.readexactly(4)
            return length + await self.reader.readexactly(int.from_bytes(length, "big") - 4)


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    client = await Client.of(served)
    yield client
    client.writer.close()


async def counted(served: Served) -> dict[str, int]:
    names = ("put_requests", "put_bytes", "get_requests", "get_bytes", "committed_requests")
    units = ("write_capacity_units", "read_capacity_units", "read_expired_values")
    return {name: await served.metric(name) for name in (*names, *units)}


class Pair:
    """A server that takes shortcuts and one that does not, which are asked the same."""

    def __init__(self, quick: Served, slow: Served, clients: tuple[Client, Client]) -> None:
        self.quick, self.slow, self.clients = quick, slow, clients

    async def check(self, frames: list[bytes]) -> None:
        """Ask both; replies, rows and counts must be the same."""
        for frame in frames:
            (quick,) = await self.clients[0].ask(frame)
            (slow,) = await self.clients[1].ask(frame)
            assert quick.replace(str(self.quick.address).encode(), str(self.slow.address).encode()) == slow
        quick_rows, slow_rows = (one.partition().store.read(b"", 10_000) for one in (self.quick, self.slow))
        assert quick_rows == slow_rows
        assert await counted(self.quick) == await counted(self.slow)


@pytest.fixture
async def pair(
    tmp_path: Path, clock: Clock, flags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    quick = await start(tmp_path / "quick", clock, flags)
    with monkeypatch.context() as patched:
        patched.setattr(FastPath, "take", lambda *_arguments: 0)
        slow = await start(tmp_path / "slow", clock, flags)
    pair = Pair(quick, slow, (await Client.of(quick), await Client.of(slow)))
    yield pair
    for client, served in zip(pair.clients, (quick, slow), strict=True):
        client.writer.close()
        served.connection.close()
        await served.server.drain()


@pytest.mark.parametrize("envs", [{}, {"default_ttl": "100"}])
async def test_both_ways_end_in_the_same_bytes_rows_and_counts(pair: Pair, envs: dict[str, str]):
    for served in (pair.quick, pair.slow):
        await served.table(envs=envs)
    loop = asyncio.get_running_loop()

    @settings(deadline=None, max_examples=60)
    @given(st.lists(requests, max_size=8))
    def compare(frames: list[bytes]) -> None:
        asyncio.run_coroutine_threadsafe(pair.check(frames), loop).result(60)

    await asyncio.to_thread(compare)


async def test_requests_that_come_together_are_all_answered(served: Served, client: Client):
    await served.table()
    remove = encode_request("RPC_RRDB_RRDB_REMOVE", 4, codec_of(bytes).encode_field(KEY, 1), app_id=2)
    frames = [put_frame(UpdateRequest(KEY, b"1"), 1), put_frame(UpdateRequest(KEY, b"2"), 2), remove, get_frame(KEY, 3)]
    assert len(await client.ask(*frames)) == 4
    (got,) = await client.ask(get_frame(KEY, 5))
    assert got == (await client.ask(get_frame(KEY, 5)))[0]
    assert b"RPC_RRDB_RRDB_GET_ACK" in got
    assert served.partition().store.get(KEY) is None


async def test_a_request_in_pieces_is_answered(served: Served, client: Client):
    await served.table()
    frame = put_frame(UpdateRequest(KEY, b"value"))
    for place in range(0, len(frame), 50):
        client.writer.write(frame[place : place + 50])
        await client.writer.drain()
        await asyncio.sleep(0)
    assert b"ERR_OK" in await client.reply()


async def test_a_put_is_taken_past_the_table(served: Served, client: Client, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    seen: list[bytes] = []
    submit = WriteBatches.submit_put

    def noting(batches: WriteBatches, put: PlainPut, size: int) -> bool:
        seen.append(put[0])
        return submit(batches, put, size)

    monkeypatch.setattr(WriteBatches, "submit_put", noting)
    await client.ask(put_frame(UpdateRequest(KEY, b"v")))
    assert seen == [KEY]


async def test_a_put_that_is_not_stored_is_refused(served: Served, client: Client, monkeypatch: pytest.MonkeyPatch):
    await served.table()

    def fail(*_arguments: object, **_how: object) -> None:
        raise StoreError("IO error: no space left on device")

    monkeypatch.setattr(served.partition().store, "apply", fail)
    assert await client.ask(put_frame(UpdateRequest(KEY, b"v"), 7)) == [
        encode_error(PUT, 7, ErrorCode.ERR_DISK_IO_ERROR)
    ]
    assert await client.ask(put_frame(UpdateRequest(KEY, b"v"), -8)) == [
        encode_error(PUT, -8, ErrorCode.ERR_DISK_IO_ERROR)
    ]


async def test_a_shortcut_that_fails_leaves_the_request_to_the_table(
    served: Served, client: Client, monkeypatch: pytest.MonkeyPatch
):
    await served.table()

    def fail(_key: bytes) -> bytes:
        raise Exception("IO error")

    monkeypatch.setattr(served.partition().store, "get", fail)
    assert await client.ask(get_frame(KEY, 7)) == [encode_error(GET, 7, ErrorCode.ERR_UNKNOWN)]


@given(st.binary(max_size=200), st.integers(0, 20))
def test_what_is_no_request_is_not_taken(data: bytes, start: int):
    assert FastPath({}).take(data, start, None) == 0  # type: ignore[arg-type]

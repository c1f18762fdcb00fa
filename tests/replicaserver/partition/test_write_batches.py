"""Writes of one partition in rounds (protocol §11.1): what a failing store and a closing replica do to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replicaserver.partition import write_queue
from replicaserver.rows.writes import Draft, incr
from replicaserver.storage.engine import StoreError
from shared.pegasus.wire.errors import ErrorCode, RocksdbError, RpcError
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.rrdb import IncrRequest, KeyValue, MultiPutRequest, UpdateRequest
from tests.replicaserver.conftest import Served

KEY = encode_key(b"hk", b"sk")


async def test_writes_that_come_together_go_to_the_disk_together(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    store = served.partition().store
    batches, apply = [], store.apply

    def count(changes, notes, **how) -> None:
        batches.append(changes)
        apply(changes, notes, **how)

    monkeypatch.setattr(store, "apply", count)
    await asyncio.gather(*(served.call("put", UpdateRequest(KEY, b"%d" % n)) for n in range(200)))
    assert len(batches) < 100


async def test_a_write_that_cannot_read_what_it_depends_on_fails_alone(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    partition = served.partition()

    def fail(_key: bytes) -> bytes:
        raise StoreError("Corruption: block checksum mismatch")

    with monkeypatch.context() as broken:
        broken.setattr(partition.store, "get", fail)
        add, put = await asyncio.gather(
            served.call("incr", IncrRequest(KEY, 1)),
            served.call("put", UpdateRequest(KEY, b"5")),
            return_exceptions=True,
        )
    assert isinstance(add, RpcError)
    assert add.code == ErrorCode.ERR_RDB_CORRUPTION
    assert put.error == 0
    assert (await served.call("incr", IncrRequest(KEY, 1))).new_value == 6


async def test_work_of_our_own_that_cannot_read_is_told(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    partition = served.partition()

    def fail(_key: bytes) -> bytes:
        raise StoreError("IO error")

    monkeypatch.setattr(partition.store, "get", fail)
    with pytest.raises(StoreError, match="IO error"):
        await partition.batches.submit_internal(lambda draft: draft.exchange(KEY, b"seen", None))
    await partition.batches.drained()


async def test_a_closing_replica_answers_what_it_took_and_takes_no_more(served: Served):
    await served.table()
    partition = served.partition()
    taken = [asyncio.ensure_future(served.call("put", UpdateRequest(KEY, b"%d" % n))) for n in range(50)]
    await asyncio.sleep(0)  # they are sent
    await served.call("get", KEY)  # behind them on the same connection
    await served.server.node.remove(partition.gpid)
    for answer in await asyncio.gather(*taken, return_exceptions=True):
        is_refused = isinstance(answer, RpcError) and answer.code == ErrorCode.ERR_INVALID_STATE
        assert is_refused or answer.error == 0
    with pytest.raises(RpcError, match="ERR_INVALID_STATE"):
        partition.batches.submit_internal(lambda _draft: None)


async def test_too_many_waiting_writes_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    monkeypatch.setattr("replicaserver.partition.write_queue.MAX_WAITING", 0)
    assert await served.error("put", UpdateRequest(KEY, b"")) == ErrorCode.ERR_CAPACITY_EXCEEDED


def raise_unforeseen(*_arguments: object, **_keywords: object) -> None:
    raise TypeError("nobody expects this")


async def test_an_operation_that_raises_is_refused_alone_and_leaves_nothing_behind(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    await served.table()
    partition = served.partition()

    def put_and_raise(draft: Draft, *_arguments: object) -> None:
        draft.put(KEY, b"half of it", 0)
        raise_unforeseen()

    first = asyncio.ensure_future(served.call("incr", IncrRequest(encode_key(b"a", b""), 1)))
    writes = [
        partition.batches.submit_internal(lambda draft: draft.notes.__setitem__("seen", 7)),
        *(
            partition.batches.submit(operation, request, _uncounted, shares_decree=False).future()
            for operation, request in (
                (incr, IncrRequest(encode_key(b"b", b""), 5)),
                (put_and_raise, None),
                (incr, IncrRequest(encode_key(b"b", b""), 6)),
            )
        ),
    ]
    async with asyncio.timeout(30):
        _, before, raised, after = await asyncio.gather(*writes, return_exceptions=True)
        await first
    assert isinstance(raised, RpcError)
    assert raised.code == ErrorCode.ERR_UNKNOWN
    assert (before.new_value, after.new_value) == (5, 11)
    assert (await served.call("get", KEY)).error == RocksdbError.NOT_FOUND
    assert partition.core.last_committed == partition.core.last_prepared == partition.store.durable().decree == 3
    assert partition.store.noted("seen") == 7


def _uncounted(_waiting: Any, _response: Any) -> None:
    """Not a request of a client."""


async def test_work_of_our_own_that_raises_is_told_and_the_replica_can_be_closed(served: Served):
    await served.table()
    partition = served.partition()
    with pytest.raises(RpcError, match=r"ERR_UNKNOWN: .*nobody expects this"):
        async with asyncio.timeout(30):
            await partition.batches.submit_internal(raise_unforeseen)
    assert (await served.call("put", UpdateRequest(KEY, b"v"))).error == 0
    async with asyncio.timeout(30):
        await served.server.node.remove(partition.gpid)


async def test_a_round_that_cannot_be_put_into_the_log_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    with monkeypatch.context() as broken:
        broken.setattr("replicaserver.storage.node_log.encode_record", raise_unforeseen)
        for _ in range(2):
            assert await served.error("put", UpdateRequest(KEY, b"1")) == ErrorCode.ERR_UNKNOWN
            assert await served.error("incr", IncrRequest(KEY, 1)) == ErrorCode.ERR_UNKNOWN
    assert (await served.call("put", UpdateRequest(KEY, b"2"))).decree == 1


async def test_an_answer_that_cannot_be_given_keeps_no_other_back(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    partition = served.partition()
    failing = partition.batches.submit(incr, IncrRequest(KEY, 1), raise_unforeseen, shares_decree=False)
    failing.listener = raise_unforeseen
    other = partition.batches.submit(incr, IncrRequest(KEY, 1), _uncounted, shares_decree=False)
    async with asyncio.timeout(30):
        assert (await other).new_value == 2
        await partition.batches.drained()


async def test_the_writes_of_all_replicas_that_wait_are_bounded_in_bytes(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(write_queue, "MAX_BACKLOG_BYTES", 1_000_000)
    await served.table(partitions=2)
    first, second = served.partition(index=0), served.partition(index=1)
    row = UpdateRequest(KEY, bytes(100_000))
    async with first.batches.held():
        puts = [asyncio.ensure_future(served.call("put", row)) for _ in range(15)]
        many = [asyncio.ensure_future(served.call("multi_put", MultiPutRequest(b"h", [KeyValue(b"s", b"")])))]
        refused, _ = await asyncio.wait(puts, return_when=asyncio.FIRST_COMPLETED)
        for put in refused:
            with pytest.raises(RpcError, match="ERR_CAPACITY_EXCEEDED"):
                put.result()
        assert await served.error("put", UpdateRequest(KEY, b"v"), index=1) == ErrorCode.ERR_CAPACITY_EXCEEDED
    answers = await asyncio.gather(*puts, *many, return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) == 10
    assert (await served.call("put", UpdateRequest(KEY, b"v"), index=1)).error == 0
    assert first.context.backlog.size == second.context.backlog.size == 0

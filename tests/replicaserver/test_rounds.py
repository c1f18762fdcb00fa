"""Writes of one partition in rounds (specification §11.1): what a failing store and a closing replica do to them."""

from __future__ import annotations

import asyncio

import pytest

from replicaserver.storage.rocks import StoreError
from shared.pegasus.errors import ErrorCode, RpcError
from shared.pegasus.keys import encode_key
from shared.pegasus.structures.rrdb import IncrRequest, UpdateRequest
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
        raise Exception("Corruption: block checksum mismatch")

    with monkeypatch.context() as broken:
        broken.setattr(partition.store, "_get", fail)
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
        raise Exception("IO error")

    monkeypatch.setattr(partition.store, "_get", fail)
    with pytest.raises(StoreError, match="IO error"):
        await partition.rounds.own(lambda draft: draft.exchange(KEY, b"seen", None))
    await partition.rounds.drained()


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
        partition.rounds.own(lambda _draft: None)


async def test_too_many_waiting_writes_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    monkeypatch.setattr("replicaserver.node.rounds.MAX_WAITING", 0)
    assert await served.error("put", UpdateRequest(KEY, b"")) == ErrorCode.ERR_CAPACITY_EXCEEDED

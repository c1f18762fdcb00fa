"""The node's lease: it ends by itself, and nothing is answered after its end (protocol §13.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from replicaserver.partition.lease import Lease
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures import rrdb
from shared.pegasus.wire.structures.rrdb import UpdateRequest
from tests.replicaserver.conftest import Served

KEY = encode_key(b"hk", b"sk")
READS: list[tuple[str, Any]] = [
    ("get", KEY),
    ("ttl", KEY),
    ("multi_get", rrdb.MultiGetRequest(b"hk")),
    ("batch_get", rrdb.BatchGetRequest([rrdb.FullKey(b"hk", b"sk")])),
    ("sortkey_count", b"hk"),
    ("get_scanner", rrdb.GetScannerRequest(b"", b"")),
]
WRITES: list[tuple[str, Any]] = [
    ("put", UpdateRequest(KEY, b"2")),
    ("remove", KEY),
    ("incr", rrdb.IncrRequest(KEY, 1)),
    ("multi_put", rrdb.MultiPutRequest(b"hk", [rrdb.KeyValue(b"sk", b"2")])),
]


class Now:
    """A clock for leases that a test moves."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_a_lease_ends_by_itself_and_is_counted_from_when_the_beacon_was_sent():
    now = Now()
    lease = Lease(20, now)
    now.s += 19
    assert lease.is_held()
    assert lease.remaining_s() == 1
    lease.renew(110)
    now.s = 129.9
    assert lease.is_held()
    lease.renew(105)  # the answer to an older beacon, which comes late
    assert lease.is_held()
    now.s = 130
    assert not lease.is_held()
    with pytest.raises(RpcError, match="ERR_INVALID_STATE"):
        lease.require()


@pytest.fixture
def now(served: Served) -> Now:
    """The clock of the lease of a running server."""
    clock = Now()
    lease = served.server.node.context.lease
    clock.s = lease.now_s()
    lease.now_s = clock
    return clock


@pytest.mark.parametrize(("name", "value"), READS + WRITES)
async def test_nothing_is_served_from_the_moment_the_lease_ends(served: Served, now: Now, name: str, value: Any):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"1"))
    await served.call(name, value)
    now.s += 10_000
    assert await served.error(name, value) == ErrorCode.ERR_INVALID_STATE


async def test_requests_that_came_while_the_process_was_stopped_are_refused(served: Served, now: Now):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"1"))
    now.s += 10_000
    asked = [served.call("get", KEY) for _ in range(20)]
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, RpcError)
        assert answer.code == ErrorCode.ERR_INVALID_STATE


@pytest.mark.parametrize(("name", "value"), [read for read in READS if read[0] != "get_scanner"])
async def test_a_read_during_which_the_lease_ends_is_not_answered(
    served: Served, now: Now, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"1"))
    store = served.partition().store

    def ending(read: Callable[..., Any]) -> Callable[..., Any]:
        def end_and_read(*arguments: Any, **keywords: Any) -> Any:
            now.s += 10_000
            return read(*arguments, **keywords)

        return end_and_read

    for method in ("get", "get_many", "scan"):
        monkeypatch.setattr(store, method, ending(getattr(store, method)))
    assert await served.error(name, value) == ErrorCode.ERR_INVALID_STATE


@pytest.mark.parametrize(("name", "value"), WRITES)
async def test_a_write_during_which_the_lease_ends_is_not_acknowledged(
    served: Served, now: Now, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
):
    """It may have been carried out, so the answer is one after which no client sends it again by itself."""
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"1"))
    store = served.partition().store
    apply = store.apply

    def end_and_apply(*arguments: Any, **keywords: Any) -> None:
        now.s += 10_000
        apply(*arguments, **keywords)

    monkeypatch.setattr(store, "apply", end_and_apply)
    assert await served.error(name, value) == ErrorCode.ERR_TIMEOUT


async def test_a_write_is_not_acknowledged_under_a_later_lease(served: Served, monkeypatch: pytest.MonkeyPatch):
    await served.table()
    lease, store = served.server.node.context.lease, served.partition().store
    apply = store.apply

    def lose_and_apply(*arguments: Any, **keywords: Any) -> None:
        lease.losses += 1
        apply(*arguments, **keywords)

    monkeypatch.setattr(store, "apply", lose_and_apply)
    assert await served.error("put", UpdateRequest(KEY, b"1")) == ErrorCode.ERR_TIMEOUT


async def test_what_a_replica_notes_for_itself_needs_no_lease(served: Served, now: Now):
    await served.table()
    now.s += 10_000
    await served.partition().note("ballot", 7)
    assert served.partition().store.durable().ballot == 7

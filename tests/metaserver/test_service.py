"""How decisions become durable and visible."""

from __future__ import annotations

import asyncio
import dataclasses
import sys

import pytest
from structlog.testing import capture_logs

from metaserver.cluster import configurations, tables
from metaserver.cluster.metadata import Change, Metadata, Partition, Rejected, Table
from metaserver.cluster.tables import NewTable
from metaserver.storage import StoreError
from shared.pegasus.wire.structures.base import Gpid
from shared.pegasus.wire.structures.layer2 import AppStatus
from tests.metaserver.conftest import node


def rename(old, new):
    return lambda metadata: (tables.rename(metadata, old, new), new)


async def test_decisions_that_wait_together_share_a_transaction_and_see_each_other(served):
    commits = served.store._writer.commits
    names = await asyncio.gather(
        *(served.service.change(rename(f"t{n}" if n else "temp", f"t{n + 1}")) for n in range(50))
    )
    assert names == [f"t{n + 1}" for n in range(50)]
    assert served.service.metadata.named("t50").app_id == 2
    assert served.store._writer.commits - commits <= 2
    assert (await served.store.load()).tables[2].name == "t50"


async def test_one_refusal_or_bug_concerns_nobody_else(served):
    def bug(metadata: Metadata):
        raise ZeroDivisionError

    refused, broken, done = await asyncio.gather(
        served.service.change(rename("nosuch", "x")),
        served.service.change(bug),
        served.service.change(rename("temp", "renamed")),
        return_exceptions=True,
    )
    assert isinstance(refused, Rejected)
    assert isinstance(broken, ZeroDivisionError)
    assert done == "renamed"


async def test_nothing_is_visible_before_it_is_durable(served, monkeypatch):
    may_finish = asyncio.Event()
    commit = served.store.commit

    async def slow(change):
        await may_finish.wait()
        await commit(change)

    monkeypatch.setattr(served.store, "commit", slow)
    changing = asyncio.ensure_future(served.service.change(rename("temp", "renamed")))
    for _ in range(5):
        await asyncio.sleep(0)
    assert served.service.metadata.named("renamed") is None
    may_finish.set()
    assert await changing == "renamed"
    assert served.service.metadata.named("renamed") is not None


async def test_after_a_failed_transaction_the_next_one_is_tried(served, monkeypatch):
    async def full(change):
        raise StoreError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(served.store, "commit", full)
        with pytest.raises(Rejected, match="disk full"):
            await served.service.change(rename("temp", "renamed"))
    assert await served.service.change(rename("temp", "renamed")) == "renamed"


async def test_who_no_longer_waits_does_not_stop_the_others(served):
    gone = asyncio.ensure_future(served.service.change(rename("stat", "gone")))
    staying = asyncio.ensure_future(served.service.change(rename("temp", "renamed")))
    await asyncio.sleep(0)
    gone.cancel()
    assert await staying == "renamed"
    assert served.service.metadata.named("gone") is not None


def test_changes_one_after_the_other_are_one_change():
    metadata, separate = Metadata(), Metadata()
    created, _ = tables.create(metadata, NewTable("t", 2, 1), tables.Limits(False, 1, 1, 1), 0)
    draft = metadata.copy()
    draft.apply(created)
    renamed = tables.rename(_available(draft), "t", "u")
    for change in (created, renamed):
        separate.apply(change)
    metadata.apply(created.then(renamed))
    assert metadata == separate
    assert not Change().then(Change())


def _available(metadata):
    table = metadata.tables[1]
    metadata.tables[1] = dataclasses.replace(table, status=tables.AppStatus.AVAILABLE)
    return metadata


class TestWaitingForADroppedMember:
    @pytest.fixture
    def settings(self):
        return {"replica_assign_delay_ms_for_dropouts": "600000"}

    async def test_every_member_that_is_dropped_is_waited_for(self, served):
        service, table = served.service, 9
        for number in (2, 3):
            await served.beat(number)
        service.adds_secondaries = True
        held = Partition(5, node(1), (), (node(7),))
        service.metadata.apply(Change.of_table(Table(table, "replicated", AppStatus.AVAILABLE, 2, (held,))))

        async def proposed():
            await served.settle()
            proposals, served.proposals = served.proposals, []
            return [request.hp_node for _, request in proposals if request.config.pid.app_id == table]

        service.repair()
        assert await proposed() == []
        served.clock.advance(601)
        service.repair()
        (chosen,) = await proposed()
        added = held.with_secondary(chosen)
        await service.change(lambda _: (Change(partitions={Gpid(table, 0): added}), None))
        service.nodes.known[chosen].is_alive = False
        await service.change(lambda _: (Change(partitions={Gpid(table, 0): added.without(chosen)}), None))
        assert await proposed() == []
        served.clock.advance(601)
        service.repair()
        assert len(await proposed()) == 1


async def test_partitions_that_are_well_cost_little_to_look_at(served):
    count = 10_000
    held = tuple(Partition(1, node(1)) for _ in range(count))
    served.service.metadata.apply(Change.of_table(Table(9, "large", AppStatus.AVAILABLE, 1, held)))
    calls = 0

    def on_event(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        served.service.repair()
        configurations.remove_dead(served.service.metadata, [node(7)])
        configurations.lost_secondaries(served.service.metadata, [node(7)])
    finally:
        sys.setprofile(None)
    assert calls < 10 * count


async def test_a_table_of_many_partitions_gets_its_primaries_in_portions(served):
    await served.service.change(
        lambda metadata: tables.create(metadata, NewTable("many", 1000, 1), served.service.limits(), 0)
    )
    await served.accept()
    assert served.service.metadata.named("many").status == AppStatus.AVAILABLE


async def test_what_happens_to_tables_is_logged(served):
    with capture_logs() as logs:
        await served.service.change(rename("temp", "renamed"))
        await served.service.drop_table("renamed", 60, success_if_not_exist=False)
        created = NewTable("shop", 2, 1)
        limits = tables.Limits(False, 1, 1, 5)
        await served.service.change(lambda metadata: tables.create(metadata, created, limits, 0))
    shown = [
        {name: value for name, value in entry.items() if name != "log_level"}
        for entry in logs
        if entry["event"].startswith("table ")
    ]
    assert shown == [
        {"event": "table renamed", "table": "renamed", "app_id": 2, "before": "temp"},
        {"event": "table changed", "table": "renamed", "app_id": 2, "status": "dropped", "before": "available"},
        {"event": "table created", "table": "shop", "app_id": 3, "partitions": 2, "replicas": 1},
    ]

"""How primaries are spread evenly (protocol §13.4)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaserver.cluster import balance
from metaserver.cluster.balance import Move
from metaserver.cluster.metadata import Load, Metadata, Partition, Table
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadStatus
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType, MetaFunctionLevel
from tests.metaserver.conftest import node

A, B, C = (HostPort(name, 1) for name in "abc")


def known(*tables: str, status=AppStatus.AVAILABLE) -> Metadata:
    """Tables by the primaries of their partitions, one letter each."""
    listed = [
        Table(n, f"t{n}", status, 1, tuple(Partition(1, HostPort(letter, 1)) for letter in primaries))
        for n, primaries in enumerate(tables, 1)
    ]
    return Metadata({table.app_id: table for table in listed}, len(listed))


def plan(metadata, *alive, written=(), **options):
    return balance.plan(metadata, alive, lambda gpid, _: gpid not in written, **options)


def counts(metadata, moves) -> list[Counter[HostPort]]:
    """Primaries of each server, by table, after the moves."""
    held = {gpid: partition.primary for table in metadata.tables.values() for gpid, partition in table}
    for move in moves:
        assert held[move.gpid] == move.giver
        held[move.gpid] = move.taker
    return [Counter(held[gpid] for gpid, _ in table) for table in metadata.tables.values()]


def test_a_server_that_joins_gets_its_share_of_every_table():
    metadata = known("aaaa", "aaaaaaaa")
    moves = plan(metadata, A, B, C)
    assert all(move.is_free for move in moves)
    stat, temp = counts(metadata, moves)
    assert sorted(stat.values()) == [1, 1, 2]
    assert sorted(temp.values()) == [2, 3, 3]
    assert set((stat + temp).values()) == {4}


def test_what_is_even_stays():
    assert plan(known("ab", "aab"), A, B) == []
    assert plan(known("aaaa"), A) == []
    assert plan(known("aaaa")) == []


def test_empty_partitions_go_first_and_the_others_are_only_planned():
    metadata = known("aaaa")
    assert plan(metadata, A, B, written=[Gpid(1, 0), Gpid(1, 1), Gpid(1, 3)]) == [
        Move(Gpid(1, 2), A, B, True),
        Move(Gpid(1, 0), A, B, False),
    ]


def test_many_small_tables_are_spread_over_the_cluster():
    metadata = known(*"aaaaaa")
    assert sum(map(Counter.total, counts(metadata, plan(metadata, A, B)))) == 6
    assert sum(counts(metadata, plan(metadata, A, B)), Counter()) == {A: 3, B: 3}
    rows = [Gpid(n, 0) for n in range(1, 7)]
    assert plan(metadata, A, B, written=rows) == []
    assert len(plan(metadata, A, B, written=rows, spreads_cluster=True)) == 3


def test_what_is_not_well_is_cured_first():
    metadata = known("aaab")
    assert plan(metadata, A, C) == []  # b is dead
    assert plan(known("aaaa", status=AppStatus.CREATING), A, B) == []
    waiting = Metadata({1: Table(1, "t", AppStatus.AVAILABLE, 1, (Partition(1, A), Partition(1, NO_NODE)))}, 1)
    assert plan(waiting, A, B) == []
    loading = known("aaaa")
    loading.loads[1] = Load(1, "c", "p", "r", False, BulkLoadStatus.DOWNLOADING)
    assert plan(loading, A, B) == []


@given(
    st.lists(st.text("abc", min_size=1, max_size=12), max_size=6),
    st.sets(st.tuples(st.integers(1, 6), st.integers(0, 11))),
)
def test_a_plan_ends_and_leaves_every_table_even(tables, written):
    metadata = known(*tables)
    moves = plan(metadata, A, B, C, written={Gpid(*pair) for pair in written}, spreads_cluster=True)
    for table in counts(metadata, moves):
        held = [table[server] for server in (A, B, C)]
        assert max(held) - min(held) <= 1
    assert len({move.gpid for move in moves}) == len(moves)  # none moves twice


async def test_partitions_that_were_never_written_are_spread_when_a_server_joins(cluster):
    await cluster.beat(1)
    await cluster.accept()
    await cluster.beat(2)
    await cluster.accept()
    held = Counter(p.primary for table in cluster.service.metadata.available() for p in table.partitions)
    assert held == {node(1): 6, node(2): 6}
    assert {p.last_drops for table in cluster.service.metadata.available() for p in table.partitions} == {()}
    _, body = await cluster.get("/metrics?types=partition&metrics=greedy_copy_primary_operations")
    assert body.count(b'"value": 1\n') == 6


async def test_only_so_many_move_at_a_time(cluster):
    cluster.flags.update("balance_op_count_per_round", "2")
    await cluster.beat(1)
    await cluster.accept()
    await cluster.beat(2)
    await cluster.settle()
    assert [request.type for _, request in cluster.proposals] == [ConfigType.REMOVE] * 2


async def test_a_server_that_keeps_its_partition_is_not_asked_again_for_a_while(cluster):
    await cluster.beat(1)
    await cluster.accept()
    await cluster.beat(2)
    await cluster.settle()
    asked = {request.config.pid for _, request in cluster.proposals}
    assert len(asked) == 6
    cluster.proposals.clear()
    for _ in range(2):
        cluster.clock.advance(11)
        await cluster.beat(1, 2)
        await cluster.service.tick()
        await cluster.settle()
    assert asked.isdisjoint(request.config.pid for _, request in cluster.proposals)
    cluster.proposals.clear()
    for _ in range(60):
        cluster.clock.advance(11)
        await cluster.beat(1, 2)
        await cluster.service.tick()
    await cluster.settle()
    assert asked & {request.config.pid for _, request in cluster.proposals}


@pytest.mark.parametrize("level", ["blind", "freezed"])
async def test_nothing_moves_below_steady(cluster, level):
    await cluster.beat(1)
    await cluster.accept()
    cluster.service.level = MetaFunctionLevel[level.upper()]
    await cluster.beat(2)
    await cluster.settle()
    assert cluster.proposals == []

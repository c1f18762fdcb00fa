"""Which replica servers are alive, and how partitions are (protocol §1, §5.1)."""

from __future__ import annotations

import pytest

from metaserver.cluster import health
from metaserver.cluster.health import Health, Load
from metaserver.cluster.metadata import Partition, Table
from metaserver.cluster.nodes import Nodes
from shared.pegasus.wire.structures.base import NO_NODE, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.metadata import ReplicaInfo

A, B, C = HostPort("a", 1), HostPort("b", 1), HostPort("c", 1)


def table(*partitions, replicas=3):
    return Table(1, "t", AppStatus.AVAILABLE, replicas, partitions)


def test_a_server_is_alive_until_the_grace_period_has_passed():
    nodes = Nodes()
    assert nodes.beacon(A, A, 1, now=0.0)
    assert not nodes.beacon(A, A, 1, now=10.0)
    assert nodes.expire(31.9, grace_s=22) == []
    assert nodes.expire(32.0, grace_s=22) == [A]
    assert nodes.expire(33.0, grace_s=22) == []
    assert (nodes.alive(), list(nodes.known), nodes.disconnections) == ([], [A], 1)
    assert nodes.beacon(A, A, 1, now=40.0)
    assert nodes.alive() == [A]


def test_a_restarted_server_has_to_report_again():
    nodes = Nodes()
    nodes.beacon(A, A, 1, now=0.0)
    nodes.report(A, [ReplicaInfo()])
    assert not nodes.beacon(A, A, 1, now=3.0)
    assert nodes.known[A].stored is not None
    assert nodes.beacon(A, A, 2, now=6.0)
    assert nodes.known[A].stored is None


def test_servers_that_hold_partitions_are_expected_back():
    nodes = Nodes()
    nodes.expect([A, B], now=100.0)
    assert nodes.alive() == [A, B]
    nodes.beacon(A, A, 1, now=110.0)
    assert nodes.expire(122.0, grace_s=22) == [B]


@pytest.mark.parametrize(
    ("alive", "dead", "min_live", "is_frozen"),
    [(0, 0, 1, True), (1, 0, 1, False), (2, 0, 3, True), (2, 1, 1, False), (1, 1, 1, True), (13, 7, 3, False)],
)
def test_the_cluster_freezes_while_too_many_servers_are_missing(alive, dead, min_live, is_frozen):
    nodes = Nodes()
    for number in range(alive + dead):
        nodes.beacon(HostPort(f"n{number}", 1), A, 1, 0.0)
    for number in range(dead):
        nodes.known[HostPort(f"n{number}", 1)].is_alive = False
    assert nodes.is_frozen(min_live, 65) == is_frozen


def test_partitions_are_counted_by_health():
    partitions = [
        Partition(1, A, (B, C)),
        Partition(1, A, (B,)),
        Partition(1, A),
        Partition(1, NO_NODE, (B,)),
        Partition(),
    ]
    assert health.health(table(*partitions)) == Health(1, 4, 3, 2)
    gauges = [health.gauge(table(), partition, required=2) for partition in partitions]
    assert gauges == [
        "healthy_partitions",
        "writable_ill_partitions",
        "unwritable_partitions",
        "unreadable_partitions",
        "dead_partitions",
    ]


def test_a_sole_replica_that_is_wanted_alone_is_healthy():
    assert health.health(table(Partition(1, A), replicas=1)) == Health(1, 0, 0, 0)


@pytest.mark.parametrize(("configured", "required"), [(0, 1), (1, 1), (2, 2)])
def test_how_many_members_a_write_needs(configured, required):
    assert health.required_members(configured) == required


def test_loads_are_counted_by_role():
    listed = [table(Partition(1, A, (B,)), Partition(1, A), Partition(1, NO_NODE, (A,)))]
    assert health.loads(listed) == {A: Load(2, 1), B: Load(0, 1)}


@pytest.mark.parametrize(
    ("counts", "is_sample", "shown"),
    [([], False, 0.0), ([5], False, 0.0), ([2, 4], False, 1.0), ([2, 4], True, 1.41), ([1, 2, 3], False, 0.82)],
)
def test_the_spread_of_loads(counts, is_sample, shown):
    assert health.deviation(counts, is_sample=is_sample) == shown

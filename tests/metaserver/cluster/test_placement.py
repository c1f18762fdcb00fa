"""Who shall hold a partition that lacks members (protocol §13.4)."""

from __future__ import annotations

from collections import Counter

from metaserver.cluster import placement
from metaserver.cluster.metadata import Metadata, Partition, Table
from metaserver.cluster.nodes import Nodes
from metaserver.cluster.placement import Action
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType
from shared.pegasus.wire.structures.metadata import ReplicaInfo

A, B, C, D = (HostPort(name, 1) for name in "abcd")
P0 = Gpid(1, 0)


def known(*tables):
    listed = [Table(n, f"t{n}", AppStatus.AVAILABLE, 3, tuple(p)) for n, p in enumerate(tables, 1)]
    return Metadata({table.app_id: table for table in listed}, len(listed))


def nodes(*alive, dead=(), stored=None):
    known = Nodes()
    for name in (*alive, *dead):
        known.beacon(name, name, 1, 0.0)
    for name in dead:
        known.known[name].is_alive = False
    for name, infos in (stored or {}).items():
        known.report(name, infos)
    return known


def repair(metadata, alive, pending=(), *, adds_secondaries=True, may_add=True):
    return placement.repair(
        metadata, alive, pending, adds_secondaries=adds_secondaries, may_add=lambda gpid, partition: may_add
    )


def info(ballot=1, committed=5, prepared=5):
    return ReplicaInfo(P0, ballot, 1, committed, prepared, 0)


def only_action(metadata, alive, **options):
    (action,), _ = repair(metadata, alive, **options)
    return action


def test_new_partitions_are_spread_evenly():
    actions, _ = repair(known([Partition()] * 8, [Partition()] * 4), nodes(A, B, C))
    assert {action.type for action in actions} == {ConfigType.ASSIGN_PRIMARY}
    assert Counter(action.target for action in actions) == {A: 4, B: 4, C: 4}
    assert sorted(Counter(a.target for a in actions if a.gpid.app_id == 1).values()) == [2, 3, 3]


def test_nothing_is_asked_twice_or_without_a_server():
    metadata = known([Partition(), Partition()])
    actions, _ = repair(metadata, nodes(A), pending={Gpid(1, 0)})
    assert [action.gpid for action in actions] == [Gpid(1, 1)]
    assert repair(metadata, nodes(dead=[A])) == ([], [])


def test_the_living_secondary_with_fewest_primaries_is_promoted():
    metadata = known([Partition(4, NO_NODE, (A, B, C), (D,)), Partition(1, B, (A, C))])
    promoted = [a for a in repair(metadata, nodes(B, C, dead=[A]))[0] if a.gpid == P0]
    assert promoted == [Action(P0, ConfigType.UPGRADE_TO_PRIMARY, C, C)]


def test_dead_secondaries_are_waited_for_until_they_are_buried():
    actions, diagnoses = repair(known([Partition(4, NO_NODE, (A,))]), nodes(B, dead=[A]))
    assert (actions, diagnoses) == ([], [])


def test_a_sole_member_is_waited_for_and_must_still_have_the_replica():
    metadata = known([Partition(4, NO_NODE, (), (A,), last_committed_decree=5)])
    _, (diagnosis,) = repair(metadata, nodes(B, dead=[A]))
    assert diagnosis.reason == "waiting for a:1, the last member"
    assert repair(metadata, nodes(A, B))[0] == []  # it has not reported yet
    assert only_action(metadata, nodes(A, B, stored={A: [info()]})) == Action(P0, ConfigType.ASSIGN_PRIMARY, A, A)
    actions, (diagnosis,) = repair(metadata, nodes(A, B, stored={A: []}))
    assert (actions, diagnosis.reason) == ([], "a:1 came back without the replica")


def test_of_two_last_members_the_one_with_the_longer_history_becomes_primary():
    metadata = known([Partition(4, NO_NODE, (), (C, A, B), last_committed_decree=5)])
    assert repair(metadata, nodes(C, A, dead=[B], stored={A: [info()]}))[0] == []
    both = {A: [info(ballot=4, committed=6, prepared=7)], B: [info(ballot=4, committed=5, prepared=7)]}
    assert only_action(metadata, nodes(A, B, stored=both)).target == A
    newer = {A: [info(ballot=3, committed=5)], B: [info(ballot=4, committed=5)]}
    assert only_action(metadata, nodes(A, B, stored=newer)).target == B
    one_left = {A: [info(ballot=3, committed=5)], B: []}
    assert only_action(metadata, nodes(A, B, stored=one_left)).target == A


def test_contradicting_histories_wait_for_an_operator():
    metadata = known([Partition(4, NO_NODE, (), (A, B), last_committed_decree=5)])
    contradicting = {A: [info(ballot=4, committed=5, prepared=6)], B: [info(ballot=3, committed=9, prepared=9)]}
    actions, (diagnosis,) = repair(metadata, nodes(A, B, stored=contradicting))
    assert (actions, diagnosis.reason) == ([], "b:1 has committed more than a:1 has prepared")
    lost = {A: [info(committed=3, prepared=4)], B: [info(committed=2, prepared=3)]}
    actions, (diagnosis,) = repair(metadata, nodes(A, B, stored=lost))
    assert (actions, diagnosis.reason) == ([], "decree 5 was committed, and no member that came back has it")


def test_a_missing_secondary_goes_to_the_least_loaded_server():
    metadata = known([Partition(1, A)], [Partition(1, B)] * 2)
    actions = repair(metadata, nodes(A, B, C))[0]
    assert actions[0] == Action(P0, ConfigType.ADD_SECONDARY, A, C)


def test_a_dropped_member_that_returns_is_preferred():
    metadata = known([Partition(4, A, (), (D, B))])
    assert only_action(metadata, nodes(A, B, C, D)).node == B
    assert only_action(metadata, nodes(A, C, D)).node == D


def test_a_dropped_member_is_waited_for_a_while():
    metadata = known([Partition(4, A, (B,), (D,))])
    assert repair(metadata, nodes(A, B, C, dead=[D]), may_add=False)[0] == []
    assert only_action(metadata, nodes(A, B, C, dead=[D])).node == C


def test_a_surplus_secondary_leaves_the_most_loaded_server():
    metadata = known([Partition(4, A, (B, C, D))], [Partition(1, C)])
    surplus = [a for a in repair(metadata, nodes(A, B, C, D))[0] if a.gpid == P0]
    assert surplus == [Action(P0, ConfigType.DOWNGRADE_TO_INACTIVE, A, C)]


def test_without_replication_a_primary_stays_alone():
    assert repair(known([Partition(1, A)]), nodes(A, B, C), adds_secondaries=False) == ([], [])


def test_a_dead_primary_is_not_asked():
    assert repair(known([Partition(1, A)]), nodes(B, C, dead=[A]))[0] == []

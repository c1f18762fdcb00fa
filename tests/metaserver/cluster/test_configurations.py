"""How the members of a partition change (protocol §13.2, §13.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaserver.cluster import configurations
from metaserver.cluster.configurations import Proposed
from metaserver.cluster.metadata import Load, Metadata, Partition, Rejected, Table
from shared.pegasus.wire.structures.base import NO_NODE, Gpid, HostPort
from shared.pegasus.wire.structures.bulk_load import BulkLoadStatus
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType
from shared.pegasus.wire.structures.metadata import ReplicaInfo

A, B, C = HostPort("a", 1), HostPort("b", 1), HostPort("c", 1)
P0 = Gpid(2, 0)


def known(*partitions, status=AppStatus.AVAILABLE, **members):
    return Metadata({2: Table(2, "temp", status, 3, partitions, **members)}, 2)


def decided(metadata, type, node, ballot, decree=0):
    metadata.apply(configurations.decide(metadata, Proposed(P0, type, node, ballot, decree)))
    return metadata.tables[2].partitions[0]


def refusal(metadata, type, node, ballot, gpid=P0):
    with pytest.raises(Rejected) as refused:
        configurations.decide(metadata, Proposed(gpid, type, node, ballot, 0))
    return refused.value.code


def test_a_new_partition_of_three_on_three_nodes_shows_ballot_3():
    metadata = known(Partition())
    decided(metadata, ConfigType.ASSIGN_PRIMARY, A, 1)
    decided(metadata, ConfigType.UPGRADE_TO_SECONDARY, B, 2)
    assert decided(metadata, ConfigType.UPGRADE_TO_SECONDARY, C, 3) == Partition(3, A, (B, C))


@pytest.mark.parametrize("ballot", [0, 3, 5, 9])
def test_only_the_next_ballot_counts(ballot):
    metadata = known(Partition(3, A, (B,)))
    assert refusal(metadata, ConfigType.REMOVE, B, ballot) == "ERR_INVALID_VERSION"
    assert metadata.tables[2].partitions[0] == Partition(3, A, (B,))


@pytest.mark.parametrize(
    ("before", "type", "node", "after"),
    [
        (Partition(5, A, (B, C)), ConfigType.REMOVE, B, Partition(6, A, (C,), (B,))),
        (Partition(5, A, (B, C)), ConfigType.DOWNGRADE_TO_INACTIVE, A, Partition(6, NO_NODE, (B, C), (A,))),
        (Partition(5, A, (B,)), ConfigType.DOWNGRADE_TO_SECONDARY, A, Partition(6, NO_NODE, (B, A))),
        (Partition(5, NO_NODE, (B, C)), ConfigType.UPGRADE_TO_PRIMARY, C, Partition(6, C, (B,))),
        (Partition(5, A), ConfigType.PRIMARY_FORCE_UPDATE_BALLOT, A, Partition(6, A)),
        (Partition(5, A, (), (B,)), ConfigType.UPGRADE_TO_SECONDARY, B, Partition(6, A, (B,), ())),
        (Partition(5, NO_NODE, (), (B, A)), ConfigType.ASSIGN_PRIMARY, A, Partition(6, A, (), (B,))),
    ],
)
def test_every_kind_of_change(before, type, node, after):
    assert decided(known(before), type, node, 6) == after


@pytest.mark.parametrize(
    ("before", "type", "node"),
    [
        (Partition(5, A), ConfigType.ASSIGN_PRIMARY, B),
        (Partition(5, NO_NODE, (C,)), ConfigType.ASSIGN_PRIMARY, B),
        (Partition(5, NO_NODE, (), (A,)), ConfigType.ASSIGN_PRIMARY, B),
        (Partition(5), ConfigType.ASSIGN_PRIMARY, NO_NODE),
        (Partition(5, A, (B,)), ConfigType.UPGRADE_TO_PRIMARY, B),
        (Partition(5, NO_NODE, (B,)), ConfigType.UPGRADE_TO_PRIMARY, C),
        (Partition(5, A, (B,)), ConfigType.UPGRADE_TO_SECONDARY, B),
        (Partition(5, NO_NODE, (B,)), ConfigType.UPGRADE_TO_SECONDARY, C),
        (Partition(5, A), ConfigType.PRIMARY_FORCE_UPDATE_BALLOT, B),
        (Partition(5, A), ConfigType.DOWNGRADE_TO_SECONDARY, B),
        (Partition(5, A), ConfigType.REMOVE, B),
        (Partition(5, A), ConfigType.DROP_PARTITION, A),
        (Partition(5, A), ConfigType.INVALID, A),
    ],
)
def test_a_change_that_does_not_fit_the_members_is_refused(before, type, node):
    assert refusal(known(before), type, node, 6) == "ERR_INVALID_PARAMETERS"


def test_a_change_of_a_table_that_is_gone_is_refused():
    assert refusal(known(Partition()), ConfigType.ASSIGN_PRIMARY, A, 1, Gpid(3, 0)) == "ERR_APP_NOT_EXIST"
    assert refusal(known(Partition()), ConfigType.ASSIGN_PRIMARY, A, 1, Gpid(2, 1)) == "ERR_APP_NOT_EXIST"
    dropped = known(Partition(), status=AppStatus.DROPPED)
    assert refusal(dropped, ConfigType.ASSIGN_PRIMARY, A, 1) == "ERR_APP_DROPPED"


@pytest.mark.parametrize("status", [AppStatus.CREATING, AppStatus.RECALLING])
def test_a_table_is_in_service_once_every_partition_has_a_primary(status):
    metadata = known(Partition(), Partition(1, B), status=status)
    assert metadata.tables[2].status == status
    decided(metadata, ConfigType.ASSIGN_PRIMARY, A, 1)
    assert metadata.tables[2].status == AppStatus.AVAILABLE


def test_a_table_with_a_partition_left_stays_in_creation():
    metadata = known(Partition(), Partition(), status=AppStatus.CREATING)
    decided(metadata, ConfigType.ASSIGN_PRIMARY, A, 1)
    assert metadata.tables[2].status == AppStatus.CREATING


def test_the_committed_decree_never_goes_back():
    metadata = known(Partition())
    assert decided(metadata, ConfigType.ASSIGN_PRIMARY, A, 1, decree=7).last_committed_decree == 7
    assert decided(metadata, ConfigType.PRIMARY_FORCE_UPDATE_BALLOT, A, 2, decree=3).last_committed_decree == 7


def test_a_dead_primary_is_taken_out_and_a_dead_secondary_left_to_its_primary():
    metadata = known(Partition(3, A, (B,)), Partition(3, B, (A,)), Partition(3, A), Partition(3, C))
    metadata.apply(configurations.remove_dead(metadata, [A]))
    assert metadata.tables[2].partitions == (
        Partition(4, NO_NODE, (B,), (A,)),
        Partition(3, B, (A,)),
        Partition(4, NO_NODE, (), (A,)),
        Partition(3, C),
    )
    assert configurations.lost_secondaries(metadata, [A]) == [(Gpid(2, 1), A)]
    assert not configurations.remove_dead(metadata, [A])


def test_when_all_members_die_the_primary_is_the_first_to_be_remembered():
    metadata = known(Partition(3, A, (B,)))
    metadata.apply(configurations.remove_dead(metadata, [A, B]))
    assert metadata.tables[2].partitions == (Partition(5, NO_NODE, (), (A, B)),)


def test_members_that_die_together_are_remembered_in_the_order_of_the_configuration():
    secondaries = tuple(HostPort(f"s{number}", 1) for number in range(7))
    metadata = known(Partition(3, A, secondaries))
    metadata.apply(configurations.remove_dead(metadata, [*reversed(secondaries), A]))
    assert metadata.tables[2].partitions[0].last_drops == (A, *secondaries)


def test_a_server_is_told_what_it_is_a_member_of():
    metadata = known(Partition(3, A, (B,)), Partition(3, B), Partition(1, C))
    assert configurations.assigned(metadata, B) == [Gpid(2, 0), Gpid(2, 1)]
    dropped = known(Partition(3, A), status=AppStatus.DROPPED)
    assert configurations.assigned(dropped, A) == []


def test_replicas_of_tables_past_recall_are_garbage():
    dropped = known(Partition(), status=AppStatus.DROPPED, expire_second=100)
    stored = [ReplicaInfo(Gpid(2, 0)), ReplicaInfo(Gpid(1, 0)), ReplicaInfo(Gpid(99, 0))]
    assert [info.pid for info in configurations.garbage(dropped, A, stored, 99)] == [Gpid(1, 0)]
    assert [info.pid for info in configurations.garbage(dropped, A, stored, 100)] == [Gpid(2, 0), Gpid(1, 0)]
    assert configurations.garbage(known(Partition()), A, stored[:1], 100) == []


def test_who_was_never_written_to_leaves_nothing_behind():
    metadata = known(Partition(3, A))
    assert decided(metadata, ConfigType.REMOVE, A, 4) == Partition(4)
    assert decided(metadata, ConfigType.ASSIGN_PRIMARY, B, 5) == Partition(5, B)


@pytest.mark.parametrize(
    ("before", "type", "decree"),
    [
        (Partition(3, A), ConfigType.REMOVE, 1),  # it says that it was written
        (Partition(3, A, last_committed_decree=1), ConfigType.REMOVE, 0),  # it is known that it was
        (Partition(3, A), ConfigType.DOWNGRADE_TO_INACTIVE, 0),  # it has lost what it had, perhaps
        (Partition(3, A, (), (B,)), ConfigType.REMOVE, 0),  # another one may know more
    ],
)
def test_whoever_may_have_rows_is_remembered(before, type, decree):
    assert decided(known(before), type, A, 4, decree).last_drops[-1] == A


def test_a_partition_that_is_being_loaded_is_not_left():
    metadata = known(Partition(3, A))
    metadata.loads[2] = Load(2, "c", "p", "r", False, BulkLoadStatus.DOWNLOADING)
    assert refusal(metadata, ConfigType.REMOVE, A, 4) == "ERR_INVALID_STATE"


def test_a_replica_that_was_left_without_a_write_is_garbage_once_another_server_has_the_partition():
    left = ReplicaInfo(P0, ballot=3)
    assert configurations.garbage(known(Partition(5, B)), A, [left], 0) == [left]
    written = ReplicaInfo(P0, 3, last_committed_decree=1, last_prepared_decree=1)
    assert configurations.garbage(known(Partition(5, B)), A, [written], 0) == []
    for member in (Partition(4, A), Partition(4, NO_NODE, (A,)), Partition(4, NO_NODE, (), (A,)), Partition(3)):
        assert configurations.garbage(known(member), A, [left], 0) == []


def test_a_replica_that_is_being_made_for_a_partition_that_nobody_has_is_no_garbage():
    assert configurations.garbage(known(Partition(4)), A, [ReplicaInfo(P0, ballot=0)], 0) == []


proposals = st.lists(
    st.tuples(st.sampled_from(list(ConfigType)), st.sampled_from([A, B, C, NO_NODE]), st.integers(-1, 1)), max_size=40
)


@given(proposals)
def test_whatever_is_proposed_the_members_stay_sound(steps):
    metadata = known(Partition())
    held: set[HostPort] = set()
    for type, node, offset in steps:
        before = metadata.tables[2].partitions[0]
        proposed = Proposed(P0, type, node, before.ballot + 1 + offset, 0)
        try:
            metadata.apply(configurations.decide(metadata, proposed))
        except Rejected:
            assert metadata.tables[2].partitions[0] == before
            continue
        after = metadata.tables[2].partitions[0]
        assert after.ballot == before.ballot + 1
        members = after.members()
        assert len(set(members)) == len(members)
        assert NO_NODE not in members
        assert not set(members) & set(after.last_drops)
        if after.primary and after.primary != before.primary:
            assert after.primary in before.secondaries or not held or after.primary in held
        held |= set(members)
        if not members and not after.last_drops:  # it was left without a write: whoever comes next begins it
            held.clear()

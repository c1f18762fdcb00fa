"""The replica core decides who is primary and what is committed (protocol §11.1, §13.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicaserver.replication.replica import (
    Assign,
    Configuration,
    Effect,
    Forgotten,
    Granted,
    LeaseHeld,
    LeaseLost,
    LogFailed,
    LogRecovered,
    Observed,
    Propose,
    Replica,
    SaveBallot,
    Unanswered,
)
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.metadata import PartitionStatus

ME, OTHER = HostPort("127.0.0.1", 34801), HostPort("127.0.0.1", 34802)
NEW = Configuration(ballot=0, max_replica_count=3)
MINE = Configuration(ballot=1, primary=ME, max_replica_count=3)


@pytest.fixture
def replica() -> Replica:
    return Replica(ME, 0, 0, min_members=0, window=20)


@pytest.fixture
def primary(replica: Replica) -> Replica:
    replica.step(Assign(NEW))
    replica.step(Granted(MINE))
    return replica


def test_a_replica_begins_inactive_and_serves_nobody(replica: Replica):
    assert replica.status is PartitionStatus.INACTIVE
    assert replica.reading_error() == ErrorCode.ERR_INVALID_STATE
    assert replica.give_decree() == ErrorCode.ERR_INVALID_STATE


def test_an_assigned_replica_asks_for_the_next_ballot_before_it_serves(replica: Replica):
    assert replica.step(Assign(NEW)) == [Propose(MINE, is_restart=False)]
    assert not replica.is_primary
    assert replica.step(Granted(MINE)) == [SaveBallot(1)]
    assert replica.is_primary
    assert replica.reading_error() is None


def test_one_proposal_is_under_way_at_a_time(replica: Replica):
    replica.step(Assign(NEW))
    assert replica.step(Assign(NEW)) == []
    replica.step(Unanswered())
    assert replica.step(Assign(NEW)) != []


def test_a_refused_proposal_leaves_it_to_who_is_in_force(replica: Replica):
    replica.step(Assign(NEW))
    assert replica.step(Observed(Configuration(1, OTHER))) == [SaveBallot(1)]
    assert not replica.is_primary


def test_after_a_restart_only_a_new_ballot_makes_it_the_primary_again():
    replica = Replica(ME, 5, 77, min_members=0, window=20)
    in_force = Configuration(ballot=5, primary=ME, last_committed_decree=70)
    assert replica.step(Observed(in_force)) == [
        Propose(Configuration(ballot=6, primary=ME, last_committed_decree=77), is_restart=True)
    ]
    assert not replica.is_primary
    replica.step(Granted(Configuration(ballot=6, primary=ME)))
    assert replica.give_decree() == 78


def test_an_older_configuration_is_not_believed(primary: Replica):
    assert primary.step(Observed(Configuration(0, OTHER))) == []
    assert primary.step(Granted(Configuration(0, OTHER))) == []
    assert primary.is_primary


def test_a_newer_configuration_ends_a_primary(primary: Replica):
    assert primary.step(Observed(Configuration(2, OTHER))) == [SaveBallot(2)]
    assert primary.writing_error() == ErrorCode.ERR_INVALID_STATE


def test_a_replica_that_lacks_acknowledged_writes_does_not_become_primary(replica: Replica):
    assert replica.step(Assign(replace(NEW, ballot=4, last_committed_decree=9))) == []


def test_a_replica_does_not_take_a_partition_that_has_another_primary(replica: Replica):
    assert replica.step(Assign(Configuration(3, OTHER))) == []


def test_a_primary_is_not_assigned_again(primary: Replica):
    assert primary.step(Assign(MINE)) == []


def test_a_primary_that_was_taken_out_learns_it_from_the_next_proposal(primary: Replica):
    effects = primary.step(Assign(Configuration(ballot=2, max_replica_count=3)))
    assert effects == [Propose(Configuration(ballot=3, primary=ME, max_replica_count=3), is_restart=False)]
    assert primary.reading_error() == ErrorCode.ERR_INVALID_STATE
    primary.step(Granted(effects[0].configuration))
    assert primary.reading_error() is None


def test_a_replica_that_is_no_member_any_more_serves_nobody(primary: Replica):
    primary.step(Forgotten())
    assert primary.reading_error() == ErrorCode.ERR_INVALID_STATE
    assert primary.ballot == 1


def test_without_its_lease_a_primary_serves_nobody(primary: Replica):
    primary.step(LeaseLost())
    assert primary.reading_error() == primary.writing_error() == ErrorCode.ERR_INVALID_STATE
    primary.step(LeaseHeld())
    assert primary.reading_error() is None


def test_writes_get_consecutive_decrees_and_commit_in_order(primary: Replica):
    assert [primary.give_decree() for _ in range(3)] == [1, 2, 3]
    assert primary.last_committed == 0
    assert primary.logged(2)
    assert primary.last_committed == 2
    assert not primary.logged(1)
    assert primary.logged(3)
    assert (primary.last_prepared, primary.last_committed) == (3, 3)


def test_too_many_uncommitted_writes_are_rejected(primary: Replica):
    for _ in range(20):
        assert primary.has_room
        primary.give_decree()
    assert not primary.has_room
    assert primary.give_decree() == ErrorCode.ERR_CAPACITY_EXCEEDED
    primary.logged(1)
    assert primary.give_decree() == 21


def test_fewer_members_than_required_take_no_writes():
    replica = Replica(ME, 0, 0, min_members=2, window=20)
    replica.step(Granted(MINE))
    assert replica.reading_error() is None
    assert replica.give_decree() == ErrorCode.ERR_NOT_ENOUGH_MEMBER


def test_members_that_nobody_can_ask_take_no_writes(replica: Replica):
    replica.step(Granted(Configuration(1, ME, (OTHER,), 3)))
    assert replica.give_decree() == ErrorCode.ERR_NOT_ENOUGH_MEMBER


def test_a_sole_replica_whose_disk_failed_is_read_and_not_written_until_it_has_recovered(primary: Replica):
    primary.give_decree()
    primary.step(LogFailed())
    assert primary.last_prepared == primary.last_committed == 0
    assert primary.reading_error() is None
    assert primary.give_decree() == ErrorCode.ERR_DISK_IO_ERROR
    primary.step(LogRecovered())
    assert primary.give_decree() == 1


def test_a_replica_among_others_whose_disk_failed_never_serves_again(primary: Replica):
    primary.step(Granted(Configuration(primary.ballot + 1, ME, (OTHER,))))
    primary.step(LogFailed())
    assert primary.status is PartitionStatus.ERROR
    for message in (Assign(NEW), Observed(Configuration(9, ME)), Granted(Configuration(9, ME)), Forgotten()):
        assert primary.step(message) == []
    assert primary.status is PartitionStatus.ERROR


configurations = st.builds(
    Configuration,
    ballot=st.integers(0, 6),
    primary=st.sampled_from([None, ME, OTHER]),
    secondaries=st.sampled_from([(), (OTHER,)]),
    last_committed_decree=st.integers(0, 3),
)
events = st.one_of(
    st.builds(Assign, configurations),
    st.builds(Granted, configurations),
    st.builds(Observed, configurations),
    st.sampled_from(["write", Forgotten(), Unanswered(), LeaseLost(), LeaseHeld()]),
    st.integers(0, 30),  # this decree is logged
)


@given(st.lists(events, max_size=60))
def test_whatever_happens_ballots_and_decrees_never_go_back(happened):
    replica = Replica(ME, 0, 0, min_members=0, window=5)
    ballot = committed = prepared = 0
    for event in happened:
        effects: list[Effect] = []
        given_decree: object = None
        if event == "write":
            given_decree = replica.give_decree()
        elif isinstance(event, int):
            replica.logged(event)
        else:
            effects = replica.step(event)
        assert replica.ballot >= ballot
        assert prepared <= replica.last_prepared <= prepared + 1
        assert committed <= replica.last_committed <= replica.last_prepared <= replica.last_committed + 5
        assert (given_decree == replica.last_prepared) is (replica.last_prepared > prepared)
        ballot, committed, prepared = replica.ballot, replica.last_committed, replica.last_prepared
        if replica.status is PartitionStatus.PRIMARY:
            assert replica.configuration.primary == ME
        for effect in effects:
            if isinstance(effect, Propose):
                assert effect.configuration.ballot > ballot
                assert effect.configuration.primary == ME

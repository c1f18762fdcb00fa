"""What an operator may do with tables (protocol §12.3, §12.4, §15)."""

from __future__ import annotations

import dataclasses

import pytest

from metaserver.cluster import tables
from metaserver.cluster.metadata import Change, Metadata, Partition, Rejected, Table
from metaserver.cluster.tables import Limits, NewTable
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus

A, B = HostPort("a", 1), HostPort("b", 1)
LIMITS = Limits(is_frozen=False, alive_nodes=3, min_replica_count=1, max_replica_count=5)
HELD = Partition(3, A, (B,))


def table(status=AppStatus.AVAILABLE, name="temp", app_id=2, **members):
    return Table(app_id, name, status, 2, (HELD, HELD), **members)


def known(*listed):
    return Metadata({table.app_id: table for table in listed}, max((t.app_id for t in listed), default=0))


def refusal(function, *arguments, **named):
    with pytest.raises(Rejected) as refused:
        function(*arguments, **named)
    return refused.value.code


def applied(metadata, change):
    metadata.apply(change)
    return metadata


def limits(freeze_threshold, alive, lowest, highest=5):
    return Limits(alive < freeze_threshold, alive, lowest, highest)


@pytest.mark.parametrize(
    ("partitions", "replicas", "threshold", "alive", "lowest", "error"),
    [
        (-1, 3, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (0, 3, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (4, -1, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (4, 0, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (4, 6, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (4, 7, 2, 6, 1, "ERR_INVALID_PARAMETERS"),
        (4, 6, 2, 5, 1, "ERR_INVALID_PARAMETERS"),
        (4, 5, 2, 4, 1, "ERR_INVALID_PARAMETERS"),
        (4, 4, 2, 3, 1, "ERR_INVALID_PARAMETERS"),
        (4, 6, 2, 6, 1, "ERR_INVALID_PARAMETERS"),
        (4, 6, 2, 7, 1, "ERR_INVALID_PARAMETERS"),
        (4, 3, 2, 5, 4, "ERR_INVALID_PARAMETERS"),
        (4, 1, 1, 0, 1, "ERR_STATE_FREEZED"),
        (4, 2, 2, 1, 1, "ERR_STATE_FREEZED"),
        (4, 3, 3, 2, 1, "ERR_STATE_FREEZED"),
    ],
)
def test_the_published_refusals_of_a_new_table(partitions, replicas, threshold, alive, lowest, error):
    wanted = NewTable("t", partitions, replicas)
    assert refusal(tables.create, Metadata(), wanted, limits(threshold, alive, lowest), 0) == error


@pytest.mark.parametrize(("replicas", "alive"), [(5, 5), (5, 6), (4, 4), (3, 4)])
def test_the_published_new_tables(replicas, alive):
    change, app_id = tables.create(Metadata(), NewTable("t", 4, replicas), limits(2, alive, 1), 77)
    created = applied(Metadata(), change).tables[app_id]
    assert (created.status, created.partition_count, created.create_second) == (AppStatus.CREATING, 4, 77)
    assert created.partitions == (Partition(),) * 4


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (AppStatus.AVAILABLE, "ERR_APP_EXIST"),
        (AppStatus.CREATING, "ERR_BUSY_CREATING"),
        (AppStatus.RECALLING, "ERR_BUSY_CREATING"),
        (AppStatus.DROPPING, "ERR_BUSY_DROPPING"),
    ],
)
def test_a_name_in_use_is_refused_by_its_tables_state(status, error):
    assert refusal(tables.create, known(table(status)), NewTable("temp", 2, 2), LIMITS, 0) == error


def test_a_dropped_tables_name_is_free_and_its_id_is_not():
    _, app_id = tables.create(known(table(AppStatus.DROPPED)), NewTable("temp", 2, 2), LIMITS, 0)
    assert app_id == 3


def test_an_existing_table_is_welcome_if_it_is_the_same_one():
    wanted = NewTable("temp", 2, 2, success_if_exist=True)
    assert tables.create(known(table()), wanted, LIMITS, 0) == (Change(), 2)
    for other in ({"partition_count": 4}, {"replica_count": 1}, {"envs": {"default_ttl": "1"}}, {"app_type": "other"}):
        different = dataclasses.replace(wanted, **other)
        assert refusal(tables.create, known(table()), different, LIMITS, 0) == "ERR_INVALID_PARAMETERS"


@pytest.mark.parametrize("name", ["", "a b", "täble", "a/b", "a\n", ".", ".."])
def test_names_have_letters_digits_and_four_signs(name):
    assert refusal(tables.create, Metadata(), NewTable(name, 4, 1), LIMITS, 0) == "ERR_INVALID_PARAMETERS"
    tables.create(Metadata(), NewTable("aZ0_.:", 4, 1), LIMITS, 0)


@pytest.mark.parametrize(
    ("env", "value", "is_allowed"),
    [
        ("rocksdb.num_levels", "0", False),
        ("rocksdb.num_levels", "11", False),
        ("rocksdb.num_levels", "5i", False),
        ("rocksdb.num_levels", "5", True),
        ("rocksdb.write_buffer_size", "1000", False),
        ("rocksdb.write_buffer_size", "1073741824", False),
        ("rocksdb.write_buffer_size", "n33554432", False),
        ("rocksdb.write_buffer_size", "33554432", True),
    ],
)
def test_a_new_tables_variables_are_checked(env, value, is_allowed):
    wanted = NewTable("t", 4, 1, {env: value})
    if is_allowed:
        change, app_id = tables.create(Metadata(), wanted, LIMITS, 0)
        assert change.tables[app_id].envs == {env: value}
    else:
        assert refusal(tables.create, Metadata(), wanted, LIMITS, 0) == "ERR_INVALID_PARAMETERS"


def test_a_dropped_table_has_no_members_and_remembers_them():
    metadata = known(table())
    metadata.apply(tables.drop(metadata, "temp", 60, 1000))
    dropped = metadata.tables[2]
    assert (dropped.status, dropped.drop_second, dropped.expire_second) == (AppStatus.DROPPED, 1000, 1060)
    assert dropped.partitions[0] == Partition(5, last_drops=(B, A))
    assert metadata.named("temp") is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (AppStatus.CREATING, "ERR_BUSY_CREATING"),
        (AppStatus.RECALLING, "ERR_BUSY_CREATING"),
        (AppStatus.DROPPING, "ERR_BUSY_DROPPING"),
        (AppStatus.DROPPED, "ERR_APP_NOT_EXIST"),
    ],
)
def test_only_a_table_in_service_can_be_dropped(status, error):
    assert refusal(tables.drop, known(table(status)), "temp", 60, 0) == error


def test_dropping_nothing_may_be_a_success():
    assert refusal(tables.drop, Metadata(), "temp", 60, 0) == "ERR_APP_NOT_EXIST"
    assert not tables.drop(Metadata(), "temp", 60, 0, success_if_not_exist=True)


def dropped_table(**members):
    return table(AppStatus.DROPPED, drop_second=1000, expire_second=1060, **members)


def test_a_dropped_table_comes_back_under_its_name_or_a_new_one():
    for new_name, name in (("", "temp"), ("temp2", "temp2")):
        metadata = known(dropped_table())
        change, recalled = tables.recall(metadata, 2, new_name, 1059)
        metadata.apply(change)
        assert (recalled.name, recalled.status, recalled.expire_second) == (name, AppStatus.RECALLING, 0)
        assert metadata.named(name).app_id == 2


@pytest.mark.parametrize(
    ("existing", "app_id", "new_name", "now", "error"),
    [
        ([], 2, "", 0, "ERR_APP_NOT_EXIST"),
        ([dropped_table()], 2, "", 1060, "ERR_APP_NOT_EXIST"),
        ([table()], 2, "", 0, "ERR_APP_EXIST"),
        ([table(AppStatus.CREATING)], 2, "", 0, "ERR_BUSY_CREATING"),
        ([table(AppStatus.RECALLING)], 2, "", 0, "ERR_BUSY_CREATING"),
        ([table(AppStatus.DROPPING)], 2, "", 0, "ERR_BUSY_DROPPING"),
        ([dropped_table(), table(app_id=3)], 2, "", 0, "ERR_INVALID_PARAMETERS"),
        ([dropped_table(), table(app_id=3)], 2, "bad name", 0, "ERR_INVALID_PARAMETERS"),
    ],
)
def test_what_cannot_be_recalled(existing, app_id, new_name, now, error):
    assert refusal(tables.recall, known(*existing), app_id, new_name, now) == error


def test_a_table_is_renamed_if_the_name_is_free_and_right():
    metadata = known(table(), table(name="stat", app_id=1))
    assert refusal(tables.rename, metadata, "nosuch", "x") == "ERR_APP_NOT_EXIST"
    assert refusal(tables.rename, metadata, "temp", "stat") == "ERR_INVALID_PARAMETERS"
    assert refusal(tables.rename, metadata, "temp", "a b") == "ERR_INVALID_PARAMETERS"
    metadata.apply(tables.rename(metadata, "temp", "temp2"))
    assert metadata.named("temp2").partitions == (HELD, HELD)


def test_an_expired_table_is_forgotten_and_its_id_never_given_again():
    metadata = known(dropped_table())
    assert not tables.expired(metadata, 1059)
    metadata.apply(tables.expired(metadata, 1060))
    assert metadata.tables == {}
    assert tables.create(metadata, NewTable("t", 1, 1), LIMITS, 0)[1] == 3


def test_variables_are_set_all_or_none():
    metadata = known(table())
    metadata.apply(tables.set_envs(metadata, "temp", ["default_ttl", "business.info"], ["10", "shop"]))
    for wrong in (["default_ttl", "nosuch"], ["default_ttl"], []):
        assert refusal(tables.set_envs, metadata, "temp", wrong, ["20", "x"]) == "ERR_INVALID_PARAMETERS"
    assert metadata.tables[2].envs == {"default_ttl": "10", "business.info": "shop"}


def test_whether_files_are_ingested_behind_is_decided_when_a_table_is_created():
    behind = "rocksdb.allow_ingest_behind"
    plain, ready = known(table()), known(table(envs={behind: "true"}))
    assert refusal(tables.set_envs, plain, "temp", [behind], ["true"]) == "ERR_INVALID_PARAMETERS"
    assert refusal(tables.set_envs, ready, "temp", [behind], ["false"]) == "ERR_INVALID_PARAMETERS"
    assert refusal(tables.delete_envs, ready, "temp", [behind]) == "ERR_INVALID_PARAMETERS"
    tables.set_envs(plain, "temp", [behind], ["false"])
    tables.set_envs(ready, "temp", [behind], ["true"])


@pytest.mark.parametrize("name", ["allowed_users", "ranger_policies"])
def test_who_may_use_a_table_cannot_be_set_because_nobody_would_be_refused(name):
    keys, values = [f"replica_access_controller.{name}"], ["ada"]
    with pytest.raises(Rejected, match="nobody would be refused"):
        tables.set_envs(known(table()), "temp", keys, values)


def test_variables_are_deleted_by_name_and_cleared_by_prefix():
    envs = {"rocksdb.usage_scenario": "normal", "rocksdb": "x", "rocksdb2.a": "y", "default_ttl": "1"}
    metadata = known(table(envs=envs))
    change, hint = tables.delete_envs(metadata, "temp", ["default_ttl", "nosuch"])
    assert hint == "deleted keys:\n    default_ttl"
    metadata.apply(change)
    change, hint = tables.clear_envs(metadata, "temp", "rocksdb")
    assert hint == "deleted keys:\n    rocksdb.usage_scenario"
    metadata.apply(change)
    assert tables.clear_envs(metadata, "temp", "nosuch") == (Change(), "no key needs to be deleted")
    metadata.apply(tables.clear_envs(metadata, "temp", "")[0])
    assert metadata.tables[2].envs == {}
    assert refusal(tables.clear_envs, metadata, "temp", None) == "ERR_INVALID_PARAMETERS"
    assert refusal(tables.delete_envs, metadata, "temp", []) == "ERR_INVALID_PARAMETERS"


def test_variables_of_a_table_that_is_not_there():
    with pytest.raises(Rejected) as refused:
        tables.set_envs(Metadata(), "temp", ["default_ttl"], ["1"])
    assert (refused.value.code, refused.value.hint) == ("ERR_APP_NOT_EXIST", "app cannot be found")
    with pytest.raises(Rejected) as refused:
        tables.set_envs(known(table(AppStatus.DROPPING)), "temp", ["default_ttl"], ["1"])
    assert (refused.value.code, refused.value.hint) == ("ERR_BUSY_DROPPING", "app is being dropped")
    assert tables.set_envs(known(table(AppStatus.CREATING)), "temp", ["default_ttl"], ["1"])


def test_the_replica_count_of_a_table_can_be_changed_within_limits():
    metadata = known(table())
    assert refusal(tables.set_max_replica_count, metadata, "temp", 4, LIMITS) == "ERR_INVALID_PARAMETERS"
    frozen = dataclasses.replace(LIMITS, is_frozen=True)
    assert refusal(tables.set_max_replica_count, metadata, "temp", 3, frozen) == "ERR_STATE_FREEZED"
    assert refusal(tables.set_max_replica_count, metadata, "nosuch", 3, LIMITS) == "ERR_APP_NOT_EXIST"
    creating = known(table(AppStatus.CREATING))
    assert refusal(tables.set_max_replica_count, creating, "temp", 3, LIMITS) == "ERR_INCONSISTENT_STATE"
    metadata.apply(tables.set_max_replica_count(metadata, "temp", 3, LIMITS))
    assert metadata.tables[2].max_replica_count == 3


@pytest.mark.parametrize(
    ("status", "pattern", "match_type", "names"),
    [
        (AppStatus.INVALID, None, None, ["stat", "temp", "template"]),
        (AppStatus.AVAILABLE, None, None, ["stat", "temp"]),
        (AppStatus.DROPPED, None, None, ["template"]),
        (AppStatus.INVALID, "temp", 1, ["stat", "temp", "template"]),
        (AppStatus.INVALID, "temp", 2, ["temp"]),
        (AppStatus.INVALID, "em", 3, ["temp", "template"]),
        (AppStatus.INVALID, "te", 4, ["temp", "template"]),
        (AppStatus.INVALID, "at", 5, ["stat"]),
    ],
)
def test_tables_are_listed_by_status_and_name(status, pattern, match_type, names):
    metadata = known(table(app_id=2), table(name="stat", app_id=1), table(AppStatus.DROPPED, "template", 3))
    assert [listed.name for listed in tables.matching(metadata, status, pattern, match_type)] == names


def test_regular_expressions_are_not_implemented():
    assert refusal(tables.matching, Metadata(), 0, "t.*", 6) == "ERR_NOT_IMPLEMENTED"
    assert refusal(tables.matching, Metadata(), 0, "t.*", 7) == "ERR_INVALID_PARAMETERS"


def test_partitions_are_named_by_index():
    assert [gpid for gpid, _ in tables.partitions_of(table(), [])] == [Gpid(2, 0), Gpid(2, 1)]
    assert [gpid for gpid, _ in tables.partitions_of(table(), [1, 9, -1])] == [Gpid(2, 1)]

"""Which step the partitions of a loading table take next (§5.8)."""

from __future__ import annotations

import dataclasses

import pytest

from metaserver.bulk_load import plan
from metaserver.bulk_load.plan import PartitionProgress
from metaserver.cluster.metadata import Change, Load, Metadata, Partition, Rejected, Table
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadControlType,
    BulkLoadStatus,
)
from shared.pegasus.wire.structures.layer2 import AppStatus

S = BulkLoadStatus
LOAD = Load(2, "onebox", "local_service", "root", False, S.DOWNLOADING)
HERE = PartitionProgress(S.DOWNLOADING, 100)
DOWNLOADED = PartitionProgress(S.DOWNLOADED, 100)
INGESTED = PartitionProgress(S.INGESTING, 100, is_ingested=True)
CLEAN = PartitionProgress(S.SUCCEED, 100, is_ingested=True, is_cleaned_up=True)


def at(status, **members):
    return dataclasses.replace(LOAD, status=status, **members)


def after(load, *seen, most=10):
    return plan.advance(load, dict(enumerate(seen)), 2, most)


@pytest.mark.parametrize(
    ("status", "seen", "next_status"),
    [
        (S.DOWNLOADING, (HERE, HERE), S.DOWNLOADED),
        (S.DOWNLOADED, (DOWNLOADED, DOWNLOADED), S.INGESTING),
        (S.INGESTING, (INGESTED, INGESTED), S.SUCCEED),
        (S.PAUSING, (PartitionProgress(is_paused=True), PartitionProgress(is_paused=True)), S.PAUSED),
    ],
)
def test_a_table_takes_a_step_when_all_its_partitions_have(status, seen, next_status):
    assert after(at(status), *seen) == at(next_status)
    assert after(at(status), seen[0]) == at(status)  # one has not answered
    assert after(at(status), seen[0], PartitionProgress(S.DOWNLOADING, 50)) == at(status)


@pytest.mark.parametrize("status", [S.SUCCEED, S.FAILED, S.CANCELED])
def test_a_load_ends_when_all_its_partitions_have_cleaned_up(status):
    assert after(at(status), CLEAN, DOWNLOADED).is_running
    assert after(at(status), CLEAN, CLEAN) == at(status, is_running=False)


@pytest.mark.parametrize("status", [S.DOWNLOADING, S.DOWNLOADED, S.INGESTING])
def test_an_error_goes_back_to_downloading_a_limited_number_of_times(status):
    broken = PartitionProgress(S.DOWNLOADING, 3, "ERR_CORRUPTION")
    first = after(at(status), HERE, broken, most=2)
    assert first == at(S.DOWNLOADING, rollbacks=1, failure="ERR_CORRUPTION")
    second = after(first, broken, most=2)
    assert (second.status, second.rollbacks) == (S.DOWNLOADING, 2)
    assert after(second, broken, most=2) == dataclasses.replace(second, status=S.FAILED)


def test_a_partition_that_failed_is_made_to_give_up_before_it_begins_again():
    assert plan.command(LOAD, PartitionProgress(S.DOWNLOADING, 3, "ERR_CORRUPTION"), may_ingest=True) == S.FAILED
    assert plan.command(LOAD, PartitionProgress(), may_ingest=True) == S.DOWNLOADING


def test_a_server_ingests_only_so_many_partitions_at_a_time():
    ingesting = at(S.INGESTING)
    assert plan.command(ingesting, DOWNLOADED, may_ingest=True) == S.INGESTING
    assert plan.command(ingesting, DOWNLOADED, may_ingest=False) == S.DOWNLOADED
    assert plan.command(ingesting, INGESTED, may_ingest=False) == S.INGESTING


def test_a_cancel_that_comes_too_late_says_what_would_end_the_load():
    metadata = Metadata()
    metadata.apply(Change.of_table(Table(2, "temp", AppStatus.AVAILABLE, 1, (Partition(),))))
    metadata.apply(Change(loads={2: at(S.INGESTING)}))
    with pytest.raises(Rejected, match=r"ERR_INVALID_STATE: app\(temp\) is ingesting; only a forced cancel .*--force"):
        plan.control(metadata, "temp", BulkLoadControlType.CANCEL)
    with pytest.raises(Rejected, match=r"ERR_INVALID_STATE: .* is ingesting$"):
        plan.control(metadata, "temp", BulkLoadControlType.PAUSE)

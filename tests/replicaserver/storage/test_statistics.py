"""RocksDB's counters as the metrics of a replica (protocol appendix A)."""

from __future__ import annotations

from replicaserver.storage.rocks import RocksStore
from replicaserver.storage.statistics import Reading, Statistics, read
from replicaserver.table.compaction import DEEPEST, Order
from shared.pegasus.metrics.entities import Entity, Registry

TICKERS = """rocksdb.block.cache.miss COUNT : 16
rocksdb.block.cache.hit COUNT : 984
rocksdb.bloom.filter.useful COUNT : 7
rocksdb.db.flush.micros P50 : 1.500000 P95 : 2.000000 P99 : 2.000000 P100 : 2.000000 COUNT : 3 SUM : 5
rocksdb.compaction.times.micros P50 : 0.000000 P95 : 0.000000 P99 : 0.000000 P100 : 0.000000 COUNT : 2 SUM : 9
"""
FAMILY = """
** Compaction Stats [default] **
Level    Files   Size     Score Read(GB)  Rn(GB) Rnp1(GB) Write(GB) Wnew(GB) Moved(GB) W-Amp Rd(MB/s)
-----------------------------------------------------------------------------------------------------
  L0      1/0   841.01 KB   0.2      0.0     0.0      0.0       0.0      0.0       0.0   1.0      0.0
 Sum      1/0   841.01 KB   0.0      0.0     0.0      0.0       0.0      0.0       0.0   2.5      0.0
 Int      0/0    0.00 KB   0.0      0.0     0.0      0.0       0.0      0.0       0.0   1.0      0.0
Write Stall (count): l0-file-count-limit-delays: 0, total-delays: 4, total-stops: 1
"""


def replica() -> Entity:
    return Registry("replica").replica(2, 0)


def test_what_rocksdb_says_is_understood():
    reading = read(TICKERS, FAMILY)
    assert reading.counts == {
        "block.cache.miss": 16,
        "block.cache.hit": 984,
        "bloom.filter.useful": 7,
        "db.flush.micros": 3,
        "compaction.times.micros": 2,
        "total-delays": 4,
        "total-stops": 1,
    }
    assert reading.write_amplification == 2.5


def test_texts_that_are_not_as_expected_count_nothing():
    assert read("", "") == Reading({}, 0.0)
    assert read("rocksdb.block.cache.hit", "Sum 1/0 0.00 KB") == Reading({}, 0.0)


def test_gauges_show_the_last_reading():
    metrics = replica()
    Statistics().show(read(TICKERS, FAMILY), metrics)
    assert metrics.gauge("rdb_block_cache_hit_count").value == 984
    assert metrics.gauge("rdb_block_cache_total_count").value == 1000
    assert metrics.gauge("rdb_bloom_filter_point_lookup_negatives").value == 7
    assert metrics.gauge("rdb_write_amplification").value == 2.5


def test_counters_go_on_when_a_store_is_opened_again():
    metrics = replica()
    first = Statistics()
    first.show(Reading({"db.flush.micros": 3}, 1.0), metrics)
    first.show(Reading({"db.flush.micros": 5}, 1.0), metrics)
    Statistics().show(Reading({"db.flush.micros": 1}, 1.0), metrics)
    assert metrics.counter("rdb_flush_completed_count").value == 6


def test_a_real_store_counts_what_it_does(store: RocksStore):
    metrics, statistics = replica(), Statistics()
    for _ in range(2):
        store.write({b"%06d" % number: b"x" * 100 for number in range(1000)}, {})
        store.flush()
    for number in range(100):
        store.get(b"%06d" % number)
        store.get(b"%06d.absent" % number)
    statistics.show(store.statistics(), metrics)
    assert metrics.counter("rdb_flush_completed_count").value >= 2
    assert metrics.counter("rdb_flush_output_bytes").value > 1000
    assert metrics.gauge("rdb_l0_hit_count").value == 100
    assert metrics.gauge("rdb_block_cache_total_count").value >= 100
    assert metrics.gauge("rdb_bloom_filter_point_lookup_negatives").value > 100
    store.compact(Order(DEEPEST, is_forced=True))
    statistics.show(store.statistics(), metrics)
    assert metrics.counter("rdb_compaction_completed_count").value >= 1
    assert metrics.counter("rdb_compaction_input_bytes").value > 1000
    assert metrics.counter("rdb_compaction_output_bytes").value > 1000
    assert metrics.gauge("rdb_write_amplification").value > 1

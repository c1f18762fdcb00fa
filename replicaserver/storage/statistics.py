"""What RocksDB counts of a store, as the metrics of a replica.

RocksDB gives its counters out as one text, from which the few that have a metric are taken. They begin at zero when a
store is opened; a metric that only grows adds what came since it was last read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.pegasus.metrics.entities import Entity

_GAUGES: Mapping[str, tuple[str, ...]] = {
    "rdb_block_cache_hit_count": ("block.cache.hit",),
    "rdb_block_cache_total_count": ("block.cache.hit", "block.cache.miss"),
    "rdb_bloom_filter_point_lookup_negatives": ("bloom.filter.useful",),
    "rdb_bloom_filter_point_lookup_positives": ("bloom.filter.full.positive",),
    "rdb_bloom_filter_point_lookup_true_positives": ("bloom.filter.full.true.positive",),
    "rdb_bloom_filter_seek_negatives": ("bloom.filter.prefix.useful",),
    "rdb_bloom_filter_seek_total": ("bloom.filter.prefix.checked",),
    "rdb_memtable_hit_count": ("memtable.hit",),
    "rdb_memtable_total_count": ("memtable.hit", "memtable.miss"),
    "rdb_l0_hit_count": ("l0.hit",),
    "rdb_l1_hit_count": ("l1.hit",),
    "rdb_l2_and_up_hit_count": ("l2andup.hit",),
}
_COUNTERS: Mapping[str, str] = {
    "rdb_compaction_input_bytes": "compact.read.bytes",
    "rdb_compaction_output_bytes": "compact.write.bytes",
    "rdb_compaction_completed_count": "compaction.times.micros",
    "rdb_flush_output_bytes": "flush.write.bytes",
    "rdb_flush_completed_count": "db.flush.micros",
    "rdb_changed_delayed_writes": "total-delays",
    "rdb_changed_stopped_writes": "total-stops",
}
_NAMES = {*(name for names in _GAUGES.values() for name in names), *_COUNTERS.values()}
_TICKER = re.compile(
    rf"^rocksdb\.({'|'.join(re.escape(name) for name in sorted(_NAMES))}) (?:P50 .* )?COUNT : ([0-9]+)", re.MULTILINE
)
_STALLS = re.compile(r"\b(total-delays|total-stops): ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a store has counted since it was opened.

    Attributes:
        counts: By RocksDB's names, without ``rocksdb.``.
        write_amplification: Bytes written to files for each byte that came in.
    """

    counts: Mapping[str, int]
    write_amplification: float


def read(statistics: str, family: str) -> Reading:
    """Understand RocksDB's texts.

    Args:
        statistics: Its property ``options-statistics``.
        family: Its property ``cfstats`` of the rows.
    """
    counts = {name: int(count) for name, count in (*_TICKER.findall(statistics), *_STALLS.findall(family))}
    return Reading(counts, _write_amplification(family))


def _write_amplification(family: str) -> float:
    """The column W-Amp of the row Sum; 0 where there is none."""
    columns: list[str] = []
    for line in family.splitlines():
        words = line.split()
        if words[:1] == ["Level"] and "W-Amp" in words:
            columns = words
        elif words[:1] == ["Sum"] and columns:
            return float(words[columns.index("W-Amp") + 1])  # a size is two words: a number and its unit
    return 0.0


@dataclass(slots=True)
class Statistics:
    """The metrics of one open store that RocksDB counts."""

    _before: Mapping[str, int] = field(default_factory=dict)

    def show(self, reading: Reading, metrics: Entity) -> None:
        """Bring the metrics up to date."""
        counts, before = reading.counts, self._before
        for metric, names in _GAUGES.items():
            metrics.gauge(metric).value = sum(counts.get(name, 0) for name in names)
        for metric, name in _COUNTERS.items():
            metrics.counter(metric).value += counts.get(name, 0) - before.get(name, 0)
        metrics.gauge("rdb_write_amplification").value = reading.write_amplification
        self._before = counts

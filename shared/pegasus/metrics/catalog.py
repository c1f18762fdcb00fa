"""The names, kinds and units of every metric, by entity (protocol appendix A).

Role letters: ``m`` metaserver, ``r`` replica server, ``b`` both. An entity is created with all metrics
of its type and role; one that this engine cannot feed stays at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["Counter", "Gauge", "Percentile"]
Role = Literal["meta", "replica"]


@dataclass(frozen=True, slots=True)
class Prototype:
    """What is known of a metric before it has a value.

    Attributes:
        kind: ``Counter``, ``Gauge`` or ``Percentile``.
        name: Its name, unique within an entity type.
        unit: The unit, spelled as the original does.
        desc: What it measures; collectors show it as help text.
    """

    kind: Kind
    name: str
    unit: str
    desc: str


_SINGLE = ("get", "put", "remove", "incr", "scan")
_OPERATIONS = {*_SINGLE, "multi_get", "multi_put", "multi_remove", "batch_get", "check_and_set", "check_and_mutate"}
_SUFFIXES = ((" bytes", "The size in bytes of"), (" mb", "The size in MB of"), (" count", "The number of"))

_CATALOG = """
server b Counter Beacons: beacon_failed_count
server b Counter Tasks: background_task_failed_count
server r Counter Bytes: nfs_client_copy_bytes nfs_client_write_bytes nfs_server_copy_bytes tcmalloc_released_bytes
server r Counter Dirs: replica_removed_dirs
server m Counter Disconnections: replica_server_disconnections
server r Counter Replicas: moved_error_replicas moved_garbage_replicas
server r Counter Requests: nfs_client_copy_failed_requests nfs_server_copy_failed_requests read_busy_requests
  read_failed_requests write_busy_requests write_failed_requests
server r Counter Writes: nfs_client_failed_writes
server r Gauge BulkLoads: bulk_load_running_count
server r Gauge Bytes: learning_replicas_max_copy_file_bytes rdb_block_cache_mem_usage_bytes
  rdb_wbm_mutable_mem_usage_bytes rdb_wbm_total_mem_usage_bytes splitting_replicas_max_copy_file_bytes
server r Gauge BytesPerSec: rdb_write_rate_limiter_through_bytes_per_sec
server r Gauge Dirs: replica_error_dirs replica_garbage_dirs replica_origin_dirs replica_tmp_dirs
server b Gauge Keys: dns_resolver_cache_size
server b Gauge MegaBytes: resident_mem_usage_mb virtual_mem_usage_mb
server r Gauge MilliSeconds: bulk_load_ingestion_max_duration_ms bulk_load_max_duration_ms
  learning_replicas_max_duration_ms splitting_replicas_async_learn_max_duration_ms splitting_replicas_max_duration_ms
server r Gauge Replicas: closing_replicas error_replicas inactive_replicas learning_replicas opening_replicas
  primary_replicas secondary_replicas splitting_replicas total_replicas
server m Gauge Servers: alive_replica_servers unalive_replica_servers
server b Gauge Sessions: network_server_sessions
server b Percentile NanoSeconds: dns_resolver_resolve_by_dns_duration_ns dns_resolver_resolve_duration_ns

table m Gauge Partitions: dead_partitions healthy_partitions unreadable_partitions unwritable_partitions
  writable_ill_partitions

partition m Counter Changes: partition_configuration_changes unwritable_partition_changes writable_partition_changes
partition m Counter Operations: choose_primary_failed_operations greedy_copy_primary_operations
  greedy_copy_secondary_operations greedy_move_primary_operations
partition m Gauge Operations: greedy_recent_balance_operations

backup_policy m Gauge MilliSeconds: backup_recent_duration_ms

replica r Counter Backups: backup_cancelled_count backup_failed_count backup_started_count backup_successful_count
replica r Counter BulkLoads: bulk_load_downloading_count bulk_load_failed_count bulk_load_ingesting_count
  bulk_load_successful_count
replica r Counter Bytes: backup_file_upload_total_bytes backup_request_bytes batch_get_bytes
  bulk_load_download_file_bytes check_and_mutate_bytes check_and_set_bytes dup_log_file_load_skipped_bytes
  dup_log_read_bytes dup_shipped_bytes get_bytes learn_copy_buffer_bytes learn_copy_file_bytes multi_get_bytes
  multi_put_bytes put_bytes rdb_compaction_input_bytes rdb_compaction_output_bytes rdb_flush_output_bytes scan_bytes
  splitting_copy_file_bytes
replica r Counter CapacityUnits: read_capacity_units write_capacity_units
replica r Counter Checkpoints: emergency_checkpoints
replica r Counter Compactions: rdb_compaction_completed_count
replica r Counter FileLoads: dup_log_file_load_failed_count
replica r Counter FileUploads: backup_file_upload_failed_count backup_file_upload_successful_count
replica r Counter Files: bulk_load_download_file_failed_count bulk_load_download_file_successful_count
  learn_copy_files splitting_copy_file_count
replica r Counter Flushes: rdb_flush_completed_count
replica r Counter Learns: learn_count learn_failed_count learn_successful_count
replica r Counter Mutations: dup_confirmed_mutations dup_log_read_mutations splitting_copy_mutation_count
replica r Counter PartitionSplittings: splitting_failed_count splitting_started_count splitting_successful_count
replica r Counter Requests: abnormal_read_requests backup_requests batch_get_requests
  bulk_load_ingestion_rejected_write_requests check_and_mutate_requests check_and_set_requests committed_requests
  corrupt_writes dup_lagging_writes dup_rejected_non_idempotent_write_requests dup_requests
  dup_shipped_failed_requests dup_shipped_successful_requests get_requests group_check_failed_requests incr_requests
  multi_get_requests multi_put_requests multi_remove_requests prepare_failed_requests put_requests remove_requests
  scan_requests splitting_rejected_read_requests splitting_rejected_write_requests
  throttling_delayed_backup_requests throttling_delayed_read_requests throttling_delayed_write_requests
  throttling_rejected_backup_requests throttling_rejected_read_requests throttling_rejected_write_requests
  write_size_exceed_threshold_requests
replica r Counter Resets: learn_resets
replica r Counter Responses: learn_lt_app_responses learn_lt_cache_responses learn_lt_log_responses
replica r Counter Rounds: learn_rounds
replica r Counter Values: read_expired_values read_filtered_values
replica r Counter Writes: rdb_changed_delayed_writes rdb_changed_stopped_writes
replica r Gauge Amplification: rdb_read_amplification rdb_write_amplification
replica r Gauge Backups: backup_running_count
replica r Gauge Bytes: backup_file_upload_max_bytes rdb_index_and_filter_blocks_mem_usage_bytes
  rdb_memtable_mem_usage_bytes
replica r Gauge Files: rdb_total_sst_files
replica r Gauge Keys: rdb_estimated_keys
replica r Gauge MegaBytes: private_log_size_mb rdb_total_sst_size_mb
replica r Gauge MilliSeconds: backup_max_duration_ms
replica r Gauge Mutations: dup_pending_mutations dup_recent_lost_mutations
replica r Gauge PointLookups: rdb_block_cache_hit_count rdb_block_cache_total_count
  rdb_bloom_filter_point_lookup_negatives rdb_bloom_filter_point_lookup_positives
  rdb_bloom_filter_point_lookup_true_positives rdb_l0_hit_count rdb_l1_hit_count rdb_l2_and_up_hit_count
  rdb_memtable_hit_count rdb_memtable_total_count
replica r Gauge Seeks: rdb_bloom_filter_seek_negatives rdb_bloom_filter_seek_total
replica r Gauge Tasks: rdb_manual_compact_queued_tasks rdb_manual_compact_running_tasks
replica r Percentile MilliSeconds: dup_time_lag_ms
replica r Percentile NanoSeconds: batch_get_latency_ns check_and_mutate_latency_ns check_and_set_latency_ns
  get_latency_ns incr_latency_ns make_check_and_mutate_idempotent_latency_ns
  make_check_and_set_idempotent_latency_ns make_incr_idempotent_latency_ns multi_get_latency_ns multi_put_latency_ns
  multi_remove_latency_ns put_latency_ns remove_latency_ns scan_latency_ns

disk r Gauge MegaBytes: disk_capacity_avail_mb disk_capacity_total_mb

profiler b Counter Tasks: profiler_cancelled_tasks profiler_client_timeout_rpcs profiler_dropped_timeout_rpcs
  profiler_executed_tasks
profiler b Gauge Tasks: profiler_queued_tasks
profiler b Percentile Bytes: profiler_server_rpc_request_bytes profiler_server_rpc_response_bytes
profiler b Percentile NanoSeconds: profiler_aio_latency_ns profiler_client_rpc_latency_ns profiler_execute_latency_ns
  profiler_queue_latency_ns profiler_server_rpc_latency_ns

queue b Counter Tasks: queue_delayed_tasks queue_rejected_tasks
queue b Gauge Tasks: queue_length

connection b Gauge Sessions: network_client_sessions

latency_tracer r Percentile NanoSeconds: latency_tracer_duration_ns
"""

_DESCRIPTIONS = {
    "background_task_failed_count": "The number of failures of background tasks",
    "beacon_failed_count": "The number of beacons that the metaserver did not acknowledge",
    "committed_requests": "The number of client writes that were committed",
    "network_server_sessions": "The number of connections from clients and other servers",
    "resident_mem_usage_mb": "The resident memory of the process",
    "virtual_mem_usage_mb": "The virtual memory of the process",
    "read_expired_values": "The number of values that reads skipped because they were expired",
    "read_filtered_values": "The number of values that reads skipped because a filter did not match",
    "disk_capacity_total_mb": "The size of the disk that holds the data directory",
    "disk_capacity_avail_mb": "The free space of the disk that holds the data directory",
    "rdb_estimated_keys": "The estimated number of rows, expired ones included",
    "rdb_total_sst_files": "The number of SST files",
    "rdb_total_sst_size_mb": "The size of all SST files",
    "private_log_size_mb": "The size of the write-ahead log",
    "healthy_partitions": "The number of partitions with all replicas",
    "writable_ill_partitions": "The number of partitions with enough replicas to write, but not all",
    "unwritable_partitions": "The number of partitions with a primary and too few replicas to write",
    "unreadable_partitions": "The number of partitions with secondaries and no primary",
    "dead_partitions": "The number of partitions without any replica",
    "write_size_exceed_threshold_requests": "The number of writes refused because they were too large",
    "latency_tracer_duration_ns": "The time between two points of a traced request",
}


def describe(name: str, unit: str) -> str:
    """What a metric measures, in words.

    Args:
        name: The metric's name.
        unit: Its unit.
    """
    if name in _DESCRIPTIONS:
        return _DESCRIPTIONS[name]
    subject, _, measure = name.rpartition("_")
    if subject in _OPERATIONS and measure in ("requests", "bytes"):
        return f"The {'number' if measure == 'requests' else 'size in bytes'} of {subject.upper()} requests"
    words = name.replace("rdb_", "RocksDB ").replace("dup_", "duplication ").replace("_", " ")
    if unit == "NanoSeconds" and name.endswith("_latency_ns"):
        operation = name.removesuffix("_latency_ns")
        shown = operation.upper() if operation in _OPERATIONS else operation.replace("_", " ")
        return f"The latency of {shown} requests"
    for suffix, start in _SUFFIXES:
        if words.endswith(suffix):
            return f"{start} {words.removesuffix(suffix)}"
    if unit in ("MilliSeconds", "NanoSeconds"):
        return f"The time of {words.rpartition(' ')[0].removesuffix(' duration')}"
    return f"The number of {words}" if unit != "Amplification" else f"The {words}"


def _parse() -> dict[str, list[tuple[str, Prototype]]]:
    lines: list[str] = []
    for line in _CATALOG.splitlines():
        if line.startswith("  "):
            lines[-1] += line
        elif line:
            lines.append(line)
    catalog: dict[str, list[tuple[str, Prototype]]] = {}
    for line in lines:
        head, _, names = line.partition(":")
        entity, role, kind, unit = head.split()
        for name in names.split():
            prototype = Prototype(kind, name, unit, describe(name, unit))  # type: ignore[arg-type]
            catalog.setdefault(entity, []).append((role, prototype))
    return catalog


_PARSED = _parse()
ENTITY_TYPES = tuple(_PARSED)


@lru_cache
def prototypes(entity_type: str, role: Role) -> tuple[Prototype, ...]:
    """The metrics that an entity of a type has on a daemon of a role; none for a type that it does not have."""
    letters = ("b", "m") if role == "meta" else ("b", "r")
    return tuple(prototype for letter, prototype in _PARSED[entity_type] if letter in letters)

"""The settings of Apache Pegasus on which a replica server depends; `/config` says of all others that they do nothing.

A test compares them with the names that stand in the package.
"""

from shared.pegasus.settings.flags import EFFECTIVE_EVERYWHERE

EFFECTIVE = EFFECTIVE_EVERYWHERE | frozenset(
    (
        "builtin_metrics_update_interval_ms",
        "cluster_name",
        "cold_backup_root",
        "compat_omit_host_port",
        "config_sync_disabled",
        "config_sync_interval_ms",
        "data_dirs",
        "disk_min_available_space_ratio",
        "disk_stat_interval_seconds",
        "duplication_enabled",
        "enable_http_server",
        "fd_beacon_interval_seconds",
        "fd_lease_seconds",
        "gc_disk_error_replica_interval_seconds",
        "gc_disk_garbage_replica_interval_seconds",
        "gc_interval_ms",
        "is_profile",
        "log_private_file_size_mb",
        "manual_compact_min_interval_seconds",
        "max_allowed_write_size",
        "max_concurrent_bulk_load_downloading_count",
        "mutation_2pc_min_replica_count",
        "perf_counter_read_capacity_unit_size",
        "perf_counter_write_capacity_unit_size",
        "reject_write_when_disk_insufficient",
        "rocksdb_abnormal_batch_get_bytes_threshold",
        "rocksdb_abnormal_batch_get_count_threshold",
        "rocksdb_abnormal_get_size_threshold",
        "rocksdb_abnormal_multi_get_iterate_count_threshold",
        "rocksdb_abnormal_multi_get_size_threshold",
        "rocksdb_bloom_filter_bits_per_key",
        "rocksdb_compression_type",
        "rocksdb_disable_bloom_filter",
        "rocksdb_iteration_threshold_time_ms",
        "rocksdb_level0_file_num_compaction_trigger",
        "rocksdb_max_bytes_for_level_base",
        "rocksdb_max_iteration_count",
        "rocksdb_max_open_files",
        "rocksdb_max_write_buffer_number",
        "rocksdb_multi_get_max_iteration_count",
        "rocksdb_multi_get_max_iteration_size",
        "rocksdb_num_levels",
        "rocksdb_slow_query_threshold_ns",
        "rocksdb_target_file_size_base",
        "rocksdb_write_buffer_size",
        "slog_dir",
        "staleness_for_commit",
    )
)

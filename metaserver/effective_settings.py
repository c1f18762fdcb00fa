"""The settings of Apache Pegasus on which a metaserver depends; `/config` says of all others that they do nothing.

A test compares them with the names that stand in the package.
"""

from shared.pegasus.settings.flags import EFFECTIVE_EVERYWHERE

EFFECTIVE = EFFECTIVE_EVERYWHERE | frozenset(
    (
        "balance_cluster",
        "balance_op_count_per_round",
        "bulk_load_max_rollback_times",
        "bulk_load_node_max_ingesting_count",
        "cluster_name",
        "cold_backup_checkpoint_reserve_minutes",
        "cold_backup_disabled",
        "cold_backup_root",
        "compat_omit_host_port",
        "duplication_enabled",
        "enable_concurrent_bulk_load",
        "enable_http_server",
        "fd_grace_seconds",
        "hold_seconds_for_dropped_app",
        "max_allowed_replica_count",
        "meta_function_level_on_start",
        "min_allowed_replica_count",
        "min_live_node_count_for_unfreeze",
        "mutation_2pc_min_replica_count",
        "node_live_percentage_threshold_for_update",
        "replica_assign_delay_ms_for_dropouts",
    )
)

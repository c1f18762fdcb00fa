"""The settings of a metaserver: those of the command line, and those of Apache Pegasus that have an effect here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.pegasus.files.providers import FileProviders
from shared.pegasus.settings.flags import EFFECTIVE_EVERYWHERE
from shared.pegasus.wire.structures.base import HostPort

if TYPE_CHECKING:
    import ssl

FIRST_TABLES = {"stat": 4, "temp": 8}
"""Tables of a new cluster, with their numbers of partitions."""

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
"""`/config` says of all other settings that nothing depends on them; a test compares these with the code."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says.

    Attributes:
        flags: Settings of the original, by name, that differ from their defaults.
        advertise: Address under which others reach this metaserver, when it is not the one it listens on.
        first_tables: Tables that the first start creates, with their numbers of partitions.
        first_replicas: Replicas that those tables shall have.
        providers: Where files of bulk loads and backups are, by the names that requests use; None turns both off.
        tls: How replica servers are called over TLS; None calls them without.
        prefix: First part of the path of every HTTP call, without slashes around it; may be empty.
    """

    data_dir: Path
    flags: Mapping[str, str]
    advertise: HostPort | None
    first_tables: Mapping[str, int]
    first_replicas: int
    providers: FileProviders | None = None
    tls: ssl.SSLContext | None = None
    prefix: str = ""

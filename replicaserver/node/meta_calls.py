"""The calls to a metaserver, and configurations as they travel (§13.3)."""

from __future__ import annotations

from replicaserver.replication.replica import Configuration
from shared.pegasus.client.connection import Call
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.failure_detector import BeaconAck, BeaconMessage
from shared.pegasus.wire.structures.layer2 import PartitionConfiguration
from shared.pegasus.wire.structures.meta_admin import (
    ConfigSyncRequest,
    ConfigSyncResponse,
    UpdateConfigurationRequest,
    UpdateConfigurationResponse,
)

BEACON = Call("RPC_FD_FAILURE_DETECTOR_PING", BeaconMessage, BeaconAck)
CONFIG_SYNC = Call("RPC_CM_CONFIG_SYNC", ConfigSyncRequest, ConfigSyncResponse)
UPDATE = Call("RPC_CM_UPDATE_PARTITION_CONFIGURATION", UpdateConfigurationRequest, UpdateConfigurationResponse)
TIMEOUT_S = 5.0


def configuration(config: PartitionConfiguration) -> Configuration:
    """A configuration as the core knows it."""
    return Configuration(
        config.ballot,
        config.primary_node() or None,
        tuple(config.secondary_nodes()),
        config.max_replica_count,
        config.last_committed_decree,
    )


def wire(gpid: Gpid, config: Configuration) -> PartitionConfiguration:
    """A configuration as it travels."""
    primary = config.primary or HostPort("", 0)
    return PartitionConfiguration(
        pid=gpid,
        ballot=config.ballot,
        max_replica_count=config.max_replica_count,
        primary=primary,
        secondaries=config.secondaries,
        last_committed_decree=config.last_committed_decree,
        hp_primary=primary,
        hp_secondaries=config.secondaries,
    )

"""Converts the values of `cluster` to messages of the IDL."""

from __future__ import annotations

from collections.abc import Iterable

from metaserver.cluster.metadata import APP_TYPE, Metadata, Partition, Table
from metaserver.cluster.nodes import Nodes
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppInfo, PartitionConfiguration, QueryCfgResponse
from shared.pegasus.wire.structures.meta_admin import ConfigType, UpdateConfigurationRequest


def app_info(metadata: Metadata, table: Table) -> AppInfo:
    """A table, for clients and replica servers."""
    return AppInfo(
        status=table.status,
        app_type=APP_TYPE,
        app_name=table.name,
        app_id=table.app_id,
        partition_count=table.partition_count,
        envs=table.envs,
        is_stateful=True,
        max_replica_count=table.max_replica_count,
        expire_second=table.expire_second,
        create_second=table.create_second,
        drop_second=table.drop_second,
        duplicating=False,
        init_partition_count=-1,
        is_bulk_loading=metadata.is_loading(table.app_id),
        atomic_idempotent=table.atomic_idempotent,
    )


def configuration(nodes: Nodes, table: Table, gpid: Gpid, partition: Partition) -> PartitionConfiguration:
    """A partition's configuration, every node in both its forms."""
    return PartitionConfiguration(
        pid=gpid,
        ballot=partition.ballot,
        max_replica_count=table.max_replica_count,
        primary=nodes.address(partition.primary),
        secondaries=[nodes.address(node) for node in partition.secondaries],
        last_drops=[nodes.address(node) for node in partition.last_drops],
        last_committed_decree=partition.last_committed_decree,
        partition_flags=0,
        hp_primary=partition.primary,
        hp_secondaries=partition.secondaries,
        hp_last_drops=partition.last_drops,
    )


def routing(nodes: Nodes, table: Table, listed: Iterable[tuple[Gpid, Partition]]) -> QueryCfgResponse:
    """Who holds partitions of a table."""
    return QueryCfgResponse(
        app_id=table.app_id,
        partition_count=table.partition_count,
        is_stateful=True,
        partitions=[configuration(nodes, table, gpid, partition) for gpid, partition in listed],
    )


def proposal(
    metadata: Metadata, nodes: Nodes, gpid: Gpid, type: ConfigType, node: HostPort
) -> UpdateConfigurationRequest:
    """A proposal to a replica server.

    Raises:
        KeyError: There is no such partition.
    """
    table = metadata.tables[gpid.app_id]
    partition = table.partitions[gpid.partition_index]
    return UpdateConfigurationRequest(
        info=app_info(metadata, table),
        config=configuration(nodes, table, gpid, partition),
        type=type,
        node=nodes.address(node),
        host_node=nodes.address(node),
        hp_node=node,
    )

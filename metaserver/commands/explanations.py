"""Explains the errors with which a cluster answers an operator.

The answers have an error and no room for a hint, from Apache Pegasus as from us; what an operator needs to know can be
found out by asking further.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaserver.cluster import env_rules, tables
from metaserver.cluster.metadata import Rejected
from shared.pegasus.client import PegasusClient
from shared.pegasus.wire import calls
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.meta_admin import (
    ClusterInfoRequest,
    CreateAppRequest,
    ListNodesRequest,
    NodeStatus,
)

__all__ = ["NOT_ASSIGNED", "NOT_RECALLED", "NOT_RESTORED", "level_in_force", "why_not_created"]

NOT_ASSIGNED: Mapping[str, str] = {
    ErrorCode.ERR_OBJECT_NOT_FOUND: "replica server {node} is not alive",
    ErrorCode.ERR_INVALID_STATE: "the partition does not wait for an operator any more",
}
"""Why a partition is not begun anew, by the error."""

NOT_RECALLED: Mapping[str, str] = {
    ErrorCode.ERR_APP_NOT_EXIST: "no table with the id {app_id} can be brought back (list-tables --status dropped)",
    ErrorCode.ERR_APP_EXIST: "table {app_id} is not dropped",
    ErrorCode.ERR_INVALID_PARAMETERS: "its name is in use, or cannot be one (--name gives it another)",
}
"""Why a table is not recalled, by the error."""

NOT_RESTORED: Mapping[str, str] = {
    ErrorCode.ERR_INVALID_PARAMETERS: "the daemons do not know the file provider, or the new name is in use",
    ErrorCode.ERR_OBJECT_NOT_FOUND: "there is no such backup (backup status; --policy, --root and --app-id say which)",
    ErrorCode.ERR_CORRUPTION: "the backup is damaged",
    ErrorCode.ERR_FILE_OPERATION_FAILED: "the files of the backup cannot be read",
    ErrorCode.ERR_STATE_FREEZED: "nothing can be changed at this function level, or too few replica servers are alive",
}
"""Why a backup is not restored, by the error."""


async def why_not_created(client: PegasusClient, request: CreateAppRequest, error: RpcError) -> RpcError:
    """The same error with a reason, if one can be found."""
    return RpcError(error.code, await _reason(client, request, error.code))


async def _reason(client: PegasusClient, request: CreateAppRequest, code: str) -> str:
    match code:
        case ErrorCode.ERR_APP_EXIST:
            return f"there is a table '{request.app_name}' already"
        case ErrorCode.ERR_BUSY_CREATING | ErrorCode.ERR_BUSY_DROPPING:
            return f"a table '{request.app_name}' is just being {'created' if 'CREATING' in code else 'dropped'}"
        case ErrorCode.ERR_STATE_FREEZED:
            alive, known = await _servers(client)
            level = await level_in_force(client)
            return f"nothing can be changed at the level '{level}'; {alive} of {known} replica servers are alive"
        case ErrorCode.ERR_INVALID_PARAMETERS:
            return await _wrong_parameter(client, request)
    return ""


async def _wrong_parameter(client: PegasusClient, request: CreateAppRequest) -> str:
    options = request.options
    try:
        tables.check_name(request.app_name)
        env_rules.validate(options.envs)
    except Rejected as rejected:
        return rejected.hint
    if options.partition_count > tables.MAX_PARTITIONS:
        return f"{options.partition_count} partitions are more than {tables.MAX_PARTITIONS}"
    alive, _ = await _servers(client)
    if options.replica_count > alive:
        return f"{options.replica_count} replicas need as many replica servers, and {alive} are alive (--replicas)"
    if options.success_if_exist:
        return f"there may be a table '{request.app_name}' that is not just like this"
    return f"the cluster does not allow a table of {options.replica_count} replicas (max_allowed_replica_count)"


async def _servers(client: PegasusClient) -> tuple[int, int]:
    """How many replica servers are alive, and how many are known."""
    infos = (await client.meta.call(calls.LIST_NODES, ListNodesRequest(NodeStatus.INVALID))).infos
    return sum(info.status == NodeStatus.ALIVE for info in infos), len(infos)


async def level_in_force(client: PegasusClient) -> str:
    """The function level as it acts now; empty when the cluster does not say."""
    try:
        info = await client.meta.call(calls.CLUSTER_INFO, ClusterInfoRequest())
    except RpcError:  # at the level stopped
        return ""
    return str(dict(zip(info.keys, info.values, strict=True)).get("meta_function_level", ""))

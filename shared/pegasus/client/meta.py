"""Asking whichever metaserver leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.pegasus.client.connection import Call, RpcConnections
from shared.pegasus.wire.calls import QUERY_CONFIG
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.layer2 import QueryCfgRequest, QueryCfgResponse

__all__ = ["MetaSession"]

_NOT_HERE = (ErrorCode.ERR_FORWARD_TO_OTHERS, ErrorCode.ERR_SERVICE_NOT_ACTIVE)
_UNREACHABLE = (ErrorCode.ERR_NETWORK_FAILURE, ErrorCode.ERR_TIMEOUT, ErrorCode.ERR_HANDLER_NOT_FOUND)


class MetaSession:
    """Sends requests to the leader of the metaservers, and finds out who that is.

    Args:
        servers: Addresses of metaservers, at least one.
        connections: Connections to use.
        timeout_s: How long one metaserver may take to answer.
    """

    def __init__(self, servers: Sequence[HostPort], connections: RpcConnections, timeout_s: float = 5.0) -> None:
        self._servers = list(dict.fromkeys(servers))
        self._connections = connections
        self._timeout_s = timeout_s
        self._leader = self._servers[0]

    async def call(self, call: Call, value: Any) -> Any:
        """Ask the leader; tries each metaserver in turn until one answers for the cluster.

        Returns:
            The response; its own `err` may still say that the request was declined.

        Raises:
            RpcError: No metaserver answered for the cluster; the error of the last one.
        """
        asked: list[HostPort] = []
        waiting = [self._leader, *(server for server in self._servers if server != self._leader)]
        failure = RpcError(ErrorCode.ERR_NETWORK_FAILURE, "there is no metaserver")
        while waiting:
            server = waiting.pop(0)
            if server in asked:
                continue
            asked.append(server)
            try:
                response = await self._connections.call(server, call, value, self._timeout_s)
            except RpcError as error:
                if error.code not in _UNREACHABLE:
                    raise
                failure = error
                if error.code == ErrorCode.ERR_HANDLER_NOT_FOUND:
                    failure = RpcError(error.code, f"{server} does not know {call.code}: is it a metaserver?")
                continue
            error_name = getattr(response, "err", ErrorCode.ERR_OK)
            if error_name not in _NOT_HERE or _hint(response):  # with a hint, it is a part of it that is not active
                self._leader = server
                return response
            is_other = error_name == ErrorCode.ERR_FORWARD_TO_OTHERS
            failure = RpcError(error_name, f"metaserver {server} {'is not the leader' if is_other else 'is stopped'}")
            waiting[:0] = _named_leader(response)
        raise failure

    async def routing(self, table: str) -> QueryCfgResponse:
        """Who holds the partitions of a table.

        Raises:
            RpcError: ERR_OBJECT_NOT_FOUND when there is no such table, or why it cannot be said now.
        """
        response: QueryCfgResponse = await self.call(QUERY_CONFIG, QueryCfgRequest(table))
        if response.err != ErrorCode.ERR_OK:
            raise RpcError(response.err, f"the metaserver does not route to table '{table}'")
        return response


def _hint(response: object) -> str:
    return getattr(response, "hint_message", None) or getattr(response, "hint_msg", None) or ""


def _named_leader(response: object) -> list[HostPort]:
    """The leader that a routing answer names (§12.1)."""
    if isinstance(response, QueryCfgResponse) and response.partitions:
        leader = response.partitions[0].primary_node()
        return [leader] if leader else []
    return []

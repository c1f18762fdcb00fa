"""What the replicas on this node say over HTTP."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import orjson
from aiohttp import web

from replicaserver.node.replicas import Node
from shared.errors import Problem
from shared.pegasus.serving.http import answer, arguments
from shared.pegasus.settings.values import parse_int
from shared.pegasus.wire.structures.metadata import ManualCompactionStatus


@dataclass(frozen=True)
class ReplicaRoutes:
    """The calls under ``/replica``."""

    node: Node

    async def data_version(self, request: web.Request) -> web.Response:
        """The layout of stored values of every replica of a table (§6.1)."""
        raw, app_id = _table(request, "app_id")
        replicas = self.node.of_table(app_id)
        if not replicas:
            raise Problem(404, f"app_id={raw} not found")
        return _sorted(
            {
                str(partition.gpid.partition_index): {"data_version": str(partition.data_version)}
                for partition in replicas
            }
        )

    async def manual_compaction(self, request: web.Request) -> web.Response:
        """How many replicas of a table are in which state of a manual compaction (§6.2)."""
        _, app_id = _table(request, "app_id")
        counts = Counter(partition.compaction.status for partition in self.node.of_table(app_id))
        return _sorted({"status": {status.name.lower(): counts[status] for status in ManualCompactionStatus}})

    async def duplication(self, request: web.Request) -> web.Response:
        """What a table's primaries send to other clusters: nothing, there is no duplication here (§6.3)."""
        if not self.node.context.flags.boolean("duplication_enabled"):
            raise Problem(404, "duplication is not enabled [FLAGS_duplication_enabled=false]")
        _, app_id = _table(request, "appid")
        if not any(partition.core.is_primary for partition in self.node.of_table(app_id)):
            raise Problem(404, f"no primary for app [appid={app_id}]")
        raise Problem(404, f"no duplication assigned for app [appid={app_id}]")


def _table(request: web.Request, name: str) -> tuple[str, int]:
    """The argument that names a table, raw and as a number.

    Raises:
        Problem: 400, it is absent or not the id of a table.
    """
    raw = arguments(request).get(name)
    if raw is None:
        raise Problem(400, f"{name} should not be empty")
    try:
        app_id = parse_int(raw)
    except ValueError as error:
        raise Problem(400, f"invalid {name}={raw}") from error
    if app_id < 0:
        raise Problem(400, f"invalid {name}={raw}")
    return raw, app_id


def _sorted(value: object) -> web.Response:
    """Sorted JSON without a newline at the end (§3)."""
    return answer(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))

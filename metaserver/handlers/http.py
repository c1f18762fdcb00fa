"""The calls under `/meta` and `/envs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from metaserver.bulk_load.driver import BulkLoads
from metaserver.cluster import env_rules, health, tables
from metaserver.cluster.metadata import APP_TYPE, Change, Metadata, Rejected, Table
from metaserver.handlers import bulk_load
from metaserver.handlers.cluster_info import cluster_info
from metaserver.service import MetaService
from shared.errors import Problem
from shared.http.app import read_body
from shared.pegasus.serving.http import MAX_BODY_BYTES, answer, arguments, normalised_path
from shared.pegasus.serving.json_format import Table as Printed
from shared.pegasus.serving.json_format import sorted_json
from shared.pegasus.serving.json_format import tables as print_tables
from shared.pegasus.serving.requests import InvalidParameters, parse_json_object
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus

__all__ = ["MetaRoutes"]

COMPACTION_BODY: Mapping[str, str | int] = {
    "app_name": "",
    "type": "",
    "target_level": -1,
    "bottommost_level_compaction": "",
    "max_concurrent_running_count": 0,
    "trigger_time": "",
}
BULK_LOAD_BODY: Mapping[str, str | int] = dict.fromkeys(
    ("app_name", "cluster_name", "file_provider_type", "remote_root_path"), ""
)
USAGE_BODY: Mapping[str, str | int] = {"app_name": "", "scenario": ""}


@dataclass(frozen=True)
class MetaRoutes:
    """Handlers of the metaserver's own calls."""

    service: MetaService
    loads: BulkLoads

    # leadership (§2.6)

    def _require_leader(self, request: web.Request) -> None:
        """Only the leader answers.

        Raises:
            Problem: 307 to the leader, when it is another metaserver.
        """
        leadership = self.service.leadership
        if leadership.is_leader:
            return
        leader = str(leadership.leader) if leadership.leader else "invalid host_port"
        query = "&".join(f"{name}={value}" for name, value in sorted(arguments(request).items()))
        location = f"http://{leader}/{normalised_path(request)}{'?' if query else ''}{query}"
        raise Problem(307, "", headers={"Location": _header(location)})

    # the cluster (§5.1, §5.2)

    async def cluster(self, request: web.Request) -> web.Response:
        """The cluster in one table (§5.1)."""
        self._require_leader(request)
        return answer(print_tables(Printed().add_all(cluster_info(self.service).items())))

    async def nodes(self, request: web.Request) -> web.Response:
        """The replica servers (§5.2)."""
        if not arguments(request).keys() <= {"detail"}:
            return answer(status=400)
        self._require_leader(request)
        return self._nodes("detail" in arguments(request))

    def _nodes(self, is_detailed: bool) -> web.Response:
        nodes = self.service.nodes
        loads = health.loads(self.service.metadata.available())
        counts = ["replica_count", "primary_count", "secondary_count"] if is_detailed else []
        details = Printed("details", "address", ["status", *counts])
        for node in sorted(nodes.known):
            load = loads.get(node, health.Load())
            shown = [load.total, load.primaries, load.secondaries] if is_detailed else []
            details.add(str(node), "ALIVE" if nodes.is_alive(node) else "UNALIVE", *shown)
        alive = len(nodes.alive())
        summary = Printed("summary").add_all(
            [
                ("total_node_count", len(nodes.known)),
                ("alive_node_count", alive),
                ("unalive_node_count", len(nodes.known) - alive),
            ]
        )
        return answer(print_tables(details, summary))

    # tables (§5.3 to §5.5)

    async def apps(self, request: web.Request) -> web.Response:
        """All tables in service (§5.3)."""
        if not arguments(request).keys() <= {"detail"}:
            return answer(status=400)
        self._require_leader(request)
        return self._apps("detail" in arguments(request))

    def _apps(self, is_detailed: bool) -> web.Response:
        listed = self.service.metadata.available()
        general = Printed("general_info", "app_id", _GENERAL_COLUMNS)
        for table in listed:
            general.add(table.app_id, *_general(table))
        summary = Printed("summary").add_all([("total_app_count", len(listed))])
        if not (is_detailed and listed):
            return answer(print_tables(general, summary))
        healthy = Printed("healthy_info", "app_id", _HEALTH_COLUMNS)
        states = [health.health(table) for table in listed]
        for table, state in zip(listed, states, strict=True):
            counts = (state.fully_healthy, state.unhealthy, state.write_unhealthy, state.read_unhealthy)
            healthy.add(table.app_id, table.name, table.partition_count, *counts)
        summary.add_all(
            [
                ("fully_healthy_app_count", sum(not state.unhealthy for state in states)),
                ("unhealthy_app_count", sum(state.unhealthy > 0 for state in states)),
                ("write_unhealthy_app_count", sum(state.write_unhealthy > 0 for state in states)),
                ("read_unhealthy_app_count", sum(state.read_unhealthy > 0 for state in states)),
            ]
        )
        return answer(print_tables(general, healthy, summary))

    async def app(self, request: web.Request) -> web.Response:
        """One table (§5.4)."""
        if not arguments(request).keys() <= {"name", "detail"}:
            return answer(status=400)
        self._require_leader(request)
        name = arguments(request).get("name", "")
        if not name:
            raise Problem(400, "app name shouldn't be empty")
        table = self.service.metadata.named(name)
        if table is None:
            raise Problem(404, f'table not found: "{name}"')
        if table.status != AppStatus.AVAILABLE:
            is_dropping = table.status == AppStatus.DROPPING
            raise Problem(500, ErrorCode.ERR_BUSY_DROPPING if is_dropping else ErrorCode.ERR_BUSY_CREATING)
        general = Printed("general").add_all(
            [
                ("app_name", table.name),
                ("app_id", table.app_id),
                ("partition_count", table.partition_count),
                ("max_replica_count", table.max_replica_count),
            ]
        )
        details = _details(table) if "detail" in arguments(request) else ()
        return answer(print_tables(general, *details))

    async def app_envs(self, request: web.Request) -> web.Response:
        """The environment variables of a table (§5.5)."""
        self._require_leader(request)
        name = arguments(request).get("name", "")
        if not name:
            raise Problem(400, "app name shouldn't be empty")
        table = self.service.metadata.named(name)
        envs = table.envs if table is not None else {}
        return answer(print_tables(Printed().add_all(sorted(envs.items()))))

    async def list_envs(self, _request: web.Request) -> web.Response:
        """All environment variables that there are (§5.12)."""
        return answer(sorted_json(env_rules.listing(), indent=True))

    # duplication (§5.7)

    async def duplication(self, request: web.Request) -> web.Response:
        """The duplications of a table: none can be made, so it has none (§5.7)."""
        self._require_leader(request)
        if not self.service.flags.boolean("duplication_enabled"):
            raise Problem(404, "duplication is not enabled [FLAGS_duplication_enabled=false]")
        if "name" not in arguments(request):
            raise Problem(400, "name should not be empty")
        if self.service.metadata.named(arguments(request)["name"]) is None:
            raise Problem(404, ErrorCode.ERR_APP_NOT_EXIST)
        return answer(sorted_json(None))

    # bulk load (§5.8, §5.9)

    async def start_bulk_load(self, request: web.Request) -> web.Response:
        """Begin to load a table from files (§5.8)."""
        self._require_leader(request)
        if not self.loads.is_enabled:
            raise Problem(404, "bulk load is not enabled")
        error, hint = await bulk_load.start(self.loads, await _json_body(request, BULK_LOAD_BODY))
        return answer(print_tables(Printed().add_all([("error", error), ("hint_msg", hint)])))

    async def query_bulk_load(self, request: web.Request) -> web.Response:
        """How far the load of a table is (§5.9)."""
        self._require_leader(request)
        if not self.loads.is_enabled:
            raise Problem(404, "bulk load is not enabled")
        if "name" not in arguments(request):
            raise Problem(400, "name should not be empty")
        error, status = bulk_load.query(self.service, arguments(request)["name"])
        shown = f"replication::bulk_load_status::BLS_{status.name}"
        return answer(print_tables(Printed().add_all([("error", error), ("app_status", shown)])))

    # backup (§5.6)

    async def backup_policy(self, request: web.Request) -> web.Response:
        """The backup policies, or one of them (§5.6)."""
        self._require_leader(request)
        if self.service.flags.boolean("cold_backup_disabled"):
            raise Problem(404, "cold_backup_disabled")
        if not arguments(request).keys() <= {"name"}:
            raise Problem(400, "Invalid parameter")
        policies = self.service.metadata.policies
        listed = Printed(title="name", columns=_POLICY_COLUMNS)
        for name, policy in sorted(policies.items()):
            if arguments(request).get("name", name) == name:
                listed.add(
                    name,
                    policy.provider,
                    policy.interval_s,
                    sorted_json(sorted(policy.app_ids)).decode(),
                    policy.start_time,
                    "disabled" if policy.is_disabled else "enabled",
                    policy.history_count,
                )
        return answer(print_tables(listed))

    # changes by environment variables (§5.10, §5.11)

    async def start_compaction(self, request: web.Request) -> web.Response:
        """Start a manual compaction, or set its times of day (§5.10)."""
        self._require_leader(request)
        body = await _json_body(request, COMPACTION_BODY)
        _require(body["app_name"] != "", "app_name should not be empty")
        _require(body["type"] in ("once", "periodic"), "type should ony be 'once' or 'periodic'")
        _require(body["target_level"] >= -1, "target_level should be >= -1")
        bottommost = body["bottommost_level_compaction"]
        _require(bottommost in ("skip", "force"), "bottommost_level_compaction should ony be 'skip' or 'force'")
        _require(body["max_concurrent_running_count"] >= 0, "max_running_count should be >= 0")
        is_periodic = body["type"] == "periodic"
        _require(
            not is_periodic or body["trigger_time"] != "", "trigger_time should not be empty when type is periodic"
        )
        prefix = f"manual_compact.{body['type']}"
        envs = {
            f"{prefix}.target_level": str(body["target_level"]),
            f"{prefix}.bottommost_level_compaction": bottommost,
            f"{prefix}.trigger_time": body["trigger_time"] if is_periodic else str(int(self.service.wall_clock())),
        }
        if body["max_concurrent_running_count"] > 0:
            envs["manual_compact.max_concurrent_running_count"] = str(body["max_concurrent_running_count"])
        return await self._set_envs(body["app_name"], envs)

    async def usage_scenario(self, request: web.Request) -> web.Response:
        """Tune a table for loading or for normal use (§5.11)."""
        self._require_leader(request)
        body = await _json_body(request, USAGE_BODY)
        _require(body["app_name"] != "", "app_name should not be empty")
        _require(body["scenario"] in ("normal", "bulk_load"), "scenario should ony be 'normal' or 'bulk_load'")
        return await self._set_envs(body["app_name"], {"rocksdb.usage_scenario": body["scenario"]})

    async def _set_envs(self, app_name: str, envs: Mapping[str, str]) -> web.Response:
        def decide(metadata: Metadata) -> tuple[Change, None]:
            return tables.set_envs(metadata, app_name, list(envs), list(envs.values())), None

        error, hint = await outcome(self.service, decide)
        return answer(print_tables(Printed().add_all([("error", error), ("hint_message", hint)])))


async def outcome(service: MetaService, decide: Callable[[Metadata], tuple[Change, None]]) -> tuple[str, str]:
    """Carry out a change; the error's name and the hint that say how it went."""
    try:
        await service.change(decide)
    except Rejected as rejected:
        return rejected.code, rejected.hint
    return ErrorCode.ERR_OK, ""


async def _json_body(request: web.Request, defaults: Mapping[str, str | int]) -> dict[str, Any]:
    try:
        return parse_json_object(await read_body(request, MAX_BODY_BYTES), defaults)
    except InvalidParameters as error:
        raise Problem(400, str(error)) from error


def _header(text: str) -> str:
    """Text as the value of a header: without what ends a line, and with escapes for bytes that are not UTF-8."""
    kept = (char for char in text if char not in "\0\r\n")
    return "".join(f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in kept)


def _require(is_right: bool, message: str) -> None:
    if not is_right:
        raise Problem(400, message)


# -- rows -----------------------------------------------------------------------------------------

_GENERAL_COLUMNS = [
    "status",
    "app_name",
    "app_type",
    "partition_count",
    "replica_count",
    "is_stateful",
    "create_time",
    "drop_time",
    "drop_expire",
    "envs_count",
]
_POLICY_COLUMNS = [
    "backup_provider_type",
    "backup_interval",
    "app_ids",
    "start_time",
    "status",
    "backup_history_count",
]
_HEALTH_COLUMNS = ["app_name", "partition_count", "fully_healthy", "unhealthy", "write_unhealthy", "read_unhealthy"]


def _general(table: Table) -> list[str | int | bool]:
    return [
        table.status.name,
        table.name,
        APP_TYPE,
        table.partition_count,
        table.max_replica_count,
        True,
        _when(table.create_second),
        _when(table.drop_second),
        _when(table.expire_second),
        len(table.envs),
    ]


def _when(second: int) -> str:
    """A time of the server's time zone, `-` for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S.000", time.localtime(second)) if second else "-"


def _details(table: Table) -> tuple[Printed, Printed, Printed]:
    """The further tables of `/meta/app?detail`: partitions, nodes and health."""
    replicas = Printed("replicas", "pidx", ["ballot", "replica_count", "primary", "secondaries"])
    for gpid, partition in table:
        replicas.add(
            gpid.partition_index,
            partition.ballot,
            f"{len(partition.members())}/{table.max_replica_count}",
            str(partition.primary) if partition.primary else "-",
            f"[{','.join(map(str, partition.secondaries))}]",
        )
    loads: dict[HostPort, health.Load] = health.loads([table])
    nodes = Printed("nodes", "node", ["primary", "secondary", "total"])
    for node, load in sorted(loads.items()):
        nodes.add(str(node), load.primaries, load.secondaries, load.total)
    primaries = sum(load.primaries for load in loads.values())
    secondaries = sum(load.secondaries for load in loads.values())
    nodes.add("total", primaries, secondaries, primaries + secondaries)
    state = health.health(table)
    healthy = Printed("healthy").add_all(
        [
            ("fully_healthy_partition_count", state.fully_healthy),
            ("unhealthy_partition_count", state.unhealthy),
            ("write_unhealthy_partition_count", state.write_unhealthy),
            ("read_unhealthy_partition_count", state.read_unhealthy),
        ]
    )
    return replicas, nodes, healthy

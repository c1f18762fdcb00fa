"""The cluster in one table, as HTTP and RPC answer it (§5.1, §12.5)."""

from __future__ import annotations

import orjson

from metaserver.cluster import health
from metaserver.service import MetaService

__all__ = ["balance_text", "cluster_info"]


def cluster_info(service: MetaService) -> dict[str, str]:
    """The columns of the table, in order."""
    loads = health.loads(service.metadata.available())
    alive = {node: load for node, load in loads.items() if service.nodes.is_alive(node) and load.total}
    dead = [load for node, load in loads.items() if not service.nodes.is_alive(node)]
    primaries = health.deviation(
        [load.primaries for load in alive.values()], is_sample=any(load.primaries for load in dead)
    )
    totals = health.deviation([load.total for load in alive.values()], is_sample=any(load.total for load in dead))
    return {
        "meta_servers": ",".join(map(str, service.leadership.servers)),
        "primary_meta_server": str(service.leadership.leader),
        "zookeeper_hosts": service.flags.text("hosts_list"),
        "zookeeper_root": "/" + "/".join(part for part in service.flags.text("cluster_root").split("/") if part),
        "meta_function_level": service.current_level().name.lower(),
        "balance_operation_count": orjson.dumps(balance_counts(service), option=orjson.OPT_INDENT_2).decode(),
        "primary_replica_count_stddev": f"{primaries:.2f}",
        "total_replica_count_stddev": f"{totals:.2f}",
    }


def balance_counts(service: MetaService) -> dict[str, int]:
    """How many operations would balance the cluster: a partition with one member moves by a copy of its primary."""
    count = len(service.moves)
    return {"copy_pri": count, "copy_sec": 0, "move_pri": 0, "total": count}


def balance_text(service: MetaService) -> str:
    """The operations that would balance the cluster, as the shell shows them."""
    counts = balance_counts(service)
    return ",".join(f"{name}={counts[name]}" for name in ("move_pri", "copy_pri", "copy_sec", "total"))

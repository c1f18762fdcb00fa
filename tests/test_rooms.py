"""Every daemon keeps the house's rooms: who may import whom, and that the core stays pure.

What import-linter holds between packages is in `pyproject.toml`; this is what holds inside each of them.
"""

from __future__ import annotations

import grimp
import pytest

DAEMONS = ("iserver", "metaserver", "replicaserver", "intake_server", "gateway")

SERVICE_ROOMS = {
    "iserver": {
        "configuration.sources",
        "configuration.sync",
        "etl",
        "plugins",
        "report.warehouse_tables",
        "telemetry",
    },
    "metaserver": {"backup.driver", "bulk_load.driver", "service"},
    "replicaserver": {"jobs", "node", "partition"},
    "intake_server": {
        *("auth", "drivers", "serving", "sources"),
        *("concurrency.backpressure", "concurrency.single_flight", "concurrency.thread_pool"),
    },
    "gateway": {"cluster", "modules", "settings"},
}
"""Rooms, or modules of a room, that run by themselves (timers, workers, caches, modules, drivers).

They may know the loop, the clock and files.
"""

EDGES = {"cli", "daemon", "app", "components", "handlers", "storage"}

IMPURE = {
    *("aiohttp", "aiosqlite", "asyncio", "concurrent", "fsspec", "multiprocessing", "os", "redis", "rocksdict"),
    *("shutil", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "watchfiles"),
}
"""Sockets, files, clocks and loops. Core modules take what these give as arguments."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*DAEMONS, "shared", include_external_packages=True, exclude_type_checking_imports=True)


def room(module: str) -> str:
    """`iserver.handlers.client` is in the room `handlers`."""
    return module.split(".")[1] if "." in module else ""


def is_in(module: str, rooms: set[str]) -> bool:
    """Whether a module is one of `rooms` or inside of one; a room's name may have two parts."""
    parts = module.split(".")[1:3]
    return bool(rooms & {parts[0], ".".join(parts)}) if parts else False


def modules_in(graph: grimp.ImportGraph, daemon: str, *, core: bool) -> list[str]:
    """The modules of a daemon's core, or those outside it; command modules belong to the `cli`."""
    outside = EDGES | SERVICE_ROOMS[daemon]
    inside = [module for module in graph.modules if module.startswith(f"{daemon}.")]
    return [m for m in inside if (is_in(m, outside) or room(m).endswith("commands")) is not core]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_core_modules_know_no_sockets_files_clocks_or_loops(graph: grimp.ImportGraph, daemon: str):
    imported = {
        module: graph.find_modules_directly_imported_by(module) for module in modules_in(graph, daemon, core=True)
    }
    impure = {
        module: found for module, names in imported.items() if (found := {n.split(".")[0] for n in names} & IMPURE)
    }
    assert impure == {}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_core_modules_import_no_edge_and_no_service(graph: grimp.ImportGraph, daemon: str):
    outside = EDGES | SERVICE_ROOMS[daemon]
    wrong = [
        (module, other)
        for module in modules_in(graph, daemon, core=True)
        for other in graph.find_modules_directly_imported_by(module)
        if other.startswith(f"{daemon}.") and is_in(other, outside)
    ]
    assert wrong == []


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize(
    ("lower", "uppers"),
    [
        ("storage", {"handlers", "app", "daemon", "cli"}),
        ("handlers", {"storage", "app", "daemon", "cli"}),
        ("app", {"daemon", "cli"}),
        ("daemon", {"cli"}),
    ],
)
def test_edges_import_only_downwards(graph: grimp.ImportGraph, daemon: str, lower: str, uppers: set[str]):
    wrong = [
        (module, other)
        for module in graph.modules
        if module.startswith(f"{daemon}.") and room(module) == lower
        for other in graph.find_modules_directly_imported_by(module)
        if other.startswith(f"{daemon}.") and room(other) in uppers
    ]
    assert wrong == []


@pytest.mark.parametrize("daemon", DAEMONS)
def test_service_rooms_import_no_handler_app_or_command(graph: grimp.ImportGraph, daemon: str):
    wrong = [
        (module, other)
        for module in modules_in(graph, daemon, core=False)
        if is_in(module, SERVICE_ROOMS[daemon])
        for other in graph.find_modules_directly_imported_by(module)
        if other.startswith(f"{daemon}.") and room(other) in {"handlers", "app", "daemon", "cli"}
    ]
    assert wrong == []

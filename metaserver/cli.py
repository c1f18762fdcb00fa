"""The command `metaserver`: the daemon, and what an operator does with a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from shared.cli import (
    LazyCommand,
    ServerOptions,
    daemon_group,
    option,
    require_authentication,
    run_daemon,
    start_command,
)
from shared.pegasus.serving.tls import cluster_tls, tls_ca_option
from shared.pegasus.settings.options import flag_options, take_flags

if TYPE_CHECKING:
    from metaserver.settings import Settings
    from shared.daemon import Service
    from shared.pegasus.files.providers import FileProviders
    from shared.pegasus.wire.structures.base import HostPort

HELP = """Keep the tables of a Pegasus cluster: names, partitions, who holds them.

Not there yet: several metaservers with a leader, replication to secondaries, duplication, partition split.
"""

COMMANDS = {
    "create-table": LazyCommand(
        "metaserver.commands.tables", "create_table", "Create a table and wait until it is served."
    ),
    "drop-table": LazyCommand("metaserver.commands.tables", "drop_table", "Drop a table."),
    "recall-table": LazyCommand(
        "metaserver.commands.tables",
        "recall_table",
        "Bring a dropped table back, by its id (list-tables --status dropped).",
    ),
    "rename-table": LazyCommand("metaserver.commands.tables", "rename_table", "Give a table another name."),
    "list-tables": LazyCommand("metaserver.commands.tables", "list_tables", "List tables."),
    "set-envs": LazyCommand(
        "metaserver.commands.tables",
        "set_envs",
        "Set, delete or clear environment variables of a table, and list those it then has.",
    ),
    "nodes": LazyCommand(
        "metaserver.commands.cluster", "nodes", "List the replica servers, with the replicas they hold."
    ),
    "level": LazyCommand("metaserver.commands.cluster", "level", "Show the function level, or set it."),
    "diagnose": LazyCommand(
        "metaserver.commands.cluster",
        "diagnose",
        "List the partitions that have no primary and get none by themselves, of one table or of all, and why.",
    ),
    "assign": LazyCommand(
        "metaserver.commands.cluster",
        "assign",
        "Give a partition that diagnose lists to a server that begins it anew, without rows.",
    ),
    "bulk-load": LazyCommand(
        "metaserver.commands.bulk_load", "bulk_load", "Load a table from files: prepare them, start the load, watch it."
    ),
    "backup": LazyCommand(
        "metaserver.commands.backup",
        "backup",
        "Back tables up to a folder or URL, once or by policy, and restore them.",
    ),
}

main = daemon_group("metaserver", HELP, COMMANDS)


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> HostPort | None:
    if value is None:
        return None
    from shared.pegasus.wire.structures.base import HostPort

    try:
        return HostPort.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _providers(_ctx: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> FileProviders | None:
    if not values:
        return None
    from shared.pegasus.files.providers import FileProviders

    try:
        return FileProviders.parse(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@start_command(main, port=34601)
@flag_options
@tls_ca_option
@option("--advertise", metavar="HOST:PORT", callback=_address, help="Address under which others reach this metaserver.")
@option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME=URL",
    callback=_providers,
    help="Folder or fsspec URL with files of bulk loads and backups, such as local_service=/data/files; repeatable.",
)
@option("--no-first-tables", is_flag=True, help="Do not create the tables stat and temp on the first start.")
@option(
    "--first-table-replicas",
    type=click.IntRange(1, 15),
    default=1,
    help="Replicas of the tables stat and temp; the original's development cluster has 3.",
)
def start(**arguments: Any) -> None:
    """Serve the metadata of a cluster over HTTP and Pegasus RPC, on one port."""
    options = ServerOptions.take(arguments)
    require_authentication(options, authenticated=False, how="a loopback address")

    def build() -> Service:
        from metaserver.app import Metaserver  # takes its time, which `--help` need not wait for

        return Metaserver(_settings(options, arguments))

    run_daemon("metaserver", options, build)


def _settings(options: ServerOptions, arguments: dict[str, Any]) -> Settings:
    from metaserver.settings import FIRST_TABLES, Settings

    return Settings(
        data_dir=options.data_dir,
        flags=take_flags(arguments),
        advertise=arguments["advertise"],
        first_tables={} if arguments["no_first_tables"] else FIRST_TABLES,
        first_replicas=arguments["first_table_replicas"],
        providers=arguments["providers"],
        tls=cluster_tls(options, arguments["tls_ca"]),
        prefix=options.prefix,
    )

"""The command `metaserver`: the daemon, and what an operator does with a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from metaserver.app import FIRST_TABLES, Metaserver, Settings
from metaserver.backup_commands import backup
from metaserver.bulk_load_commands import bulk_load
from metaserver.commands import COMMANDS
from shared.cli import ServerOptions, daemon_group, option, require_authentication, run_daemon, start_command
from shared.pegasus.file_providers import FileProviders
from shared.pegasus.flag_options import flag_options, take_flags
from shared.pegasus.structures.base import HostPort
from shared.pegasus.tls import cluster_tls, tls_ca_option

HELP = """Keep the tables of a Pegasus cluster: names, partitions, who holds them.

Not there yet: several metaservers with a leader, replication to secondaries, duplication, partition split.
"""

main = daemon_group("metaserver", HELP)
for command in (*COMMANDS, bulk_load, backup):
    main.add_command(command)


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> HostPort | None:
    try:
        return None if value is None else HostPort.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _providers(_ctx: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> FileProviders | None:
    try:
        return FileProviders.parse(values) if values else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@start_command(main, port=34601, prefix=None)
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
    run_daemon("metaserver", options, lambda: Metaserver(_settings(options, arguments)))


def _settings(options: ServerOptions, arguments: dict[str, Any]) -> Settings:
    return Settings(
        data_dir=options.data_dir,
        flags=take_flags(arguments),
        advertise=arguments["advertise"],
        first_tables={} if arguments["no_first_tables"] else FIRST_TABLES,
        first_replicas=arguments["first_table_replicas"],
        providers=arguments["providers"],
        tls=cluster_tls(options, arguments["tls_ca"]),
    )

"""The command `replicaserver`: flags to settings, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from shared.cli import ServerOptions, daemon_group, option, require_authentication, run_daemon, start_command
from shared.pegasus.serving.tls import cluster_tls, tls_ca_option
from shared.pegasus.settings.options import flag_options, take_flags

if TYPE_CHECKING:
    from replicaserver.app import Settings
    from shared.daemon import Service
    from shared.pegasus.files.providers import FileProviders
    from shared.pegasus.wire.structures.base import HostPort

HELP = """Hold partitions of the tables of a Pegasus cluster, each in a RocksDB of its own.

Not there yet: replication to secondaries, duplication to other clusters, partition split, hotkey detection,
moving replicas between disks.
"""

main = daemon_group("replicaserver", HELP)


def _addresses(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> list[HostPort]:
    if ctx.resilient_parsing:  # `--help` need not wait for the import
        return []
    from shared.pegasus.wire.structures.base import HostPort

    try:
        return [HostPort.parse(item) for item in (value or "").split(",") if item.strip()]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _providers(ctx: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> FileProviders | None:
    if ctx.resilient_parsing:
        return None
    from shared.pegasus.files.providers import FileProviders

    try:
        return FileProviders.parse(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@start_command(main, port=34801)
@option(
    "--meta",
    "metas",
    metavar="HOST:PORT[,...]",
    default="127.0.0.1:34601",
    callback=_addresses,
    help="Where metaservers are.",
)
@option("--advertise", metavar="HOST:PORT", callback=_addresses, help="Address under which others reach this node.")
@option(
    "--block-cache-mb",
    type=click.IntRange(1),
    default=256,
    help="Memory for blocks of all stores together, in MiB; rocksdb_block_cache_capacity is listed, and not used.",
)
@option(
    "--write-buffers-mb",
    type=click.IntRange(8),
    default=256,
    help="Memory for rows that are not in files yet, of all stores together, in MiB.",
)
@option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME=URL",
    callback=_providers,
    help="Folder or fsspec URL with files of bulk loads and backups, such as local_service=/data/files; repeatable.",
)
@option(
    "--accept-loss",
    is_flag=True,
    help="Start although files of the log of writes are missing or damaged; what is lost is logged.",
)
@flag_options
@tls_ca_option
def start(**arguments: Any) -> None:
    """Serve replicas over HTTP and Pegasus RPC, on one port."""
    options = ServerOptions.take(arguments)
    require_authentication(options, authenticated=False, how="a loopback address")
    if options.host in ("", "0.0.0.0", "::") and not arguments["advertise"]:
        raise click.UsageError(f"--host {options.host or '(all)'} needs --advertise: others cannot reach that address")

    def build() -> Service:
        from replicaserver.app import ReplicaServer  # takes its time, which `--help` need not wait for

        return ReplicaServer(_settings(options, arguments))

    run_daemon("replicaserver", options, build)


def _settings(options: ServerOptions, arguments: dict[str, Any]) -> Settings:
    from replicaserver.app import Settings

    advertise = arguments["advertise"]
    return Settings(
        data_dir=options.data_dir,
        metas=arguments["metas"],
        advertise=advertise[0] if advertise else None,
        flags=take_flags(arguments),
        block_cache_mb=arguments["block_cache_mb"],
        write_buffers_mb=arguments["write_buffers_mb"],
        providers=arguments["providers"],
        accept_loss=arguments["accept_loss"],
        tls=cluster_tls(options, arguments["tls_ca"]),
        prefix=options.prefix,
    )

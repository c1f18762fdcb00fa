"""`metaserver bulk-load`: files for a bulk load, and the load itself, by command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import click

from metaserver.commands.command import CommandError, Row, admin, cluster_command, table_named
from shared.cli import option
from shared.pegasus.client import PegasusClient
from shared.pegasus.client.connection import Call
from shared.pegasus.files.bulk_load import LoadInfo, table_folder
from shared.pegasus.wire.keys import since_epoch
from shared.pegasus.wire.structures.bulk_load import (
    BulkLoadControlType,
    BulkLoadStatus,
    ClearBulkLoadStateRequest,
    ClearBulkLoadStateResponse,
    ControlBulkLoadRequest,
    ControlBulkLoadResponse,
    QueryBulkLoadRequest,
    QueryBulkLoadResponse,
    StartBulkLoadRequest,
    StartBulkLoadResponse,
)

__all__ = ["bulk_load"]

START = Call("RPC_CM_START_BULK_LOAD", StartBulkLoadRequest, StartBulkLoadResponse)
CONTROL = Call("RPC_CM_CONTROL_BULK_LOAD", ControlBulkLoadRequest, ControlBulkLoadResponse)
QUERY = Call("RPC_CM_QUERY_BULK_LOAD_STATUS", QueryBulkLoadRequest, QueryBulkLoadResponse)
CLEAR = Call("RPC_CM_CLEAR_BULK_LOAD", ClearBulkLoadStateRequest, ClearBulkLoadStateResponse)
CONTROLS = {"pause": BulkLoadControlType.PAUSE, "resume": BulkLoadControlType.RESTART}
CANCELS = {False: BulkLoadControlType.CANCEL, True: BulkLoadControlType.FORCE_CANCEL}

bulk_load = click.Group("bulk-load", help="Load a table from files: prepare them, start the load, watch it.")


# -- files ----------------------------------------------------------------------------------------


@cluster_command("prepare")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@option("--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the provider.")
@option("--root", default="bulk_load", help="Folder below it.")
@option("--cluster", default="onebox", help="Name of the cluster in the layout.")
@option("--hash-key", required=True, help="Column of the hash keys.")
@option("--sort-key", help="Column of the sort keys; without one they are empty.")
@option("--value", required=True, help="Column of the values.")
@option("--ttl", type=click.IntRange(min=0), default=0, help="Seconds until the rows expire, 0 for never.")
async def prepare(
    client: PegasusClient,
    name: str,
    files: Sequence[Path],
    output: Path,
    root: str,
    cluster: str,
    hash_key: str,
    sort_key: str | None,
    value: str,
    ttl: int,
) -> list[Row]:
    """Turn CSV or Parquet files into the SST files of a bulk load of a table.

    A row whose keys come again replaces the earlier one; `replaced` counts those among rows that are sorted together,
    64 MiB at a time.
    """
    table = await table_named(client, name)
    info = LoadInfo(table.app_id, name, table.partition_count)
    expire = since_epoch(time.time()) + ttl if ttl else 0
    columns = [hash_key, *([sort_key] if sort_key else []), value]
    try:
        folder = output / table_folder(root, cluster, name)
    except ValueError as error:
        raise CommandError(str(error)) from error
    from metaserver.commands import row_files

    try:
        made = await asyncio.to_thread(row_files.write, folder, info, files, columns, expire)
    except row_files.FileError as error:
        raise CommandError(str(error)) from error
    return [
        {
            "table": name,
            "rows": made.rows,
            "replaced": made.replaced,
            "bytes": made.size_bytes,
            "folder": str(folder),
        }
    ]


# -- the load -------------------------------------------------------------------------------------


@cluster_command("start")
@click.argument("name")
@option("--provider", default="local_service", help="Name of the file provider, as the daemons know it.")
@option("--root", default="bulk_load", help="Folder below it.")
@option("--cluster", default="onebox", help="Name of the cluster in the layout.")
@option("--ingest-behind", is_flag=True, help="Rows that are there already win over those of the files.")
@option("--wait", "waits", is_flag=True, help="Return when the load has ended.")
async def start(
    client: PegasusClient, name: str, provider: str, root: str, cluster: str, ingest_behind: bool, waits: bool
) -> list[Row]:
    """Start the load of a table."""
    await admin(client, START, StartBulkLoadRequest(name, cluster, provider, root, ingest_behind))
    response = await admin(client, QUERY, QueryBulkLoadRequest(name))
    while waits and response.is_bulk_loading:
        await asyncio.sleep(0.2)
        response = await admin(client, QUERY, QueryBulkLoadRequest(name))
    if waits and response.app_status != BulkLoadStatus.SUCCEED:
        raise CommandError(f"the load {BulkLoadStatus(response.app_status).name.lower()}: {response.hint_msg}")
    return [_shown(response)]


@cluster_command("status")
@click.argument("name")
async def status(client: PegasusClient, name: str) -> list[Row]:
    """Show how far the load of a table is, or how the last one ended."""
    return [_shown(await admin(client, QUERY, QueryBulkLoadRequest(name)))]


@cluster_command("control")
@click.argument("name")
@click.argument("what", type=click.Choice([*CONTROLS, "cancel"]))
@option("--force", is_flag=True, help="Cancel also a load that is ingesting.")
async def control(client: PegasusClient, name: str, what: str, force: bool) -> list[Row]:
    """Pause, resume or cancel the load of a table."""
    type = CONTROLS.get(what, CANCELS[force])
    await admin(client, CONTROL, ControlBulkLoadRequest(name, type))
    return [_shown(await admin(client, QUERY, QueryBulkLoadRequest(name)))]


@cluster_command("clear")
@click.argument("name")
async def clear(client: PegasusClient, name: str) -> list[Row]:
    """Forget how the last load of a table ended."""
    await admin(client, CLEAR, ClearBulkLoadStateRequest(name))
    return [_shown(await admin(client, QUERY, QueryBulkLoadRequest(name)))]


def _shown(response: QueryBulkLoadResponse) -> Row:
    progress = [state.download_progress or 0 for partition in response.bulk_load_states for state in partition.values()]
    return {
        "table": response.app_name,
        "status": BulkLoadStatus(response.app_status).name.lower(),
        "running": bool(response.is_bulk_loading),
        "downloaded_percent": sum(progress) // len(progress) if progress else 0,
        "failure": response.hint_msg or "",
    }


for command in (prepare, start, status, control, clear):
    bulk_load.add_command(command)

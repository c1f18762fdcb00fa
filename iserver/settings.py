"""The settings of one iserver process: what its command line says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TableFormat = Literal["parquet", "orc", "delta"]

MAX_BODY_BYTES = 2**20
JOURNAL_SEGMENT_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """All settings besides those that every daemon has.

    Attributes:
        prefix: First part of every URL path, without slashes around it; may be empty.
        data_dir: Folder of the journal, the cached configuration and, by default, the warehouse.
        token: Authorises against the configuration server, and `sync`.
        environment: UUID of the environment to fetch from the configuration server.
        config_server: Base URL of the configuration server.
        config_file: Local configuration document.
        fdl_files: FDL that replaces the document's.
        lenient_config: Skip entries that name missing features instead of rejecting the document.
        warehouse: Folder or URL of the warehouse; `None` takes the document's or `data_dir/warehouse`.
        table_format: Format of the tables.
        sync_interval_s: Seconds between two polls of the configuration server.
        session_timeout_s: Overrides the document's session timeout.
        etl_interval_s: Seconds between two runs of the ETL.
        nolog: Write nothing to the warehouse.
        enable_cmd: Serve `cmd`.
        accept_fdl: Serve the FDL compiler, which may push FDL into the configuration file.
        cmd_token: What callers of `cmd` must show.
        cors_origins: Origins of browser pages that may call; empty allows all.
        drain_s: How long to go on serving after the first SIGTERM, in seconds.
        journal: Whether active sessions are stored on disk.
        journal_segment_bytes: Size of the files of their log.
        accept_loss: Start although files of the journal are missing or damaged.
        sessions: URL of the Redis that keeps the sessions of several servers; `None` keeps them in `data_dir`.
        sessions_prefix: What names the servers that share sessions there.
        otel: Base URL of the OTLP receiver that metrics are sent to; `None` sends none.
        otel_interval_s: Seconds between two exports of the metrics.
        plugins: Plugin classes, as `package.module:Class`.
        plugin_timeout_ms: How long one call of a plugin may take.
        strict_plugins: Whether a failing plugin is an error of the feature.
    """

    data_dir: Path
    prefix: str = "iserver"
    token: str | None = None
    environment: str | None = None
    config_server: str | None = None
    config_file: Path | None = None
    fdl_files: tuple[Path, ...] = ()
    lenient_config: bool = False
    warehouse: str | None = None
    table_format: TableFormat = "parquet"
    sync_interval_s: float = 30.0
    session_timeout_s: float | None = None
    etl_interval_s: float = 3600.0
    nolog: bool = False
    enable_cmd: bool = False
    accept_fdl: bool = False
    cmd_token: str | None = None
    cors_origins: tuple[str, ...] = ()
    drain_s: float = 0.0
    journal: bool = True
    journal_segment_bytes: int = JOURNAL_SEGMENT_BYTES
    accept_loss: bool = False
    sessions: str | None = None
    sessions_prefix: str = "iserver"
    otel: str | None = None
    otel_interval_s: float = 60.0
    plugins: tuple[str, ...] = ()
    plugin_timeout_ms: int = 200
    strict_plugins: bool = False

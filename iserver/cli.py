"""The command `iserver`: flags to settings, nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from iserver.settings import JOURNAL_SEGMENT_BYTES, ServerSettings, TableFormat
from shared.cli import (
    EXISTING_FILE,
    LazyCommand,
    ServerOptions,
    apply_settings_file,
    config_option,
    daemon_group,
    option,
    require_authentication,
    run_daemon,
    seconds_option,
    start_command,
)

HELP = "Decide which features visitors see, and record what happened: a Causal impression server."

COMMANDS = {
    "check": LazyCommand(
        "iserver.commands.fdl", "check_command", "Check FDL files as one program, in the given order."
    ),
    "ddl": LazyCommand(
        "iserver.commands.fdl",
        "ddl_command",
        "Print the statements that create the warehouse's tables and views in a query engine.",
    ),
    "fmt": LazyCommand(
        "iserver.commands.fdl",
        "format_command",
        "Format FDL files in place; `-` formats the standard input to the standard output.",
    ),
    "report": LazyCommand(
        "iserver.commands.report",
        "report_command",
        "Report what the experiments did, from the tables of the warehouse.",
    ),
}

main = daemon_group("iserver", HELP, COMMANDS)


def _check_environment(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(uuid.UUID(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a UUID") from None


def _take_config(ctx: click.Context, _parameter: click.Parameter, paths: Sequence[Path]) -> Path | None:
    """Apply the TOML files, and return the JSON document."""
    documents = []
    for path in paths:
        if path.suffix == ".json":
            documents.append(path)
        elif ctx.resilient_parsing:
            continue
        elif path.suffix == ".toml":
            apply_settings_file(ctx, path)
        else:
            raise click.BadParameter(f"{path}: expected a settings file *.toml or a configuration document *.json")
    if len(documents) > 1:
        raise click.BadParameter(f"one configuration document is enough, found {len(documents)}")
    return documents[0] if documents else None


CONFIG = config_option(
    multiple=True,
    expose_value=True,
    callback=_take_config,
    help="TOML file of settings, or JSON configuration document, by suffix; repeatable.",
)
"""Here it also names the configuration document, besides the settings file of every daemon."""


@start_command(main, port=3004, prefix="iserver", config=CONFIG)
@option(
    "--fdl",
    "fdl_files",
    type=EXISTING_FILE,
    multiple=True,
    help="FDL file, instead of the configuration's; repeatable.",
)
@option("--token", help="Authorises against the configuration server, and callers of sync.")
@option("--environment", callback=_check_environment, help="UUID of the environment to serve.")
@option("--config-server", metavar="URL", help="Where the configuration comes from.")
@seconds_option("--sync-interval", default=30.0, help="Seconds between two polls of the configuration server.")
@option(
    "--lenient-config",
    is_flag=True,
    help="Skip entries that name missing features, instead of rejecting the configuration.",
)
@option(
    "--warehouse",
    metavar="URL",
    help="Folder or URL of the tables; by default the configuration's, else in --data-dir.",
)
@option(
    "--table-format", type=click.Choice(get_args(TableFormat)), default="parquet", help="What the tables consist of."
)
@seconds_option(
    "--etl-interval", default=3600.0, help="Seconds between two times that finished sessions are written to the tables."
)
@option("--nolog", is_flag=True, help="Write nothing to the tables.")
@seconds_option(
    "--session-timeout", help="Seconds of inactivity after which a session ends; overrides the configuration (1800)."
)
@option("--journal", type=click.Choice(["on", "off"]), default="on", help="Store active sessions on disk.")
@option(
    "--journal-segment-bytes",
    type=click.IntRange(min=4096),
    default=JOURNAL_SEGMENT_BYTES,
    help="Size of a file of the log of active sessions; there are always a few.",
)
@option(
    "--accept-loss",
    is_flag=True,
    help="Start although files of --data-dir are missing or damaged; what is lost is logged.",
)
@option(
    "--sessions",
    metavar="URL",
    help="Redis with the sessions of several servers, as redis://HOST:PORT/DB; by default they are in --data-dir.",
)
@option("--sessions-prefix", default="iserver", help="Servers with the same prefix share their sessions there.")
@option(
    "--enable-cmd",
    is_flag=True,
    help="Serve cmd, which can end all sessions; on a public address it needs --cmd-token.",
)
@option(
    "--accept-fdl",
    is_flag=True,
    help="Serve the FDL compiler at /api/graphql and /fdl-push; FDL pushed with --token goes into --config.",
)
@option("--cmd-token", help="What callers of cmd must show.")
@option(
    "--cors-origins", multiple=True, metavar="ORIGIN", help="Browser pages that may call; by default all. Repeatable."
)
@seconds_option(
    "--drain-seconds",
    "drain_s",
    at_least=0,
    default=0.0,
    help="Seconds to go on serving after SIGTERM, while nsessions says 503.",
)
@option("--otel", metavar="URL", help="OpenTelemetry receiver to send metrics to, as http://HOST:4318 (OTLP).")
@seconds_option("--otel-interval", default=60.0, help="Seconds between two exports of the metrics.")
@option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE:CLASS",
    help="Plugin class, found on PYTHONPATH; repeatable.",
)
@option(
    "--plugin-timeout-ms",
    type=click.IntRange(min=1),
    default=200,
    help="Milliseconds that one call of a plugin may take.",
)
@option("--strict-plugins", is_flag=True, help="A plugin that fails is an error of the feature it should fill.")
def start(**flags: Any) -> None:
    """Serve features and record impressions."""
    options = ServerOptions.take(flags)
    settings = ServerSettings(
        data_dir=options.data_dir,
        prefix=options.prefix,
        config_file=flags.pop("config"),
        fdl_files=tuple(flags.pop("fdl_files")),
        cors_origins=tuple(flags.pop("cors_origins")),
        plugins=tuple(flags.pop("plugins")),
        journal=flags.pop("journal") == "on",
        **flags,
    )
    _require_configuration(settings)
    is_guarded = not settings.enable_cmd or settings.cmd_token is not None
    require_authentication(options, authenticated=is_guarded, how="--cmd-token")

    def build() -> Any:
        from iserver.daemon import Daemon  # after the flags are known to be right: it takes a moment to import

        return Daemon(settings)

    run_daemon("iserver", options, build)


def _require_configuration(settings: ServerSettings) -> None:
    """Fail when there is nothing to serve."""
    if settings.accept_fdl and (settings.token is None or settings.config_file is None or settings.fdl_files):
        raise click.UsageError("--accept-fdl needs --token and --config FILE.json, and no --fdl")
    if settings.config_server is not None:
        if settings.token is None or settings.environment is None:
            raise click.UsageError("--config-server needs --token and --environment")
    elif settings.config_file is None and not settings.fdl_files:
        raise click.UsageError(
            "nothing to serve: give --fdl FILE, --config FILE.json, "
            "or --config-server URL with --token and --environment"
        )

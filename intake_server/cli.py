"""The command ``intake_server``: flags to settings, nothing else."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from intake_server.settings import Settings
from shared import logs
from shared.cli import (
    EXISTING_FILE,
    ServerOptions,
    daemon_group,
    option,
    require_authentication,
    run_daemon,
    seconds_option,
    start_command,
)
from shared.errors import StartupError

if TYPE_CHECKING:
    from intake_server.auth.plugins import Plugin
    from shared.daemon import WebService

HELP = """Serve catalogs and data sources to intake clients (``intake.open_catalog("intake://host:port")``)."""
main = daemon_group("intake_server", HELP)


class SizeType(click.ParamType[int]):
    """A number of bytes, with an optional suffix K, M or G."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
        digits = text[:-1] if factor > 1 else text
        if not digits.isdigit() or int(digits) == 0:
            self.fail(f"{value!r} is not a number of bytes such as 1048576, 512K, 64M or 2G", parameter, context)
        return int(digits) * factor


SIZE = SizeType()


@start_command(main, port=5000)
@click.argument("catalogs", metavar="FILE...", nargs=-1, required=True)
@option("--flatten/--no-flatten", default=True, help="Several files: one name space, or one nested catalog a file.")
@seconds_option("--ttl", at_least=0, default=60.0, help="Seconds after which catalog files are looked at again.")
@option("--watch/--no-watch", default=True, help="Notice changed catalog files at once.")
@option("--list-entries", is_flag=True, help="Log the names of all entries at start.")
@click.option("--sys-exit-on-sigterm", is_flag=True, hidden=True, help="Accepted; SIGTERM always ends cleanly.")
@option("--auth-secret", help="Callers must send this in the header intake-secret.")
@option(
    "--api-keys",
    type=EXISTING_FILE,
    help="YAML file of API keys and what each may see.",
)
@option("--hide-denied", is_flag=True, help="Answer 404 instead of 403 for entries that a caller may not see.")
@option("--show-args", is_flag=True, help="List the arguments of entries that clients may not open themselves too.")
@option(
    "--pickle",
    is_flag=True,
    help="Send as pickle what nothing else can carry, to clients that accept it. Unsafe for them.",
)
@option(
    "--prefer",
    "prefer_compression",
    type=click.Choice(["none", "snappy", "gzip"]),
    default="none",
    help="Compression used whenever the client accepts it.",
)
@option(
    "--datasets-as",
    type=click.Choice(["map", "url"]),
    default="map",
    help="How data sets are described: map for clients with zarr 2, url for those with zarr 3.",
)
@option("--stringify", is_flag=True, help="Send frame columns of mixed types as text instead of refusing them.")
@option("--getenv/--no-getenv", default=True, help="Whether catalogs may use env().")
@option("--env-names", help="The only variables that env() may read, separated by commas.")
@option("--getshell/--no-getshell", default=False, help="Whether catalogs may run commands with shell().")
@option("--unconfined-paths", is_flag=True, help="Let parameter values lead out of the paths they are put into.")
@option(
    "--allow-override",
    "overrides",
    multiple=True,
    metavar="ENTRY:ARGUMENT",
    help="Let callers give an argument of an entry (* for all) directly. May be repeated.",
)
@option("--max-body", type=SIZE, default="1M", help="Largest request body.")
@option("--max-partition", type=SIZE, default=2**32 - 1, help="Largest partition, encoded.")
@option("--threads", type=click.IntRange(1, 256), default=4, help="Partitions read at the same time.")
@option("--open-threads", type=click.IntRange(1, 256), default=8, help="Opens and catalog loads at the same time.")
@option(
    "--queue", type=click.IntRange(0), default=512, help="Requests that may wait for a thread; further ones get 503."
)
@option("--cache", "cache_bytes", type=SIZE, default="256M", help="Memory for encoded partitions.")
@option("--exports", "export_bytes", type=SIZE, default="4G", help="Disk space for Parquet and other exports.")
@option(
    "--memory", "memory_bytes", type=SIZE, default="2G", help="Memory for answers being sent; beyond it reads get 503."
)
@seconds_option(
    "--idle", at_least=1, default=3600.0, help="Seconds after which an unused source is closed; its id stays valid."
)
@seconds_option(
    "--id-lifetime", "id_idle_s", at_least=1, default=604800.0, help="Seconds that an unused source id is valid."
)
@option("--max-ids", "max_ids", type=click.IntRange(1), default=100_000, help="Source ids remembered.")
@seconds_option("--open-timeout", default=60.0, help="Seconds an open may take.")
@seconds_option("--read-timeout", default=600.0, help="Seconds a read may take.")
@seconds_option("--send-timeout", default=60.0, help="Seconds a client may take no data.")
@option("--scheduler", help="Address of a dask scheduler whose workers do the reads, such as tcp://10.0.0.1:8786.")
@seconds_option(
    "--catalog-wait", at_least=0, default=0.25, help="Seconds a request waits for a catalog that is being read again."
)
def start(**flags: Any) -> None:
    """Serve catalogs: YAML files, folders, globs or URLs."""
    from intake_server.auth.configuration import config_path, read_config
    from intake_server.auth.plugins import BaseAuth

    context = click.get_current_context()
    options = ServerOptions.take(flags)
    logs.configure(options.log_level, options.log_format)
    classic = read_config(config_path(os.environ))
    options = _with_classic(options, classic)
    keeps = context.get_parameter_source("data_dir") is not ParameterSource.DEFAULT
    settings = _settings(flags, options.data_dir if keeps else None)
    try:
        plugin = _plugin(flags, classic)
    except StartupError as error:
        click.echo(f"intake_server: {error}", err=True)
        context.exit(1)
    require_authentication(options, authenticated=type(plugin) is not BaseAuth, how="--auth-secret or --api-keys")
    run_daemon("intake_server", options, lambda: _service(settings, plugin, options))


@main.command()
@click.argument("catalogs", metavar="FILE...", nargs=-1, required=True)
@click.option("--flatten/--no-flatten", default=True, help="Several files: one name space, or nested catalogs.")
@click.option("--getshell/--no-getshell", default=False, help="Whether catalogs may run commands with shell().")
def check(catalogs: tuple[str, ...], flatten: bool, getshell: bool) -> None:
    """Validate catalogs and say which entries open; the exit code is 1 when any does not."""
    logs.configure("error", "console")
    settings = Settings(catalogs=catalogs, flatten=flatten, getshell=getshell, watch=False)
    try:
        failed = asyncio.run(_check(settings))
    except StartupError as error:
        click.echo(f"intake_server: {error}", err=True)
        raise SystemExit(1) from error
    raise SystemExit(1 if failed else 0)


async def _check(settings: Settings) -> int:
    from intake_server.app import CatalogServer
    from intake_server.auth.authorizer import Caller
    from intake_server.auth.plugins import BaseAuth
    from intake_server.serving.check import EntryCheck

    server = CatalogServer(settings, BaseAuth())
    await server.start()
    caller = Caller({}, "everybody")
    check = EntryCheck(server.catalogs, server.contents, server.resolver, server.sources, caller)
    failed = 0
    async for finding in check.findings():
        failed += not finding.opens
        click.echo(f"{'ok    ' if finding.opens else 'FAILED'}  {finding.name}: {finding.detail}")
    problems = list(server.loader.problems())
    for problem in problems:
        click.echo(f"FAILED  {problem}")
    await server.close()
    return failed + len(problems)


def _classic_flags() -> None:
    """The short and old names of the shared options (§5)."""
    for parameter in start.params:
        if parameter.name == "port":
            parameter.opts.append("-p")
        elif parameter.name == "host":
            parameter.opts += ["-a", "--address"]


_classic_flags()


def _reject_remote_catalogs(catalogs: Sequence[str]) -> None:
    for catalog in catalogs:
        if catalog.startswith("intake://"):
            raise click.UsageError(f"{catalog}: another server's catalog cannot be served; name its files instead")


def _settings(flags: Mapping[str, Any], ids_folder: Path | None) -> Settings:
    _reject_remote_catalogs(flags["catalogs"])
    _check_scheduler(flags["scheduler"])
    values = {name: flags[name] for name in Settings.__slots__ if name in flags}
    names = flags["env_names"]
    return Settings(
        **{
            **values,
            "catalogs": tuple(flags["catalogs"]),
            "ids_folder": ids_folder,
            "confine_paths": not flags["unconfined_paths"],
            "env_names": None if names is None else frozenset(name.strip() for name in names.split(",")),
            "overrides": _overrides(flags["overrides"]),
        }
    )


def _check_scheduler(scheduler: str | None) -> None:
    if scheduler is not None and not re.fullmatch(r"[a-z]+://.+:\d+/?", scheduler):
        raise click.UsageError(f"--scheduler {scheduler}: expected an address such as tcp://10.0.0.1:8786")


def _overrides(given: tuple[str, ...]) -> dict[str, frozenset[str]]:
    collected: dict[str, set[str]] = {}
    for text in given:
        entry, _, argument = text.rpartition(":")
        if not entry or not argument:
            raise click.UsageError(f"--allow-override {text}: expected ENTRY:ARGUMENT")
        collected.setdefault(entry, set()).add(argument)
    return {entry: frozenset(arguments) for entry, arguments in collected.items()}


def _plugin(flags: Mapping[str, Any], classic: Mapping[str, Any]) -> Plugin:
    from intake_server.auth.configuration import plugin_from, read_keys
    from intake_server.auth.plugins import BaseAuth, SecretAuth

    if flags["auth_secret"] and flags["api_keys"]:
        raise click.UsageError("--auth-secret and --api-keys exclude each other")
    if flags["api_keys"]:
        return read_keys(flags["api_keys"])
    if flags["auth_secret"]:
        return SecretAuth(secret=flags["auth_secret"])
    return plugin_from(classic["auth"]) if classic.get("auth") else BaseAuth()


def _with_classic(options: ServerOptions, classic: Mapping[str, Any]) -> ServerOptions:
    """Take port, address and log level from the classic file where nothing else gives them."""
    port, address, level = classic.get("port"), classic.get("address"), str(classic.get("logging") or "").lower()
    return options.completed(
        port=port if isinstance(port, int) else None,
        host=address if isinstance(address, str) else None,
        log_level=level if level in get_args(logs.LogLevel) else None,
    )


def _service(settings: Settings, plugin: Plugin, options: ServerOptions) -> WebService:
    from intake_server.app import CatalogServer, make_app
    from intake_server.auth.plugins import SecretAuth
    from shared.daemon import WebService

    server = CatalogServer(settings, plugin)
    if isinstance(plugin, SecretAuth) and plugin.was_generated:
        click.echo(f"intake_server: the secret for the header {plugin.key} is {plugin.secret}", err=True)
    return WebService(make_app(server, options.prefix), reload=server.reload, handler_cancellation=True)

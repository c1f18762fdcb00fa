"""The command-line options by which both daemons take settings of the original."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

import click

from shared.cli import option

Command = TypeVar("Command", bound=Callable[..., Any])


def flag_options(function: Command) -> Command:
    """Add `--ini`, `--set` and `--compat-omit-host-port` to a click command."""
    for add in (
        option("--compat-omit-host-port", is_flag=True, help="Serve clients older than 2.5, such as pypegasus3."),
        option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of /configs; repeatable."),
        option(
            "--ini",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Configuration file of Apache Pegasus; its settings that /configs lists are taken.",
        ),
    ):
        function = add(function)
    return function


def take_flags(arguments: MutableMapping[str, Any]) -> dict[str, str]:
    """Move those options out of a click command's keyword arguments, as settings by name.

    Raises:
        click.UsageError: A setting is not of the form NAME=VALUE.
        StartupError: The configuration file is malformed.
    """
    from shared.pegasus.settings.flags import Flags, read_ini

    ini, pairs = arguments.pop("ini"), arguments.pop("settings")
    is_compat = arguments.pop("compat_omit_host_port")
    settings = {} if ini is None else read_ini(ini.read_text(encoding="utf-8"), Flags().catalog)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair}: expected NAME=VALUE")
        settings[name] = value
    if is_compat:
        settings["compat_omit_host_port"] = "true"
    return settings

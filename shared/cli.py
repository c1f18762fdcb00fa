"""The command line that every daemon has.

`iserver start --port 3004` and `iserver --port 3004` are the same. An option is taken from the first of: the flag,
the environment (`ISERVER_PORT`), the TOML file named by ``--config``, its default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

import click
from click.core import ParameterSource

from shared import logs
from shared.errors import StartupError
from shared.listener import Listener

if TYPE_CHECKING:
    from shared.daemon import Service

Command = TypeVar("Command", bound=Callable[..., Any])
AddOption = Callable[[Callable[..., Any]], Callable[..., Any]]

EXISTING_FILE: click.Path[Path] = click.Path(exists=True, dir_okay=False, path_type=Path)
"""The type of an option that names a file to read."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options that every daemon has.

    Attributes:
        host: Name or address to listen on.
        port: TCP port; 0 lets the system choose.
        prefix: First part of every URL path, without surrounding slashes; may be empty.
        data_dir: Folder for everything that the daemon keeps.
        log_level: The least important level that is written.
        log_format: ``auto``, ``console`` or ``json``.
        tls_cert: Certificate chain (PEM), None for plain HTTP.
        tls_key: Private key (PEM), None when it is in the certificate's file.
        insecure: Whether a public address without authentication is allowed.
    """

    host: str
    port: int
    prefix: str
    data_dir: Path
    log_level: logs.LogLevel
    log_format: logs.LogFormat
    tls_cert: Path | None
    tls_key: Path | None
    insecure: bool

    @classmethod
    def take(cls, flags: MutableMapping[str, Any]) -> ServerOptions:
        """Move the shared options out of a click command's keyword arguments.

        Raises:
            click.UsageError: A TLS key was given without a certificate.
        """
        flags.setdefault("prefix", "")
        options = cls(**{name: flags.pop(name) for name in cls.__slots__})
        if options.tls_key is not None and options.tls_cert is None:
            raise click.UsageError("--tls-key needs --tls-cert")
        return options

    def completed(self, **found: Any) -> ServerOptions:
        """These options, with values from elsewhere for those that nobody gave: by flag, environment or ``--config``.

        Args:
            found: Values by name; `None` for what is not known elsewhere either.
        """
        source = click.get_current_context().get_parameter_source
        unset = {name for name in found if source(name) is ParameterSource.DEFAULT}
        return replace(self, **{name: found[name] for name in unset if found[name] is not None})

    def listener(self, path: str | None = None) -> Listener:
        """Where to listen; `path` (default: the prefix) is only printed in the announcement."""
        shown = f"/{self.prefix}" if path is None and self.prefix else path or ""
        return Listener(self.host, self.port, self.tls_cert, self.tls_key, shown)


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command whose module is imported when it is used, so that others need not wait for it.

    Attributes:
        module: The module's name.
        attribute: The name of the click command in it.
        short_help: The command's first sentence.
    """

    module: str
    attribute: str
    short_help: str

    def load(self) -> click.Command:
        """Import the command."""
        command: click.Command = getattr(import_module(self.module), self.attribute)
        return command


class DaemonGroup(click.Group):
    """The commands of one daemon; what names none of them is an argument of ``start``."""

    default_command = "start"
    lazy_commands: Mapping[str, LazyCommand] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.lazy_commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.lazy_commands.get(cmd_name)
        return super().get_command(ctx, cmd_name) if lazy is None else lazy.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(name, limit)) for name in names])

    def _short_help(self, name: str, limit: int) -> str:
        lazy = self.lazy_commands.get(name)
        known = self.commands[name] if lazy is None else click.Command(name, help=lazy.short_help)
        return known.get_short_help_str(limit)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or not self._is_ours(args[0]):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)

    def _is_ours(self, word: str) -> bool:
        if word in self.commands or word in self.lazy_commands or word in ("--help", "--version"):
            return True
        start = self.commands[self.default_command]
        takes_arguments = any(isinstance(parameter, click.Argument) for parameter in start.params)
        return not (word.startswith("-") or takes_arguments)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        start = self.commands[self.default_command]
        with start.make_context(self.default_command, [], parent=ctx, resilient_parsing=True) as start_ctx:
            records = [record for option in start.params if (record := option.get_help_record(start_ctx))]
        with formatter.section("Options of start, the default command"):
            formatter.write_dl(records)


def daemon_group(name: str, help_text: str, lazy_commands: Mapping[str, LazyCommand] | None = None) -> DaemonGroup:
    """The command group of a daemon, with ``--version``; add ``start`` with `start_command`."""
    group = DaemonGroup(name=name, help=help_text, context_settings={"help_option_names": ["--help"]})
    group.lazy_commands = lazy_commands or {}
    return click.version_option(package_name="entrepot", prog_name=name)(group)


def start_command(
    group: DaemonGroup, *, port: int, prefix: str | None = "", config: AddOption | None = None
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function the ``start`` command of a group, with the options that every daemon has.

    Every option can also be given in the environment: ``--etl-interval`` of iserver as ``ISERVER_ETL_INTERVAL``.

    Args:
        group: The daemon's group.
        port: Default port.
        prefix: Default URL prefix; None when the protocol has none.
        config: A ``--config`` of its own, made with `config_option`.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        decorated = server_options(port=port, prefix=prefix, config=config)(function)
        command = group.command("start", help=function.__doc__)(decorated)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.envvar is None:
                parameter.envvar = f"{group.name}_{setting_name(parameter)}".upper()
        return command

    return decorate


def setting_name(parameter: click.Parameter) -> str:
    """What an option is called in settings files and the environment: its long flag, with underscores."""
    flags = [flag for flag in parameter.opts if flag.startswith("--")]
    return (flags[0].removeprefix("--") if flags else parameter.name or "").replace("-", "_")


def server_options(
    *, port: int, prefix: str | None = "", config: AddOption | None = None
) -> Callable[[Command], Command]:
    """Add the options of `ServerOptions`, and ``--config``, to a click command."""
    options: list[AddOption] = [
        option("--host", default="127.0.0.1", help="Name or address to listen on."),
        option("--port", type=click.IntRange(0, 65535), default=port, help="Port to listen on; 0 takes a free one."),
        *([_prefix_option(prefix)] if prefix is not None else []),
        config or config_option(),
        option(
            "--data-dir",
            type=click.Path(path_type=Path),
            default=Path("data"),
            help="Folder for everything that is kept.",
        ),
        option(
            "--log-level",
            type=click.Choice(get_args(logs.LogLevel)),
            default="info",
            help="The least important level that is logged.",
        ),
        option(
            "--log-format",
            type=click.Choice(get_args(logs.LogFormat)),
            default="auto",
            help="auto: console lines on a terminal, JSON lines otherwise.",
        ),
        option("--tls-cert", type=EXISTING_FILE, help="Certificate chain (PEM); serves HTTPS."),
        option("--tls-key", type=EXISTING_FILE, help="Private key (PEM), unless it is in the certificate's file."),
        option("--insecure", is_flag=True, help="Allow a public address without authentication."),
    ]

    def decorate(function: Command) -> Command:
        for add in reversed(options):
            add(function)  # click notes it on the function
        return function

    return decorate


def _prefix_option(default: str) -> Callable[[Command], Command]:
    return option("--prefix", default=default, callback=_strip_slashes, help="First part of every URL path.")


def option(*declarations: str, **attributes: Any) -> Callable[[Command], Command]:
    """A click option whose help shows its default and its environment variable."""
    attributes.setdefault("show_default", not attributes.get("is_flag", False))
    return click.option(*declarations, show_envvar=True, **attributes)


def seconds_option(
    flag: str, name: str | None = None, *, at_least: float = 0.1, default: float | None = None, help: str
) -> Callable[[Command], Command]:
    """An option for a time in seconds, passed on as a float whose name ends in ``_s``.

    Args:
        flag: Such as ``--etl-interval``.
        name: What it is passed on as; by default ``etl_interval_s``.
        at_least: The shortest time that is taken.
        default: Its default, `None` when there is none.
        help: What it is for; says "seconds" itself.
    """
    name = name or flag.removeprefix("--").replace("-", "_") + "_s"
    return option(flag, name, type=click.FloatRange(min=at_least), default=default, help=help)


def config_option(**attributes: Any) -> Callable[[Command], Command]:
    """The ``--config`` option: a TOML file of settings, read before all other options."""
    return option(
        "--config",
        **{
            "type": EXISTING_FILE,
            "is_eager": True,
            "expose_value": False,
            "callback": _read_config,
            "help": "TOML file of settings, named like the long options.",
        }
        | attributes,
    )


def _read_config(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not ctx.resilient_parsing:
        apply_settings_file(ctx, path)
    return path


def apply_settings_file(ctx: click.Context, path: Path) -> None:
    """Make the values of a TOML file the defaults of a command's options.

    Raises:
        click.UsageError: The file is not TOML, or names a setting that the command does not have.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.UsageError(f"{path}: {error}") from error
    known = {setting_name(parameter): parameter.name or "" for parameter in ctx.command.params}
    values = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {close[0].replace('_', '-')!r}?)" if close else ""
            raise click.UsageError(f"{path}: unknown setting {key!r}{hint}")
        values[known[name]] = value
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _strip_slashes(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    prefix = value.strip("/")
    if not re.fullmatch(r"[0-9A-Za-z._~/-]*", prefix) or "//" in prefix:
        raise click.BadParameter(f"{value!r} is not a path of letters, digits, '.', '_', '~', '-' and single '/'")
    return prefix


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_authentication(options: ServerOptions, *, authenticated: bool, how: str) -> None:
    """Refuse to serve the public without authentication.

    Args:
        options: The daemon's options.
        authenticated: Whether callers must prove who they are.
        how: The options that would turn authentication on, for the message.

    Raises:
        click.UsageError: The address is public, nothing authenticates, and ``--insecure`` was not given.
    """
    if not (authenticated or options.insecure or is_loopback(options.host)):
        raise click.UsageError(
            f"--host {options.host} can be reached from other machines: give {how}, or --insecure if that is meant"
        )


def run_daemon(
    name: str, options: ServerOptions, build: Callable[[], Service], *, listener: Listener | None = None
) -> None:
    """Configure logs, build the service, serve, and end the process with its exit code.

    Args:
        name: The daemon's command, for messages.
        options: The shared options.
        build: Makes the service; may raise `StartupError`.
        listener: Where to listen, when it is not simply what the options say.
    """
    from shared.daemon import serve  # brings the HTTP server, which `--help` need not wait for

    logs.configure(options.log_level, options.log_format)
    before = set(threading.enumerate())
    try:
        code = serve(name, listener or options.listener(), build())
    except StartupError as error:
        click.echo(f"{name}: {error}", err=True)
        code = 1
    _leave(code, before)


def _leave(code: int, before: set[threading.Thread]) -> NoReturn:
    """End the process, also when a start that was given up has left threads that nobody will stop."""
    left = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    if left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

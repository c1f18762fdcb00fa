"""How a gateway is started, and the channel file and keys that follow from it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway.auth import Access, Credential, Rights
from gateway.config.declared import Declared
from gateway.config.loader import parse_channel_file
from gateway.config.models import ApiKeySection
from gateway.config.references import FileReferences
from gateway.config.text import ChannelFileError
from gateway.modules.builtin.demo import demo_file
from shared.auth import equal, generate_key
from shared.errors import StartupError

log = structlog.get_logger("gateway.app")


@dataclass(frozen=True)
class Settings:
    """How a gateway is started.

    Attributes:
        channel_file: The channel file; None runs the demo.
        overrides: Settings put over the file's, such as ``server.title=Prices``.
        journal: Where the journal is, or None.
        bus: The Redis that joins this gateway with others, ``redis://HOST:PORT/DB#NAME``, or None.
        environment: Where ``${ENV:NAME}`` looks.
    """

    channel_file: Path | None = None
    overrides: tuple[str, ...] = ()
    journal: Path | None = None
    bus: str | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))


def read_declared(settings: Settings) -> Declared:
    """Read the channel file.

    Raises:
        StartupError: It cannot be read, or something in it is wrong.
    """
    path = settings.channel_file
    try:
        text = demo_file() if path is None else path.read_text(encoding="utf-8")
        name = "demo.yml" if path is None else str(path)
        references = FileReferences(Path.cwd() if path is None else path.parent)
        return parse_channel_file(text, name, settings.environment, references, settings.overrides)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StartupError(f"cannot read {path}: {reason}") from error
    except ChannelFileError as error:
        raise StartupError(str(error)) from error


def access_of(options: ApiKeySection | None) -> Access:
    """The keys of a channel file; a section without keys gets a fresh one, which is logged."""
    if options is None:
        return Access([], equal)
    credentials = []
    for number, given in enumerate(options.keys, start=1):
        if isinstance(given, str):
            credentials.append(Credential(given, Rights(name=f"key {number}")))
        else:
            channels = None if given.channels is None else frozenset(given.channels)
            rights = Rights(given.name or f"key {number}", given.read_only, channels)
            credentials.append(Credential(given.key, rights))
    if not credentials:
        key = generate_key()
        log.warning("no API key is configured: this one was generated", key=key)
        credentials.append(Credential(key, Rights(name="generated")))
    return Access(credentials, equal, options.trusted_networks)

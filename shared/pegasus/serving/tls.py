"""TLS between the servers of a cluster, their clients and the commands of operators.

A cluster speaks TLS or it does not: with a certificate a server takes RPC and HTTP over TLS only, and calls the other
servers of its cluster over TLS as well. Clients of Apache Pegasus do not speak TLS and cannot use such a cluster.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from shared.cli import EXISTING_FILE, ServerOptions, option
from shared.errors import StartupError

__all__ = ["client_context", "cluster_tls", "tls_ca_option"]

Command = TypeVar("Command", bound=Callable[..., Any])

tls_ca_option = option(
    "--tls-ca",
    type=EXISTING_FILE,
    help="Certificates (PEM) by which the other servers of the cluster are known; goes with --tls-cert.",
)
"""The option of a daemon that says whom it trusts when it calls other servers."""


def client_context(authority: Path) -> ssl.SSLContext:
    """A TLS context that trusts the servers that an authority has certified, each for the address that it is called by.

    Raises:
        ValueError: The file has no certificates.
    """
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"cannot use the TLS certificates {authority}: {error}") from error


def cluster_tls(options: ServerOptions, authority: Path | None) -> ssl.SSLContext | None:
    """How a daemon calls the other servers of its cluster; None when the cluster does not speak TLS.

    Args:
        options: The options of every daemon.
        authority: What ``--tls-ca`` says.

    Raises:
        click.UsageError: There is a certificate and no authority, or the other way round.
        StartupError: The file of the authority has no certificates.
    """
    if (authority is None) != (options.tls_cert is None):
        given, missing = ("--tls-cert", "--tls-ca") if authority is None else ("--tls-ca", "--tls-cert")
        raise click.UsageError(f"{given} needs {missing}: a cluster speaks TLS between all its servers, or not at all")
    try:
        return None if authority is None else client_context(authority)
    except ValueError as error:
        raise StartupError(str(error)) from error

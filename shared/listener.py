"""Where a daemon listens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a daemon listens.

    Attributes:
        host: A name or an address; ``localhost`` is every loopback address that it resolves to.
        port: A TCP port; 0 lets the system choose a free one.
        tls_cert: Certificate chain in PEM format; None speaks plain HTTP.
        tls_key: Private key in PEM format; None when it is in the same file.
        path: The path under which clients find the protocol, for the announcement only.
    """

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    path: str = ""

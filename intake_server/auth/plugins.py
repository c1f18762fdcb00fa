"""Who may connect, and who may see which entry (protocol §7).

The two classic plugins work here without the classic package, under their classic names. A policy of API keys
with access lists is ours. Any other class with the same two methods can be named instead.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from intake_server.catalog.model import PathEntry

FORBIDDEN = "Access forbidden"


class SourceView:
    """What auth plugins see of an entry: an entry or an opened source, whichever they expect."""

    def __init__(self, found: PathEntry) -> None:
        entry = found.entry
        self.name = entry.name
        self.metadata = self._metadata = dict(entry.metadata)
        self.path = found.names
        self.description = entry.description

    def describe(self) -> dict[str, Any]:
        """The entry's description."""
        return {"name": self.name, "metadata": self.metadata}


class CatalogView:
    """What auth plugins see of a catalog."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = dict(metadata)


class Plugin(Protocol):
    """An auth plugin; other packages have such classes."""

    def allow_connect(self, header: Mapping[str, str]) -> bool:
        """Whether a caller may talk to the server at all."""

    def allow_access(self, header: Mapping[str, str], source: Any, catalog: Any) -> bool:
        """Whether a caller may see and open an entry."""


class BaseAuth:
    """Everybody may do everything."""

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        """Accepts and ignores any argument, as the classic class does."""

    def allow_connect(self, header: Mapping[str, str]) -> bool:  # noqa: ARG002 - the interface of plugins
        return True

    def allow_access(self, header: Mapping[str, str], source: Any, catalog: Any) -> bool:  # noqa: ARG002
        return True

    def get_case_insensitive(self, dictionary: Mapping[str, Any], key: str, default: Any = None) -> Any:
        """The value of a header, whatever the case of its name."""
        lowered = key.lower()
        return next((value for name, value in dictionary.items() if name.lower() == lowered), default)


class SecretAuth(BaseAuth):
    """Everybody who knows one secret may do everything.

    Args:
        secret: The secret; None makes one up, to be read from `secret` and shown to the operator.
        key: The header that carries it.
    """

    def __init__(self, secret: str | None = None, key: str = "intake-secret") -> None:
        super().__init__()
        self.was_generated = secret is None
        self.secret = secrets.token_hex(16) if secret is None else str(secret)
        self.key = key

    def allow_connect(self, header: Mapping[str, str]) -> bool:
        given = self.get_case_insensitive(header, self.key, "")
        return hmac.compare_digest(str(given).encode(), self.secret.encode())


@dataclass(frozen=True, slots=True)
class Grant:
    """What one API key, or nobody in particular, may see.

    Attributes:
        name: Whose key it is, for logs.
        digest: SHA-256 of the key, in hexadecimal digits; None for callers without a key.
        allow: Patterns of dotted entry paths; a catalog's path grants everything in it.
        deny: Patterns of paths that are not granted after all.
    """

    name: str
    digest: str | None
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def covers(self, path: Sequence[str]) -> bool:
        """Whether the grant covers an entry: it, or a catalog above it, is allowed, and none of these is denied.

        A catalog on the way to something allowed is covered too, so that callers can get there.
        """
        above = _above(path)
        if self.denies(path):
            return False
        return any(_fits(name, pattern) for name in above for pattern in self.allow) or any(
            _leads_to(above[-1], pattern) for pattern in self.allow
        )

    def denies(self, path: Sequence[str]) -> bool:
        """Whether an entry, or a catalog above it, is denied by name."""
        return any(_fits(name, pattern) for name in _above(path) for pattern in self.deny)


class KeyAuth:
    """API keys, each with its own access list, besides what callers without a key may see and it does not deny.

    Args:
        grants: The keys; at most one without a digest, for callers without a key.
    """

    def __init__(self, grants: Sequence[Grant]) -> None:
        self._keyed = tuple(grant for grant in grants if grant.digest is not None)
        self._anonymous = next((grant for grant in grants if grant.digest is None), None)

    def grant(self, header: Mapping[str, str]) -> Grant | None:
        """The grant of a caller: by its key; without a key the anonymous one; None for a wrong key."""
        key = api_key(header)
        if key is None:
            return self._anonymous
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = None
        for grant in self._keyed:
            if hmac.compare_digest(digest, grant.digest or ""):
                found = grant
        return found

    def allow_connect(self, header: Mapping[str, str]) -> bool:
        return self.grant(header) is not None

    def allow_access(self, header: Mapping[str, str], source: Any, catalog: Any) -> bool:  # noqa: ARG002
        grant, open_to_all = self.grant(header), self._anonymous
        if grant is None or grant.covers(source.path):
            return grant is not None
        return open_to_all is not None and not grant.denies(source.path) and open_to_all.covers(source.path)


def api_key(header: Mapping[str, str]) -> str | None:
    """The key of a request: bearer token, password of basic authentication, ``x-api-key`` or ``intake-secret``."""
    scheme, _, credential = header.get("Authorization", "").partition(" ")
    credential = credential.strip()
    if scheme.lower() == "bearer" and credential:
        return credential
    if scheme.lower() == "basic" and credential:
        try:
            return base64.b64decode(credential, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return header.get("x-api-key") or header.get("intake-secret") or None


def audience(plugin: Plugin, header: Mapping[str, str]) -> Hashable:
    """Who a caller is as far as listings go: callers of one audience see the same. None when only the plugin knows."""
    if type(plugin) in (BaseAuth, SecretAuth):
        return "everybody"
    if isinstance(plugin, KeyAuth):
        grant = plugin.grant(header)
        return ("grant", grant.name) if grant is not None else None
    return None


def sees_everything(plugin: Plugin) -> bool:
    """Whether whoever may connect may also see every entry."""
    return type(plugin) in (BaseAuth, SecretAuth)


def _above(path: Sequence[str]) -> list[str]:
    """An entry and the catalogs above it, as dotted names."""
    return [".".join(path[: size + 1]) for size in range(len(path))]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


def _leads_to(catalog: str, pattern: str) -> bool:
    """Whether a pattern names something inside a catalog."""
    parts = pattern.split(".")
    return any(
        _fits(catalog, ".".join(parts[:size])) and not re.fullmatch(r"[*?]+", ".".join(parts[:size]))
        for size in range(1, len(parts))
    )

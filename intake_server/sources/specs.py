"""Source specs: what a source id stands for.

A spec says how to open an entry, or how to search a catalog, again. It takes a few hundred bytes and outlives the open
source by far. Its id is a keyed MAC over its content, so that equal specs have equal ids, in every process that has the
key, and nobody can guess one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from intake_server.catalog.model import Entry, PathEntry
from intake_server.catalog.search import Query
from intake_server.serialization.control import pack, plain, unpack

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAC_BYTES = 24
_BASE_BYTES = 1000
FILE_BYTES = 300
"""What one listed file takes, about."""
_STORED = ("parent", "name", "digest", "parameters", "version", "pin")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """How to open an entry, or to search a catalog, again.

    Attributes:
        parent: Id of the catalog that was asked, None for the root.
        name: The entry's name there; empty for a search.
        digest: The fingerprint of the entry's definition when it was opened.
        parameters: The caller's values that differ from the defaults.
        version: Which state of the data was opened; empty for catalogs.
        pin: Which files the open source consisted of, for the driver; not part of the identity beyond `version`.
        query: For a search: what was looked for.
        path: The path to the entry, itself last, or to the catalog that was searched: whoever uses the id must be
            allowed everything on it. Not stored.
    """

    parent: str | None
    name: str = ""
    digest: bytes = b""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    pin: Any = None
    query: Query | None = None
    path: tuple[PathEntry, ...] = ()

    @classmethod
    def of(
        cls,
        parent: str | None,
        name: str,
        path: tuple[PathEntry, ...],
        parameters: Mapping[str, Any],
        version: str = "",
        pin: Any = None,
    ) -> SourceSpec:
        """The spec of an entry, the last of a path."""
        return cls(parent, name, path[-1].entry.digest(), parameters, version, pin, path=path)

    @property
    def entry(self) -> Entry:
        """The entry of a spec that is no search."""
        return self.path[-1].entry

    def source_id(self, key: bytes) -> str:
        """Its id: 192 bits of a keyed MAC, in 32 characters that are safe in a header."""
        mac = hmac.digest(key, self._identity(), hashlib.sha256)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac).decode("ascii")

    def _identity(self) -> bytes:
        """Everything that makes two specs different, packed."""
        identity: list[Any]
        if self.query is not None:
            identity = ["search", self.parent, self.query.text, self.query.depth]
        else:
            values = [[name, plain(self.parameters[name])] for name in sorted(self.parameters)]
            identity = ["entry", self.parent, self.name, self.digest, values, self.version]
        packed: bytes = msgpack.packb(identity, use_bin_type=True)
        return packed

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        if self.query is not None:
            return _BASE_BYTES + 4 * len(self.query.text)
        files = len(self.pin) if isinstance(self.pin, list) else 1
        return _BASE_BYTES + files * FILE_BYTES + 2 * len(self._identity())

    def packed(self) -> bytes:
        """What is stored of it."""
        stored = {name: getattr(self, name) for name in _STORED}
        text, depth = (None, 0) if self.query is None else (self.query.text, self.query.depth)
        return pack({**stored, "parameters": dict(self.parameters), "text": text, "depth": depth})

    @classmethod
    def unpacked(cls, data: bytes) -> SourceSpec:
        """A stored spec, without its path.

        Raises:
            MalformedMessage, TypeError: The bytes are something else.
        """
        stored = dict(unpack(data))
        text, depth = stored.pop("text", None), stored.pop("depth", 0)
        return cls(**stored, query=None if text is None else Query(text, depth))


def is_id(text: str) -> bool:
    """Whether a text can be an id at all."""
    return ID.fullmatch(text) is not None

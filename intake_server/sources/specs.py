"""Recipes: what a source id stands for.

A recipe says how to open something again; it is a few hundred bytes and outlives the open source by far. Its id is
a keyed MAC over its content, so that equal recipes have equal ids, in every process that has the key, and nobody
can guess one.
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

from intake_server.catalog.model import Entry, Step
from intake_server.catalog.search import Query
from intake_server.serialization.control import plain

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAC_BYTES = 24
_BASE_BYTES = 1000
FILE_BYTES = 300
"""What one listed file takes, about."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to open an entry again.

    Attributes:
        parent: Id of the catalog that was asked, None for the root.
        name: The entry's name there.
        entry: The entry as it was defined when it was opened.
        parameters: The caller's values that differ from the defaults.
        version: Which state of the data was opened; empty for catalogs.
        trail: The way there, the entry itself last: whoever uses the id must be allowed every step.
        pin: Which files the open source consisted of, for the driver; not part of the identity beyond `version`.
    """

    parent: str | None
    name: str
    entry: Entry
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    trail: tuple[Step, ...] = ()
    pin: Any = None

    def identity(self) -> list[Any]:
        """Everything that makes two recipes different, as plain values."""
        values = [[name, plain(self.parameters[name])] for name in sorted(self.parameters)]
        return ["entry", self.parent, self.name, self.entry.digest(), values, self.version]

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        files = len(self.pin) if isinstance(self.pin, list) else 1
        return _BASE_BYTES + files * FILE_BYTES + 2 * len(msgpack.packb(self.identity(), use_bin_type=True))


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """How to search again.

    Attributes:
        parent: Id of the catalog that was searched, None for the root.
        query: What was looked for.
        trail: The way to the catalog that was searched: whoever uses the id must be allowed every step.
    """

    parent: str | None
    query: Query
    trail: tuple[Step, ...] = ()

    def identity(self) -> list[Any]:
        """Everything that makes two recipes different, as plain values."""
        return ["search", self.parent, self.query.text, self.query.depth]

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return _BASE_BYTES + 4 * len(self.query.text)


AnyRecipe = Recipe | SearchRecipe


def recipe_id(recipe: AnyRecipe, key: bytes) -> str:
    """The id of a recipe: 192 bits of a keyed MAC, in 32 characters that are safe in a header."""
    packed: bytes = msgpack.packb(recipe.identity(), use_bin_type=True)
    mac = hmac.digest(key, packed, hashlib.sha256)[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac).decode("ascii")


def is_id(text: str) -> bool:
    """Whether a text can be an id at all."""
    return ID.fullmatch(text) is not None

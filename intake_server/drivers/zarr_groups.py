"""Zarr groups as catalogs: groups are nested catalogs, arrays are ``ndzarr`` entries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import zarr

from intake_server.catalog.model import Catalog, DriverChoice, Entry, Scope
from intake_server.drivers.base import Unopenable, take
from intake_server.drivers.ndzarr import ZARR_ERRORS
from intake_server.serialization.control import pack

NAME = "zarr_cat"


class UnreadableGroup(Exception):  # noqa: N818 - reported to the caller
    """The store has no such group."""


def group_loader(
    arguments: Mapping[str, Any], scope: Scope, metadata: Mapping[str, Any], name: str
) -> Callable[[Any], Catalog]:
    """What reads a group as a catalog.

    Raises:
        Unopenable: The arguments are wrong.
    """
    urlpath, storage_options, component, consolidated, _ = take(
        arguments, NAME, urlpath=..., storage_options=None, component=None, consolidated=None, name=None
    )
    if not isinstance(urlpath, str):
        raise Unopenable("zarr_cat: 'urlpath' must be a text")

    def load(_before: Any) -> Catalog:
        try:
            group = zarr.open_group(
                urlpath,
                path=component or "",
                mode="r",
                storage_options=storage_options or None,
                use_consolidated=consolidated,
            )
            members = sorted(group.members())
            attributes = dict(group.attrs)
        except ZARR_ERRORS as error:
            raise UnreadableGroup(f"{urlpath}: {error}") from error
        base = {"urlpath": urlpath, **({"storage_options": storage_options} if storage_options else {})}
        entries = {
            member: _entry(member, isinstance(node, zarr.Group), base, component, scope, dict(node.attrs))
            for member, node in members
        }
        digest = hashlib.blake2b(pack([[key, entry.digest()] for key, entry in entries.items()]), digest_size=12)
        return Catalog(name, entries, scope, {**metadata, **attributes}, generation=digest.hexdigest())

    return load


def _entry(
    name: str, is_group: bool, base: Mapping[str, Any], component: Any, scope: Scope, metadata: Mapping[str, Any]
) -> Entry:
    driver = NAME if is_group else "ndzarr"
    path = f"{component}/{name}" if component else name
    return Entry(
        name=name,
        drivers=(DriverChoice(driver, driver),),
        scope=scope,
        arguments={**base, "component": path},
        metadata=metadata,
        is_literal=True,
    )

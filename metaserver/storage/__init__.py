"""Durable storage of the metadata.

A store loads all metadata and commits one change at a time, wholly or not at all; `sqlite` keeps it in one file.
Knows the values of `cluster` and nothing of the service that commits them.
Start with `MetadataStore` below.
"""

from __future__ import annotations

from typing import Protocol

from metaserver.cluster.metadata import Change, Metadata


class StoreError(Exception):
    """A change could not be made durable; nothing of it was stored."""


class MetadataStore(Protocol):
    """Keeps metadata; what `commit` has returned for survives any crash."""

    async def load(self) -> Metadata:
        """Everything that was committed."""

    async def commit(self, change: Change) -> None:
        """Make a change durable, wholly or not at all.

        Raises:
            StoreError: It is not durable: the disk is full or broken.
        """

    async def close(self) -> None:
        """Finish what is under way, then close."""

"""What the operator may decide, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one running catalog server.

    Attributes:
        catalogs: The files, folders, globs or URLs to serve.
        flatten: Whether several files become one name space.
        ttl_s: How old a catalog may be before its files are looked at again, in seconds.
        watch: Whether changed catalog files are noticed at once.
        catalog_wait_s: How long a request waits for a catalog to be looked at again before the last state is used.
        list_entries: Whether entry names are logged at start.
        show_args: Whether listings carry the arguments of entries that clients may not open themselves.
        pickle: Whether data that nothing else can carry may be sent as pickle.
        prefer_compression: ``none``, ``snappy`` or ``gzip``: used whenever the client accepts it.
        datasets_as: How data sets are described to clients that do not say what they take: ``map`` or ``url``.
        stringify: Whether frame columns of mixed types are sent as text instead of refused.
        getenv: Whether catalogs may use ``env()``.
        env_names: The only variables ``env()`` may read, None for all.
        getshell: Whether catalogs may use ``shell()``.
        confine_paths: Whether parameter values are kept from leading out of a path.
        overrides: Arguments that callers may give directly, by entry (``*`` for all).
        max_body: Largest request body, in bytes.
        max_partition: Largest partition, encoded, in bytes.
        threads: How many partitions are read at once.
        open_threads: How many opens, listings and catalog loads run at once.
        queue: How many requests may wait for a thread before further ones are told to come back.
        cache_bytes: Size of the cache of encoded partitions, in bytes.
        export_bytes: Disk space for exports that are made as a whole, and the size of the largest one, in bytes.
        memory_bytes: Largest size of all answers in flight together, in bytes.
        idle_s: How long an open source is kept unused, in seconds.
        id_idle_s: How long a source id is valid unused, in seconds.
        max_ids: How many source ids are remembered.
        open_timeout_s: How long an open or a catalog load may take, in seconds.
        read_timeout_s: How long a read may take, in seconds.
        send_timeout_s: How long a client may take no data before its answer is given up, in seconds.
        ids_folder: Where source ids are kept so that they survive a restart, None to forget them.
        scheduler: Address of a dask scheduler that does the reads, None to do them here.
        hide_denied: Whether an entry that the caller may not access answers 404 instead of 403.
    """

    catalogs: tuple[str, ...]
    flatten: bool = True
    ttl_s: float = 60.0
    watch: bool = True
    catalog_wait_s: float = 0.25
    list_entries: bool = False
    show_args: bool = False
    pickle: bool = False
    prefer_compression: str = "none"
    datasets_as: str = "map"
    stringify: bool = False
    getenv: bool = True
    env_names: frozenset[str] | None = None
    getshell: bool = False
    confine_paths: bool = True
    overrides: Mapping[str, frozenset[str]] = field(default_factory=dict)
    max_body: int = MEBIBYTE
    max_partition: int = 2**32 - 1
    threads: int = 4
    open_threads: int = 8
    queue: int = 512
    cache_bytes: int = 256 * MEBIBYTE
    export_bytes: int = 4096 * MEBIBYTE
    memory_bytes: int = 2048 * MEBIBYTE
    idle_s: float = 3600.0
    id_idle_s: float = 7 * 86400.0
    max_ids: int = 100_000
    open_timeout_s: float = 60.0
    read_timeout_s: float = 600.0
    send_timeout_s: float = 60.0
    ids_folder: Path | None = None
    scheduler: str | None = None
    hide_denied: bool = False

"""How RocksDB is opened, from the settings of the original, and what its failures are here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, WriteBufferManager, WriteOptions

from replicaserver.rows.store import UnreadableError
from shared.pegasus.settings.flags import Flags

T = TypeVar("T")

_WOULD_WAIT = "Result incomplete"

_COMPRESSIONS: Mapping[str, Callable[[], DBCompressionType]] = {
    "none": DBCompressionType.none,
    "snappy": DBCompressionType.snappy,
    "lz4": DBCompressionType.lz4,
    "zstd": DBCompressionType.zstd,
}


class StoreError(UnreadableError):
    """RocksDB rejects a call or fails; the text is its own."""


class StallError(StoreError):
    """RocksDB would have to wait for its files to be written or compacted; nothing was changed."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How stores are opened; the names and meanings are RocksDB's.

    Attributes:
        levels: Number of levels of the LSM tree.
        write_buffer_bytes: Size of one memtable.
        compression: One of none, snappy, lz4, zstd.
        block_cache: Shared by all stores of a process.
        write_buffers: Bounds the memtables of all stores of a process together; None for no bound.
        allow_ingest_behind: Whether the deepest level is kept free for files that are ingested behind all rows.
    """

    levels: int
    write_buffer_bytes: int
    max_write_buffers: int
    compression: str
    bloom_bits_per_key: float
    level_base_bytes: int
    target_file_bytes: int
    level0_trigger: int
    max_open_files: int
    block_cache: Cache
    write_buffers: WriteBufferManager | None = None
    allow_ingest_behind: bool = False


def store_settings(flags: Flags, block_cache_mb: int, write_buffers_mb: int) -> StoreSettings:
    """How stores are opened.

    Args:
        flags: The settings of the original.
        block_cache_mb: Memory for blocks of all stores together.
        write_buffers_mb: Memory for memtables of all stores together.
    """
    return StoreSettings(
        levels=flags.integer("rocksdb_num_levels"),
        write_buffer_bytes=flags.integer("rocksdb_write_buffer_size"),
        max_write_buffers=flags.integer("rocksdb_max_write_buffer_number"),
        compression=flags.text("rocksdb_compression_type"),
        bloom_bits_per_key=(
            0.0 if flags.boolean("rocksdb_disable_bloom_filter") else flags.number("rocksdb_bloom_filter_bits_per_key")
        ),
        level_base_bytes=flags.integer("rocksdb_max_bytes_for_level_base"),
        target_file_bytes=flags.integer("rocksdb_target_file_size_base"),
        level0_trigger=flags.integer("rocksdb_level0_file_num_compaction_trigger"),
        max_open_files=flags.integer("rocksdb_max_open_files"),
        block_cache=Cache(block_cache_mb << 20),
        write_buffers=WriteBufferManager(write_buffers_mb << 20, False),
    )


def guarded(work: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call the binding.

    Raises:
        StoreError: It failed.
    """
    try:
        return work(*arguments, **named)
    except Exception as error:  # the binding raises bare Exceptions with RocksDB's own text
        kind = StallError if str(error).startswith(_WOULD_WAIT) else StoreError
        raise kind(str(error)) from error


def write_options(*, at_once: bool) -> WriteOptions:
    """Writes into memory alone; `at_once` fails where they would have to wait."""
    options: Any = WriteOptions()  # its stubs take attributes for methods
    options.disable_wal = True
    options.no_slowdown = at_once
    return cast(WriteOptions, options)


def engine_options(settings: StoreSettings) -> Options:
    """The options of RocksDB for a store and its column families."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_num_levels(settings.levels)
    options.set_atomic_flush(True)  # rows and notes go into files together: a checkpoint has both as of one moment
    if settings.allow_ingest_behind:
        options.set_allow_ingest_behind(True)
        options.set_level_compaction_dynamic_level_bytes(False)  # it would fill the deepest level first
    options.set_write_buffer_size(settings.write_buffer_bytes)
    options.set_max_write_buffer_number(settings.max_write_buffers)
    options.set_compression_type(_COMPRESSIONS[settings.compression]())
    options.set_max_bytes_for_level_base(settings.level_base_bytes)
    options.set_target_file_size_base(settings.target_file_bytes)
    options.set_level_zero_file_num_compaction_trigger(settings.level0_trigger)
    options.set_max_open_files(settings.max_open_files)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(8 * 1024 * 1024)
    options.set_max_background_jobs(2)
    options.enable_statistics()
    table = BlockBasedOptions()
    table.set_block_cache(settings.block_cache)
    if settings.bloom_bits_per_key > 0:
        table.set_bloom_filter(int(settings.bloom_bits_per_key), False)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    if settings.write_buffers is not None:
        options.set_write_buffer_manager(settings.write_buffers)
    return options

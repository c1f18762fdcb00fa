"""The files of a bulk load: their layout, their descriptions, and how rows become them (protocol §5.8).

::

    <root>/<cluster>/<table>/bulk_load_info
        {"app_id":2,"app_name":"temp","partition_count":8}
    <root>/<cluster>/<table>/<index>/bulk_load_metadata
        {"files":[{"name":"0.sst","size":1,"md5":"…"}],"file_total_size":1}
    <root>/<cluster>/<table>/<index>/0.sst

The SST files are RocksDB's own, with raw keys and stored values as §10.7 and §10.8 define them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
from rocksdict import DBCompressionType, Options, SstFileWriter

from shared.pegasus.files import paths
from shared.pegasus.files.providers import md5_of
from shared.pegasus.wire.keys import encode_key, encode_value, partition_of
from shared.pegasus.wire.structures.bulk_load import BulkLoadMetadata
from shared.pegasus.wire.structures.metadata import FileMeta

INFO = "bulk_load_info"
METADATA = "bulk_load_metadata"
DATA_VERSION = 1
RUN_BYTES = 64 << 20
"""Rows of a partition that are sorted in memory together; each run becomes a file."""


@dataclass(frozen=True, slots=True)
class LoadInfo:
    """Which table the files are for."""

    app_id: int
    app_name: str
    partition_count: int


def table_folder(root: str, cluster: str, table: str) -> str:
    """Where the files of a table are, below a provider.

    Raises:
        PathError: One of them leads elsewhere.
    """
    return posixpath.join(
        paths.folder("remote_root_path", root),
        paths.name("cluster_name", cluster),
        paths.name("app_name", table),
    )


def partition_folder(root: str, cluster: str, table: str, index: int) -> str:
    """Where the files of a partition are, below a provider.

    Raises:
        PathError: One of them leads elsewhere.
    """
    return posixpath.join(table_folder(root, cluster, table), str(index))


def encode_info(info: LoadInfo) -> bytes:
    """The content of `bulk_load_info`."""
    return orjson.dumps({"app_id": info.app_id, "app_name": info.app_name, "partition_count": info.partition_count})


def parse_info(content: bytes) -> LoadInfo:
    """Read `bulk_load_info`.

    Raises:
        ValueError: It is damaged.
    """
    value = _object(content)
    app_id, name, count = value.get("app_id"), value.get("app_name"), value.get("partition_count")
    if not (isinstance(app_id, int) and isinstance(name, str) and isinstance(count, int)):
        raise ValueError("bulk_load_info is damaged")
    return LoadInfo(app_id, name, count)


def encode_metadata(metadata: BulkLoadMetadata) -> bytes:
    """The content of `bulk_load_metadata`."""
    files = [{"name": file.name, "size": file.size, "md5": file.md5} for file in metadata.files]
    return orjson.dumps({"files": files, "file_total_size": metadata.file_total_size})


def parse_metadata(content: bytes) -> BulkLoadMetadata:
    """Read `bulk_load_metadata`.

    Raises:
        ValueError: It is damaged, or a file's name is more than a name.
    """
    value = _object(content)
    listed, total = value.get("files"), value.get("file_total_size")
    if not (isinstance(listed, list) and isinstance(total, int)):
        raise ValueError("bulk_load_metadata is damaged")
    files = []
    for item in listed:
        if not isinstance(item, dict):
            raise ValueError("bulk_load_metadata is damaged")
        name, size, md5 = item.get("name"), item.get("size"), item.get("md5")
        if not (isinstance(name, str) and isinstance(size, int) and isinstance(md5, str)):
            raise ValueError("bulk_load_metadata is damaged")
        if not paths.name("bulk_load_metadata: name", name):
            raise ValueError("bulk_load_metadata: a file has no name")
        files.append(FileMeta(name, size, md5))
    return BulkLoadMetadata(files, total)


def _object(content: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


Row = tuple[bytes, bytes, bytes, int]
"""Hash key, sort key, value, and expiry in seconds since the epoch of §10.8; 0 for none."""


class _Run:
    """Rows of one partition that are not in a file yet."""

    __slots__ = ("files", "rows", "size")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.size = 0
        self.files: list[FileMeta] = []


class LoadWriter:
    """Turns rows in any order into the files of a bulk load, in a local folder.

    A row that comes again replaces the earlier one. Memory is bounded by `run_bytes` for all partitions together.

    Args:
        folder: What `table_folder` names; it is made.
        info: Which table.
        run_bytes: How many bytes of rows are sorted at a time.

    Attributes:
        replaced: How many rows came again among those that were sorted together.
    """

    def __init__(self, folder: Path, info: LoadInfo, run_bytes: int = RUN_BYTES) -> None:
        self._folder = folder
        self._info = info
        self._run_bytes = run_bytes
        self._runs = [_Run() for _ in range(info.partition_count)]
        self._held = 0
        self.replaced = 0
        for index in range(info.partition_count):
            (folder / str(index)).mkdir(parents=True, exist_ok=True)

    def add(self, rows: Iterable[Row]) -> int:
        """Take rows, and say how many."""
        count, partitions = 0, self._info.partition_count
        for hash_key, sort_key, value, expire in rows:
            raw = encode_key(hash_key, sort_key)
            run = self._runs[partition_of(raw, partitions)]
            self.replaced += raw in run.rows
            run.rows[raw] = encode_value(DATA_VERSION, value, expire)
            size = len(raw) + len(value) + 64
            run.size += size
            self._held += size
            count += 1
            if self._held >= self._run_bytes:
                self._write(max(range(partitions), key=lambda index: self._runs[index].size))
        return count

    def _write(self, index: int) -> None:
        run = self._runs[index]
        path = self._folder / str(index) / f"{len(run.files)}.sst"
        path.unlink(missing_ok=True)
        try:
            _write_sorted(path, run.rows)
        except Exception as error:  # the binding raises bare Exceptions with RocksDB's own text
            raise OSError(str(error)) from error
        run.files.append(FileMeta(path.name, path.stat().st_size, md5_of(path)))
        self._held -= run.size
        run.rows, run.size = {}, 0

    def finish(self) -> list[BulkLoadMetadata]:
        """Write what is left and the descriptions; the metadata of every partition."""
        described = []
        for index, run in enumerate(self._runs):
            if run.rows:
                self._write(index)
            metadata = BulkLoadMetadata(run.files, sum(file.size for file in run.files))
            (self._folder / str(index) / METADATA).write_bytes(encode_metadata(metadata))
            described.append(metadata)
        (self._folder / INFO).write_bytes(encode_info(self._info))
        return described


def _write_sorted(path: Path, rows: Mapping[bytes, bytes]) -> None:
    options = Options(raw_mode=True)
    options.set_compression_type(DBCompressionType.lz4())
    writer = SstFileWriter(options)
    writer.open(str(path))
    for raw in sorted(rows):
        writer[raw] = rows[raw]
    writer.finish()

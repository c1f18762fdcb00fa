"""What sources made of listed files have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intake_server.drivers.base import Partition, Schema, single_index
from intake_server.drivers.files import File, FileList


class FileSource:
    """A source with one partition a file; a driver adds how a file is read.

    Args:
        at: The files.
        schema: What opening found.
        relist: Lists the files relist.
        read_file: Reads one file, given whether it was asked for as a partition.
    """

    def __init__(
        self, at: FileList, schema: Schema, relist: Callable[[], FileList], read_file: Callable[[File, bool], Any]
    ) -> None:
        self.schema = schema
        self.version = at.version
        self.pin = at.pin()
        self._at = at
        self._relist = relist
        self._read_file = read_file

    def is_current(self) -> bool:
        return self._at.is_current(self._relist)

    def stamp(self, partition: Partition | None) -> Any:
        return self._at.stamp(self._file(partition))

    def read(self, partition: Partition | None) -> Any:
        file = self._file(partition)
        with self._at.unchanged(file):
            return self._read_file(file, partition is not None)

    def close(self) -> None:
        """Files are open only while they are read."""

    def _file(self, partition: Partition | None) -> File:
        return self._at.files[single_index(partition, len(self._at.files))]

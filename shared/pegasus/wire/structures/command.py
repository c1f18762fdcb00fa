"""Remote commands of the shell: command.thrift."""

from __future__ import annotations

from collections.abc import Sequence

from shared.pegasus.wire.thrift import struct


@struct
class Command:
    cmd: str = ""
    arguments: Sequence[str] = ()

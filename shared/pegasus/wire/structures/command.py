"""Remote commands of the shell: command.thrift (specification §12.5)."""

from __future__ import annotations

from collections.abc import Sequence

from shared.pegasus.wire.thrift import struct


@struct
class Command:
    cmd: str = ""
    arguments: Sequence[str] = ()

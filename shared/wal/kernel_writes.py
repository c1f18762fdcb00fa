"""Durable writes by the kernel's own workers, told to the event loop: no thread must ask for its turn twice a write.

A write and sync in a Python thread costs several times the processor time of the write itself, because thread and loop
take the interpreter from each other. Linux can be asked for both without waiting (`io_submit` with `RWF_DSYNC`, since
4.13) and says through an eventfd when they are done, if the file is open for direct writes; else the call would wait.
Where that is not to be had, `open` says so and a thread does it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable

from shared.wal.whole_blocks import Blocks

_SYSTEM_CALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""Numbers of io_setup, io_destroy, io_getevents and io_submit."""

_WRITE = 1
_DURABLY = 2
_TELL_EVENTFD = 1
_EVENT = struct.Struct("<QQqq")


class _Order(ctypes.Structure):
    """`struct iocb` of linux/aio_abi.h on little-endian machines."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class KernelWrites:
    """Writes and syncs one file at a time; make it with `open`."""

    def __init__(self, context: int, numbers: tuple[int, int, int, int]) -> None:
        """For `open` alone."""
        self._context = ctypes.c_uint64(context)
        _, self._destroy, self._get_events, self._submit = numbers
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._order = _Order(opcode=_WRITE, rw_flags=_DURABLY, flags=_TELL_EVENTFD, eventfd=self._eventfd)
        self._orders = (ctypes.POINTER(_Order) * 1)(ctypes.pointer(self._order))
        self._event = ctypes.create_string_buffer(_EVENT.size)
        self._one = ctypes.c_long(1)
        self._done: Callable[[OSError | None], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(cls) -> KernelWrites | None:
        """A way to the kernel; `None` where the system has none, or does not let us."""
        numbers = _SYSTEM_CALLS.get(platform.machine())
        if sys.platform != "linux" or numbers is None or not hasattr(os, "eventfd"):
            return None
        context = ctypes.c_uint64(0)
        if _call(numbers[0], ctypes.c_long(1), ctypes.byref(context)) != 0:
            return None
        return cls(context.value, numbers)

    def start(self, loop: asyncio.AbstractEventLoop, done: Callable[[OSError | None], None]) -> None:
        """Tell a loop when a write is on the disk, or what went wrong."""
        self._loop, self._done = loop, done
        loop.add_reader(self._eventfd, self._tell)

    def write(self, descriptor: int, blocks: Blocks) -> None:
        """Begin to write; the next one only when this is done, and the blocks stay as they are until then.

        Args:
            descriptor: A file that is open for direct writes.
            blocks: What is written, and where.

        Raises:
            OSError: The file system cannot, or the kernel has no room now; nothing was begun.
        """
        order = self._order
        order.descriptor = descriptor
        order.buffer, order.length, order.offset = blocks.address, blocks.length, blocks.offset
        if _call(self._submit, self._context, self._one, self._orders) != 1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Wait for a write that is under way, and let go of the kernel's resources."""
        if self._loop is not None:
            self._loop.remove_reader(self._eventfd)
        _call(self._destroy, self._context)
        os.close(self._eventfd)

    def _tell(self) -> None:
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            return
        while _call(self._get_events, self._context, self._one, self._one, self._event, None) != 1:
            pass  # a signal came between
        _, _, result, _ = _EVENT.unpack(self._event.raw)
        assert self._done is not None
        self._done(self._outcome(result))

    def _outcome(self, result: int) -> OSError | None:
        if result == self._order.length:
            return None
        code = -result if result < 0 else errno.ENOSPC  # what does not fit is left out
        return OSError(code, os.strerror(code))


_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return result

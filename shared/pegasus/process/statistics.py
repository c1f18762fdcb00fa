"""What a process knows of itself, on Linux and elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

MAPS = Path("/proc/self/maps")
"""Where Linux lists what is mapped into the memory of a process."""


def memory_bytes() -> tuple[int, int]:
    """Virtual and resident memory."""
    memory = psutil.Process().memory_info()
    return memory.vms, memory.rss


def command_line() -> list[str]:
    """The command and its arguments."""
    return psutil.Process().cmdline()


def memory_maps() -> bytes:
    """What is mapped into memory, as Linux lists it; nothing elsewhere."""
    try:
        return MAPS.read_bytes()
    except FileNotFoundError:
        return b""


def thread_time_ns(thread: int) -> int:
    """Processor time of a thread; the time that has passed, where the system does not tell (macOS).

    Raises:
        OSError: The thread has ended.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic_ns()
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread))

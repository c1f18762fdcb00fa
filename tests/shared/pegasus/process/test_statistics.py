"""What a process knows of itself, also where the system has no /proc and no clocks of threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from shared.pegasus.process import statistics


def test_memory_and_command_line_are_those_of_this_process():
    virtual, resident = statistics.memory_bytes()
    assert virtual >= resident > 1 << 20
    assert statistics.command_line() == psutil.Process(os.getpid()).cmdline()


def test_what_is_mapped_is_listed_on_linux_and_empty_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if sys.platform == "linux":
        assert b"[stack]" in statistics.memory_maps()
    monkeypatch.setattr(statistics, "MAPS", tmp_path / "missing")
    assert statistics.memory_maps() == b""


def test_time_of_a_thread_goes_on_also_where_the_system_does_not_tell_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)
    first = statistics.thread_time_ns(threading.get_ident())
    assert statistics.thread_time_ns(threading.get_ident()) >= first > 0

"""What the garbage collector sets aside so that sessions cost it nothing, and takes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, gc, weakref
from iserver.daemon import GC_IDLE_RUNS, GarbageCollection

class Node:
    pass

node = Node()
node.itself = node
seen = weakref.ref(node)
kept = [[] for _ in range({objects})]
collection = GarbageCollection(lambda: 0)
collection.begin()
del node

async def rest():
    for _ in range(GC_IDLE_RUNS):
        await collection.collect()

asyncio.run(rest())
print(seen() is None, gc.get_freeze_count() > {objects})
"""


@pytest.mark.parametrize(("objects", "is_collected"), [(0, True), (200_000, False)])
def test_cyclic_garbage_that_was_set_aside_is_collected_when_that_is_quick(objects, is_collected):
    """In a process of its own, since the collector is one for all."""
    script = SCRIPT.format(objects=objects)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert process.stdout.split() == [str(is_collected), "True"]

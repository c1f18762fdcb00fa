"""The log and a store against a dict: any history, ended by losses of power that tear the log anywhere.

After a loss of power the store has no more in its files than when they last caught up, and the log ends wherever the
last sync that nobody was told of got to. What is there afterwards must be exactly the state after some write, the one
whose decree the store names; and when nothing of the log is torn, the state after the last.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rocksdict import Cache

from replicaserver.rows import writes
from replicaserver.rows.writes import Cost, Draft
from replicaserver.storage.engine import StoreSettings
from replicaserver.table.compaction import DEEPEST, Order
from shared.pegasus.wire.keys import decode_value, encode_key
from shared.pegasus.wire.structures.rrdb import (
    CheckAndMutateRequest,
    CheckType,
    IncrRequest,
    KeyValue,
    MultiPutRequest,
    MultiRemoveRequest,
    Mutate,
    MutateOperation,
    UpdateRequest,
)
from shared.wal.segments import HEADER_BYTES
from tests.crashes import copy_as_it_is
from tests.replicaserver.memory_rows import NOW, WHO, MemoryRows
from tests.replicaserver.storage.logs import ONE, SEGMENT_BYTES, Opened

SETTINGS = StoreSettings(6, 1 << 20, 3, "lz4", 10.0, 64 << 20, 8 << 20, 4, -1, Cache(16 << 20))

hash_keys = st.sampled_from([b"", b"a", b"b"])
sort_keys = st.sampled_from([b"", b"1", b"2", b"3"])
values = st.one_of(st.binary(max_size=20), st.integers(-5, 5).map(lambda number: b"%d" % number))
raw_keys = st.builds(encode_key, hash_keys, sort_keys)


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.copies = 0
        self.model = MemoryRows()
        self.history: list[dict[bytes, bytes]] = [{}]
        self.begin()

    def begin(self) -> None:
        """Open the newest copy, and keep its files as they are now."""

        async def opened() -> Opened:
            return Opened(self.folder / str(self.copies), SETTINGS, (ONE,))

        self.opened = self.loop.run_until_complete(opened())
        self.store = self.opened.stores[ONE]
        self.keep_files()

    def keep_files(self) -> None:
        """What the files have now is what they will have when the power is lost; the log is written on from here."""
        shutil.rmtree(self.folder / "files", ignore_errors=True)
        copy_as_it_is(self.store.path, self.folder / "files")
        self.kept_decree = self.store.durable().decree
        self.kept_place = self.place()

    def place(self) -> tuple[int, int]:
        """Where the log ends: the number of its segment and the offset in it."""
        end = self.opened.commit_log.end
        return end.segment, end.offset

    def write(self, *operations: tuple[object, object]) -> None:
        """One round: several operations, one record, the same on the model one by one."""
        draft = Draft(self.store, 1, NOW, 77, 0)
        decree = len(self.history) - 1
        for operation, request in operations:
            decree += 1
            theirs = operation(draft, request, WHO, decree, Cost())  # type: ignore[operator]
            mine = self.model.draft()
            assert operation(mine, request, WHO, decree, Cost()) == theirs  # type: ignore[operator]
            self.model.apply(mine)
            self.history.append(dict(self.model.rows))
        self.loop.run_until_complete(self.opened.write(draft.changes, decree=decree))

    @rule(key=raw_keys, value=values)
    def put(self, key: bytes, value: bytes) -> None:
        self.write((writes.put, UpdateRequest(key, value)))

    @rule(key=raw_keys)
    def remove(self, key: bytes) -> None:
        self.write((writes.remove, key))

    @rule(hash_key=hash_keys, kvs=st.lists(st.builds(KeyValue, sort_keys, values), max_size=4))
    def multi_put(self, hash_key: bytes, kvs: list[KeyValue]) -> None:
        self.write((writes.multi_put, MultiPutRequest(hash_key, kvs)))

    @rule(hash_key=hash_keys, keys=st.lists(sort_keys, max_size=4))
    def multi_remove(self, hash_key: bytes, keys: list[bytes]) -> None:
        self.write((writes.multi_remove, MultiRemoveRequest(hash_key, keys)))

    @rule(key=raw_keys, times=st.integers(1, 4))
    def incr(self, key: bytes, times: int) -> None:
        self.write(*[(writes.incr, IncrRequest(key, 3))] * times)

    @rule(hash_key=hash_keys, check=sort_keys, kind=st.sampled_from(CheckType), operand=values, value=values)
    def check_and_mutate(self, hash_key: bytes, check: bytes, kind: CheckType, operand: bytes, value: bytes) -> None:
        mutations = [Mutate(MutateOperation.PUT, b"1", value), Mutate(MutateOperation.DELETE, b"2")]
        request = CheckAndMutateRequest(hash_key, check, kind, operand, mutations, True)
        self.write((writes.check_and_mutate, request), (writes.put, UpdateRequest(encode_key(b"a", b"3"), operand)))

    @rule()
    def flush(self) -> None:
        self.store.flush()

    @rule(forced=st.booleans())
    def compact(self, forced: bool) -> None:
        self.store.compact(Order(DEEPEST, forced))

    @rule()
    def catch_up(self) -> None:
        self.loop.run_until_complete(self.opened.logs[ONE].persist())
        self.keep_files()

    @rule(segments=st.integers(1, 2))
    def roll(self, segments: int) -> None:
        for _ in range(segments):
            self.write((writes.put, UpdateRequest(encode_key(b"roll", b""), bytes(SEGMENT_BYTES))))

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.opened.close())
        self.begin()

    @rule(lost=st.integers(0, 300), garbage=st.binary(max_size=40))
    def lose_power(self, lost: int, garbage: bytes) -> None:
        segment, end = self.place()
        self.copies += 1
        copy = self.folder / str(self.copies)
        copy_as_it_is(self.opened.folder / "slog", copy / "slog")
        shutil.copytree(self.folder / "files", copy / str(ONE))
        self.loop.run_until_complete(self.opened.drop())
        torn = max(end - lost, self.kept_place[1] if self.kept_place[0] == segment else HEADER_BYTES)
        if torn < end:
            with (copy / "slog" / f"{segment:08d}.log").open("r+b") as log:
                log.seek(torn)
                log.write(garbage[: end - torn].ljust(end - torn, b"\0"))
        self.begin()
        decree = self.store.durable().decree
        assert decree >= self.kept_decree
        assert dict(self.store.scan(b"", b"")) == self.history[decree]
        if torn == end:
            assert decree == len(self.history) - 1
        del self.history[decree + 1 :]
        self.model.rows = dict(self.history[decree])

    @invariant()
    def is_the_model(self) -> None:
        if hasattr(self, "store"):
            assert dict(self.store.scan(b"", b"")) == self.model.rows
            for key in self.model.rows:
                assert decode_value(1, self.store.get(key) or b"") == decode_value(1, self.model.rows[key])

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.opened.close())
            self.loop.close()
            shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

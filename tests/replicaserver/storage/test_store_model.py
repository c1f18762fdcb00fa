"""The store against a dict: any history, ended by crashes that tear the log anywhere.

A crash is a copy of the folder as it is while the store is open, with the end of its newest log cut off. What is there
afterwards must be exactly the state after some write, the one whose decree the store names; and without the cut,
the state after the last.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rocksdict import Cache

from replicaserver import writes
from replicaserver.compaction import DEEPEST, Order
from replicaserver.storage.rocks import RocksStore, StoreSettings
from replicaserver.writes import Cost, Draft
from shared.pegasus.keys import decode_value, encode_key
from shared.pegasus.structures.rrdb import (
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
from tests.replicaserver.rows import NOW, WHO, MemoryRows

SETTINGS = StoreSettings(6, 1 << 20, 3, "lz4", 10.0, 64 << 20, 8 << 20, 4, -1, Cache(16 << 20))

hash_keys = st.sampled_from([b"", b"a", b"b"])
sort_keys = st.sampled_from([b"", b"1", b"2", b"3"])
values = st.one_of(st.binary(max_size=20), st.integers(-5, 5).map(lambda number: b"%d" % number))
raw_keys = st.builds(encode_key, hash_keys, sort_keys)


def copy_as_it_is(folder: Path, copy: Path) -> None:
    """Copy an open store as it is at one moment: again, if the engine has tidied up meanwhile."""

    def present() -> dict[str, int]:
        return {file.name: file.stat().st_size for file in folder.iterdir()}

    while True:
        try:
            before = present()
            shutil.copytree(folder, copy)
            if present() == before == {file.name: file.stat().st_size for file in copy.iterdir()}:
                return
        except (FileNotFoundError, shutil.Error):
            pass  # a file was deleted while it was being copied
        shutil.rmtree(copy, ignore_errors=True)


class StoreMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.copies = 0
        self.model = MemoryRows()
        self.history: list[dict[bytes, bytes]] = [{}]
        self.store = RocksStore(self.folder / "0", SETTINGS)

    def write(self, *operations: tuple[object, object]) -> None:
        """One round: several operations, one batch, the same on the model one by one."""
        draft = Draft(self.store, 1, NOW, 77, 0)
        batch = self.store.batch()
        decree = len(self.history) - 1
        for operation, request in operations:
            decree += 1
            theirs = operation(draft, request, WHO, decree, Cost())  # type: ignore[operator]
            mine = self.model.draft()
            assert operation(mine, request, WHO, decree, Cost()) == theirs  # type: ignore[operator]
            self.model.apply(mine)
            self.history.append(dict(self.model.rows))
        batch.apply(draft.changes)
        batch.note("decree", decree)
        self.store.write(batch)

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

    @rule(lost=st.integers(0, 300))
    def crash(self, lost: int) -> None:
        self.copies += 1
        copy = self.folder / str(self.copies)
        copy_as_it_is(self.store.path, copy)
        self.store.close()
        newest = max(copy.glob("*.log"), key=lambda log: int(log.stem))
        written = len(newest.read_bytes().rstrip(b"\0"))  # a log is allocated ahead
        with newest.open("r+b") as log:
            log.truncate(max(0, written - lost))
        self.store = RocksStore(copy, SETTINGS)
        decree = self.store.durable().decree
        assert dict(self.store.scan(b"", b"")) == self.history[decree]
        if lost == 0:
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
            self.store.close()
            shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)

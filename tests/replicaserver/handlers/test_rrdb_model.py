"""Every operation on rows against a model of a few lines, over the wire (protocol §11.2, §11.3).

The model is written from the protocol page and shares nothing with the server but the structures of requests: rows are
in a dict by (hash key, sort key), with their value and the second in which they expire.
"""

from __future__ import annotations

import asyncio
import operator
import re
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pegasus.wire.keys import encode_key
from shared.pegasus.wire.structures.rrdb import (
    BatchGetRequest,
    CheckAndMutateRequest,
    CheckAndSetRequest,
    FullKey,
    GetScannerRequest,
    IncrRequest,
    KeyValue,
    MultiGetRequest,
    MultiPutRequest,
    MultiRemoveRequest,
    Mutate,
    ScanRequest,
    UpdateRequest,
)
from tests.replicaserver.conftest import Clock, Served

OK, NOT_FOUND, INVALID, INCOMPLETE, TRY_AGAIN = 0, 1, 4, 7, 13
DEFAULT_TTL = 50
HASH_KEYS, SORT_KEYS = (b"", b"h", b"hh"), (b"", b"a", b"ab", b"b", b"\xff")

Row = tuple[bytes, int]
Step = tuple[str, object]

hash_keys, sort_keys = st.sampled_from(HASH_KEYS), st.sampled_from(SORT_KEYS)
keys = st.tuples(hash_keys, sort_keys)
numbers = st.sampled_from([0, 1, -1, 7, 2**63 - 1, -(2**63)])
values = st.sampled_from([b"", b"a", b"ab", b"12", b"-3", b"x1", b"9223372036854775807", b"9223372036854775808"])
expiries = st.sampled_from([0, 1005, 1015, 1100])
kinds, patterns = st.integers(0, 3), st.sampled_from([b"", b"a", b"b", b"ab"])
checks = st.integers(-1, 18)
mutations = st.lists(st.builds(Mutate, st.integers(0, 2), sort_keys, values, expiries), max_size=3)
ranges = {
    "start_inclusive": st.booleans(),
    "stop_inclusive": st.booleans(),
    "sort_key_filter_type": kinds,
    "sort_key_filter_pattern": patterns,
    "no_value": st.booleans(),
}
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("advance"), st.integers(1, 10)),
    st.tuples(st.just("put"), st.tuples(keys, values, expiries)),
    st.tuples(st.just("remove"), keys),
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("ttl"), keys),
    st.tuples(st.just("sortkey_count"), hash_keys),
    st.tuples(st.just("batch_get"), st.lists(st.builds(FullKey, hash_keys, sort_keys), max_size=4)),
    st.tuples(
        st.just("multi_put"),
        st.builds(MultiPutRequest, hash_keys, st.lists(st.builds(KeyValue, sort_keys, values), max_size=3), expiries),
    ),
    st.tuples(st.just("multi_remove"), st.builds(MultiRemoveRequest, hash_keys, st.lists(sort_keys, max_size=3))),
    st.tuples(st.just("incr"), st.tuples(keys, numbers, st.sampled_from([0, -1, 1100]))),
    st.tuples(
        st.just("check_and_set"),
        st.builds(
            CheckAndSetRequest,
            hash_keys,
            sort_keys,
            checks,
            values,
            st.booleans(),
            sort_keys,
            values,
            expiries,
            st.booleans(),
        ),
    ),
    st.tuples(
        st.just("check_and_mutate"),
        st.builds(CheckAndMutateRequest, hash_keys, sort_keys, checks, values, mutations, st.booleans()),
    ),
    st.tuples(
        st.just("multi_get"),
        st.builds(
            MultiGetRequest,
            hash_keys,
            st.one_of(st.just([]), st.lists(sort_keys, max_size=3)),
            st.integers(0, 3),
            start_sortkey=sort_keys,
            stop_sortkey=sort_keys,
            reverse=st.booleans(),
            **ranges,
        ),
    ),
    st.tuples(
        st.just("scan"),
        st.builds(
            GetScannerRequest,
            st.builds(encode_key, hash_keys, sort_keys),
            st.builds(encode_key, hash_keys, sort_keys),
            batch_size=st.integers(1, 3),
            hash_key_filter_type=kinds,
            hash_key_filter_pattern=patterns,
            return_expire_ts=st.booleans(),
            **ranges,
        ),
    ),
)


def matches(kind: int, pattern: bytes, text: bytes) -> bool:
    return {0: True, 1: pattern in text, 2: text.startswith(pattern), 3: text.endswith(pattern)}[kind]


def number(text: bytes) -> int | None:
    found = int(text) if re.fullmatch(rb"[+-]?\d+", text) else None
    return found if found is not None and -(2**63) <= found < 2**63 else None


def outcome(check: int, operand: bytes, value: bytes | None) -> int:
    """What a condition comes to: OK, TRY_AGAIN or INVALID."""
    if not 0 <= check <= 17:
        return INVALID
    if check >= 5 and value is None:
        return TRY_AGAIN
    if check >= 13 and None in (number(value or b""), number(operand)):
        return INVALID
    comparisons = (operator.lt, operator.le, operator.eq, operator.ge, operator.gt)
    if check >= 13:
        holds = comparisons[check - 13](number(value or b""), number(operand))
    elif check >= 8:
        holds = comparisons[check - 8](value, operand)
    elif check >= 5:
        holds = matches(check - 4, operand, value or b"")
    else:
        holds = (True, value is None, not value, value is not None, bool(value))[check]
    return OK if holds else TRY_AGAIN


class Model:
    """What should be in a table, and what its server should answer."""

    def __init__(self, now: int) -> None:
        self.rows: dict[tuple[bytes, bytes], Row] = {}
        self.now = now

    def is_live(self, row: Row) -> bool:
        return row[1] == 0 or row[1] > self.now

    def live(self, hash_key: bytes, sort_key: bytes) -> bytes | None:
        row = self.rows.get((hash_key, sort_key))
        return row[0] if row is not None and self.is_live(row) else None

    def store(self, hash_key: bytes, sort_key: bytes, value: bytes, expire: int) -> None:
        self.rows[hash_key, sort_key] = (value, expire or self.now + DEFAULT_TTL)

    def put(self, asked: tuple[tuple[bytes, bytes], bytes, int]) -> int:
        self.store(*asked[0], *asked[1:])
        return OK

    def remove(self, key: tuple[bytes, bytes]) -> int:
        self.rows.pop(key, None)
        return OK

    def get(self, key: tuple[bytes, bytes]) -> tuple[int, bytes]:
        value = self.live(*key)
        return (NOT_FOUND, b"") if value is None else (OK, value)

    def ttl(self, key: tuple[bytes, bytes]) -> tuple[int, int]:
        if self.live(*key) is None:
            return NOT_FOUND, 0
        expire = self.rows[key][1]
        return OK, expire - self.now if expire else -1

    def sortkey_count(self, hash_key: bytes) -> tuple[int, int]:
        return OK, sum(h == hash_key and self.is_live(row) for (h, _), row in self.rows.items())

    def batch_get(self, wanted: list[FullKey]) -> tuple[int, list[tuple[bytes, bytes, bytes]]]:
        found = [(key.hash_key, key.sort_key, self.live(key.hash_key, key.sort_key)) for key in wanted]
        return OK if wanted else INVALID, [row for row in found if row[2] is not None]  # type: ignore[misc]

    def multi_put(self, asked: MultiPutRequest) -> int:
        for kv in asked.kvs:
            self.store(asked.hash_key, kv.key, kv.value, asked.expire_ts_seconds)
        return OK if asked.kvs else INVALID

    def multi_remove(self, asked: MultiRemoveRequest) -> tuple[int, int]:
        for sort_key in asked.sort_keys:
            self.rows.pop((asked.hash_key, sort_key), None)
        return OK if asked.sort_keys else INVALID, len(asked.sort_keys)

    def incr(self, asked: tuple[tuple[bytes, bytes], int, int]) -> tuple[int, int]:
        key, increment, expire = asked
        value = self.live(*key)
        old = number(value) if value else 0
        if old is None:
            return INVALID, 0
        if not -(2**63) <= old + increment < 2**63:
            return INVALID, old
        kept = self.now + DEFAULT_TTL if value is None else self.rows[key][1]
        self.rows[key] = (b"%d" % (old + increment), {0: kept, -1: 0}.get(expire, expire))
        return OK, old + increment

    def check_and_set(self, asked: CheckAndSetRequest) -> tuple[int, bool, bytes]:
        value = self.live(asked.hash_key, asked.check_sort_key)
        error = outcome(asked.check_type, asked.check_operand, value)
        if error == OK:
            sort_key = asked.set_sort_key if asked.set_diff_sort_key else asked.check_sort_key
            self.store(asked.hash_key, sort_key, asked.set_value, asked.set_expire_ts_seconds)
        return (error, value is not None, value or b"") if asked.return_check_value else (error, False, b"")

    def check_and_mutate(self, asked: CheckAndMutateRequest) -> tuple[int, bool, bytes]:
        if not asked.mutate_list or any(mutate.operation not in (0, 1) for mutate in asked.mutate_list):
            return INVALID, False, b""
        value = self.live(asked.hash_key, asked.check_sort_key)
        error = outcome(asked.check_type, asked.check_operand, value)
        for mutate in asked.mutate_list if error == OK else ():
            if mutate.operation == 0:
                self.store(asked.hash_key, mutate.sort_key, mutate.value, mutate.set_expire_ts_seconds)
            else:
                self.rows.pop((asked.hash_key, mutate.sort_key), None)
        return (error, value is not None, value or b"") if asked.return_check_value else (error, False, b"")

    def multi_get(self, asked: MultiGetRequest) -> tuple[int, list[tuple[bytes, bytes]]]:
        found: list[tuple[bytes, bytes]] = []
        if asked.sort_keys:
            candidates = [key for key in asked.sort_keys if self.live(asked.hash_key, key) is not None]
        else:
            candidates = list(self._range(asked))
        for sort_key in candidates:
            if len(found) == asked.max_kv_count > 0:
                return INCOMPLETE, found[::-1] if asked.reverse and not asked.sort_keys else found
            value = self.live(asked.hash_key, sort_key)
            is_wanted = asked.sort_keys or matches(asked.sort_key_filter_type, asked.sort_key_filter_pattern, sort_key)
            if value is not None and is_wanted:
                found.append((sort_key, b"" if asked.no_value else value))
        return OK, found[::-1] if asked.reverse and not asked.sort_keys else found

    def _range(self, asked: MultiGetRequest) -> Iterator[bytes]:
        """The sort keys that are looked at, in the order in which they are; with a prefix, none that lacks it."""
        prefix = asked.sort_key_filter_pattern if asked.sort_key_filter_type == 2 else b""
        start, stop = asked.start_sortkey, asked.stop_sortkey
        for hash_key, sort_key in sorted(self.rows, reverse=asked.reverse):
            begins = sort_key >= start if asked.start_inclusive else sort_key > start
            ends = not stop or (sort_key <= stop if asked.stop_inclusive else sort_key < stop)
            if hash_key == asked.hash_key and begins and ends and sort_key.startswith(prefix):
                yield sort_key

    def scan(self, asked: GetScannerRequest) -> list[tuple[bytes, bytes, int | None]]:
        found = []
        for raw, (hash_key, sort_key) in sorted((encode_key(*key), key) for key in self.rows):
            value, expire = self.rows[hash_key, sort_key]
            begins = raw >= asked.start_key if asked.start_inclusive else raw > asked.start_key
            ends = raw <= asked.stop_key if asked.stop_inclusive else raw < asked.stop_key
            passes = matches(asked.hash_key_filter_type, asked.hash_key_filter_pattern, hash_key) and matches(
                asked.sort_key_filter_type, asked.sort_key_filter_pattern, sort_key
            )
            if begins and ends and passes and self.is_live((value, expire)):
                found.append((raw, b"" if asked.no_value else value, expire if asked.return_expire_ts else None))
        return found


async def answered(served: Served, name: str, asked: object) -> object:
    """What the server answers, in the form of the model's answers."""
    match name, asked:
        case "put", (key, value, expire):
            return (await served.call("put", UpdateRequest(encode_key(*key), value, expire))).error
        case "remove", key:
            return (await served.call("remove", encode_key(*key))).error  # type: ignore[misc]
        case "get", key:
            answer = await served.call("get", encode_key(*key))  # type: ignore[misc]
            return answer.error, answer.value
        case "ttl", key:
            answer = await served.call("ttl", encode_key(*key))  # type: ignore[misc]
            return answer.error, answer.ttl_seconds
        case "batch_get", wanted:
            answer = await served.call("batch_get", BatchGetRequest(wanted))  # type: ignore[arg-type]
            return answer.error, [(row.hash_key, row.sort_key, row.value) for row in answer.data]
        case "incr", (key, increment, expire):
            answer = await served.call("incr", IncrRequest(encode_key(*key), increment, expire))
            return answer.error, answer.new_value
        case "scan", _:
            return await scanned(served, asked)
    answer = await served.call(name, asked)
    match name:
        case "sortkey_count" | "multi_remove":
            return answer.error, answer.count
        case "check_and_set" | "check_and_mutate":
            return answer.error, answer.check_value_exist, answer.check_value
        case "multi_get":
            return answer.error, [(kv.key, kv.value) for kv in answer.kvs]
    return answer.error


async def scanned(served: Served, asked: object) -> list[tuple[bytes, bytes, int | None]]:
    """All pages of a scan."""
    page = await served.call("get_scanner", asked)
    rows = list(page.kvs)
    while page.context_id >= 0:
        page = await served.call("scan", ScanRequest(page.context_id))
        rows += page.kvs
    assert page.error == OK
    return [(kv.key, kv.value, kv.expire_ts_seconds) for kv in rows]


async def test_every_operation_does_what_the_model_does(served: Served, clock: Clock):
    await served.table(envs={"default_ttl": str(DEFAULT_TTL)})

    async def compare(first: dict[tuple[bytes, bytes], Row], taken: list[Step]) -> None:
        for hash_key in HASH_KEYS:
            await served.call("multi_remove", MultiRemoveRequest(hash_key, SORT_KEYS))
        clock.unix_s += 1000 - clock.now
        model = Model(clock.now)
        for name, asked in [*(("put", (key, *row)) for key, row in first.items()), *taken]:
            if name == "advance":
                clock.advance(asked)  # type: ignore[arg-type]
                model.now = clock.now
            else:
                assert await answered(served, name, asked) == getattr(model, name)(asked), (name, asked)
        everything = GetScannerRequest(b"", b"\xff" * 4, True, batch_size=1000, return_expire_ts=True)
        assert await scanned(served, everything) == model.scan(everything)

    loop = asyncio.get_running_loop()

    @settings(deadline=None, max_examples=150)
    @given(st.dictionaries(keys, st.tuples(values, expiries), min_size=8), st.lists(steps, min_size=5, max_size=30))
    def run(first: dict[tuple[bytes, bytes], Row], taken: list[Step]) -> None:
        asyncio.run_coroutine_threadsafe(compare(first, taken), loop).result(60)

    await asyncio.to_thread(run)

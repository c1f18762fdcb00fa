"""Reading and writing rows over RPC (protocol §10, §11)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.pegasus.wire.errors import ErrorCode, RocksdbError
from shared.pegasus.wire.framing import MAGIC
from shared.pegasus.wire.keys import encode_key, partition_of
from shared.pegasus.wire.structures.rrdb import (
    BatchGetRequest,
    CheckAndMutateRequest,
    CheckAndSetRequest,
    CheckType,
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
from tests.replicaserver.conftest import CLEAR_SCANNER, Clock, Served, start

KEY = encode_key(b"hk", b"sk")


async def test_a_row_that_was_put_is_read(served: Served):
    await served.table()
    put = await served.call("put", UpdateRequest(KEY, b"val"))
    assert (put.error, put.app_id, put.partition_index, put.decree) == (0, 2, 0, 1)
    assert put.server == str(served.address)
    got = await served.call("get", KEY)
    assert (got.error, got.value, got.app_id, got.partition_index) == (0, b"val", 2, 0)
    assert got.server == str(served.address)


async def test_the_published_request_gets_the_published_reply(served: Served):
    await served.table(partitions=4)
    await served.call("put", UpdateRequest(KEY, b"val"), index=3)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.address.port)
    writer.write(
        bytes.fromhex(
            "54484654000000000000003000000000 0000002b0000000000000002 00000003000003e800003de1 5d9ad5b51c9a4ab3"
            "80010001 00000011 5250435f525244425f525244425f474554 00000002 0c0001 00000006 0002686b 736b 00"
        )
    )
    server = str(served.address).encode()
    expected = (
        bytes.fromhex(
            "000000064552525f4f4b 80010002 000000155250435f525244425f525244425f4745545f41434b 00000002 0c0000"
            "080001 00000000 0c0002 0000000376616c 080003 00000002 080004 00000003 0b0006"
        )
        + len(server).to_bytes(4, "big")
        + server
        + b"\0\0"
    )
    assert await reader.readexactly(4 + len(expected)) == (4 + len(expected)).to_bytes(4, "big") + expected
    writer.close()


async def test_an_error_is_a_name_without_a_result(served: Served):
    reader, writer = await asyncio.open_connection("127.0.0.1", served.address.port)
    writer.write(
        bytes.fromhex(
            "54484654000000000000003000000000 0000002b0000000000000002 00000003000003e800003de1 5d9ad5b51c9a4ab3"
            "80010001 00000011 5250435f525244425f525244425f474554 00000002 0c0001 00000006 0002686b 736b 00"
        )
    )
    expected = bytes.fromhex(
        "0000003e 00000014 4552525f4f424a4543545f4e4f545f464f554e44"
        "80010002 000000155250435f525244425f525244425f4745545f41434b 00000002"
    )
    answer = await reader.readexactly(int.from_bytes(head := await reader.readexactly(4), "big") - 4)
    assert (head + answer)[4:] == expected[4:]
    assert MAGIC not in answer
    writer.close()


async def test_a_removed_row_is_gone(served: Served):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    assert (await served.call("remove", KEY)).error == 0
    assert (await served.call("get", KEY)).error == RocksdbError.NOT_FOUND


async def test_several_rows_at_once(served: Served):
    await served.table()
    put = await served.call("multi_put", MultiPutRequest(b"h", [KeyValue(b"%d" % n, b"v%d" % n) for n in range(5)]))
    assert put.error == 0
    got = await served.call("multi_get", MultiGetRequest(b"h", [b"3", b"x", b"1"]))
    assert [(kv.key, kv.value) for kv in got.kvs] == [(b"3", b"v3"), (b"1", b"v1")]
    batch = await served.call("batch_get", BatchGetRequest([FullKey(b"h", b"2"), FullKey(b"none", b"")]))
    assert [(data.hash_key, data.sort_key, data.value) for data in batch.data] == [(b"h", b"2", b"v2")]
    assert (await served.call("sortkey_count", b"h")).count == 5
    removed = await served.call("multi_remove", MultiRemoveRequest(b"h", [b"0", b"1", b"9"]))
    assert (removed.error, removed.count) == (0, 3)
    assert (await served.call("sortkey_count", b"h")).count == 3


async def test_adding_and_conditions(served: Served):
    await served.table()
    assert (await served.call("incr", IncrRequest(KEY, 41))).new_value == 41
    assert (await served.call("incr", IncrRequest(KEY, 1))).new_value == 42
    request = CheckAndSetRequest(
        b"hk", b"sk", CheckType.VALUE_INT_EQUAL, b"42", set_value=b"x", return_check_value=True
    )
    answer = await served.call("check_and_set", request)
    assert (answer.error, answer.check_value) == (0, b"42")
    assert (await served.call("check_and_set", request)).error == RocksdbError.INVALID_ARGUMENT
    mutate = CheckAndMutateRequest(b"hk", b"sk", CheckType.VALUE_EXIST, b"", [Mutate(0, b"a", b"1"), Mutate(1, b"sk")])
    assert (await served.call("check_and_mutate", mutate)).error == 0
    assert (await served.call("check_and_mutate", mutate)).error == RocksdbError.TRY_AGAIN
    assert (await served.call("get", encode_key(b"hk", b"a"))).value == b"1"


async def test_concurrent_additions_all_count_and_have_decrees_of_their_own(served: Served):
    await served.table()
    answers = await asyncio.gather(*(served.call("incr", IncrRequest(KEY, 1)) for _ in range(100)))
    assert sorted(answer.new_value for answer in answers) == list(range(1, 101))
    assert sorted(answer.decree for answer in answers) == list(range(1, 101))


async def test_puts_of_one_round_may_share_a_decree_but_never_go_back(served: Served):
    await served.table()
    answers = await asyncio.gather(*(served.call("put", UpdateRequest(KEY, b"%d" % n)) for n in range(100)))
    decrees = [answer.decree for answer in answers]
    assert decrees == sorted(decrees)
    assert (await served.call("get", KEY)).value == b"99"
    assert served.partition().core.last_committed == decrees[-1]


async def test_a_row_lives_as_long_as_it_was_given(served: Served, clock: Clock):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val", clock.now + 60))
    assert (await served.call("ttl", KEY)).ttl_seconds == 60
    clock.advance(59)
    assert (await served.call("ttl", KEY)).ttl_seconds == 1
    assert (await served.call("get", KEY)).error == 0
    clock.advance(1)
    assert (await served.call("get", KEY)).error == RocksdbError.NOT_FOUND
    assert (await served.call("ttl", KEY)).error == RocksdbError.NOT_FOUND
    assert (await served.call("sortkey_count", b"hk")).count == 0


async def test_a_scan_gives_every_row_page_by_page(served: Served):
    await served.table()
    await served.call("multi_put", MultiPutRequest(b"h", [KeyValue(b"%03d" % n, b"v") for n in range(250)]))
    page = await served.call("get_scanner", GetScannerRequest(start_inclusive=True, batch_size=100))
    keys = [kv.key for kv in page.kvs]
    while page.context_id >= 0:
        page = await served.call("scan", ScanRequest(page.context_id))
        keys += [kv.key for kv in page.kvs]
    assert keys == [encode_key(b"h", b"%03d" % n) for n in range(250)]
    assert (page.app_id, page.partition_index, page.server, page.kv_count) == (2, 0, str(served.address), None)


async def test_a_scan_can_return_expiries_or_just_count(served: Served, clock: Clock):
    await served.table()
    await served.call("multi_put", MultiPutRequest(b"h", [KeyValue(b"a", b"v")], clock.now + 5))
    await served.call("put", UpdateRequest(encode_key(b"h", b"b"), b"v", 0xC0000000 - 2**32))
    page = await served.call("get_scanner", GetScannerRequest(start_inclusive=True, return_expire_ts=True))
    assert [kv.expire_ts_seconds for kv in page.kvs] == [clock.now + 5, 0xC0000000 - 2**32]
    count = await served.call("get_scanner", GetScannerRequest(start_inclusive=True, only_return_count=True))
    assert (count.kvs, count.kv_count, count.context_id) == ([], 2, -1)


async def test_a_cleared_scanner_is_gone(served: Served):
    await served.table()
    await served.call("multi_put", MultiPutRequest(b"h", [KeyValue(b"%d" % n, b"v") for n in range(5)]))
    page = await served.call("get_scanner", GetScannerRequest(start_inclusive=True, batch_size=2))
    assert len(served.partition().scans) == 1
    served.connection.tell(CLEAR_SCANNER, page.context_id)  # without a partition in its header: ignored
    assert (await served.call("scan", ScanRequest(page.context_id))).error == 0
    assert (await served.call("scan", ScanRequest(page.context_id))).error == RocksdbError.NOT_FOUND


async def test_every_partition_has_its_own_rows(served: Served):
    await served.table(partitions=4)
    rows = {encode_key(b"h%d" % n, b""): b"%d" % n for n in range(40)}
    await asyncio.gather(
        *(served.call("put", UpdateRequest(key, value), index=partition_of(key, 4)) for key, value in rows.items())
    )
    for key, value in rows.items():
        assert (await served.call("get", key, index=partition_of(key, 4))).value == value
        assert (await served.call("get", key, index=(partition_of(key, 4) + 1) % 4)).error == RocksdbError.NOT_FOUND


@pytest.mark.parametrize("name", ["put", "incr", "remove"])
async def test_what_is_no_raw_key_is_refused(served: Served, name: str):
    await served.table()
    value = {"put": UpdateRequest(b"\0\5x", b""), "incr": IncrRequest(b"\0\5x", 1), "remove": b"\0\5x"}[name]
    assert await served.error(name, value) == ErrorCode.ERR_INVALID_PARAMETERS
    assert (await served.call("put", UpdateRequest(KEY, b""))).error == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multi_put", MultiPutRequest(b"h" * 65535, [KeyValue(b"", b"")])),
        ("multi_get", MultiGetRequest(b"h" * 65535, [b""])),
        ("multi_get", MultiGetRequest(b"h" * 65535)),
        ("batch_get", BatchGetRequest([FullKey(b"h" * 65535, b"")])),
        ("sortkey_count", b"h" * 65535),
    ],
)
async def test_a_hash_key_that_is_too_long_is_refused(served: Served, name: str, value: object):
    await served.table()
    assert await served.error(name, value) == ErrorCode.ERR_INVALID_PARAMETERS
    assert (await served.call("put", UpdateRequest(KEY, b""))).error == 0


async def test_rows_outlive_the_process(served: Served, tmp_path: Path, clock: Clock, flags: dict[str, str]):
    await served.table()
    await served.call("put", UpdateRequest(KEY, b"val"))
    served.connection.close()
    await served.server.drain()
    again = await start(tmp_path, clock, flags)
    try:
        partition = again.partition()
        assert (partition.core.ballot, partition.core.last_committed) == (1, 1)
        assert await again.error("get", KEY) == ErrorCode.ERR_INVALID_STATE  # until the metaserver says so
        await again.table()
        assert (await again.call("get", KEY)).value == b"val"
        assert (await again.call("put", UpdateRequest(KEY, b"new"))).decree == 2
    finally:
        again.connection.close()
        await again.server.drain()

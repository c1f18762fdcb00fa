"""The binary protocol and the structures of the IDL (protocol §10.3, §10.5, appendix D)."""

from __future__ import annotations

import importlib
import pkgutil
import struct as binary
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.wire import structures
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppInfo, PartitionConfiguration, QueryCfgRequest, QueryCfgResponse
from shared.pegasus.wire.structures.meta_admin import CreateAppOptions, CreateAppRequest
from shared.pegasus.wire.structures.rrdb import (
    BatchGetRequest,
    FullKey,
    KeyValue,
    MultiGetRequest,
    MultiPutRequest,
    ReadResponse,
    ScanResponse,
    UpdateRequest,
)
from shared.pegasus.wire.thrift import I64, ThriftError, codec_of

NODE = HostPort("127.0.0.1", 34801)
ALL_STRUCTS = [
    value
    for module in pkgutil.iter_modules(structures.__path__)
    for value in vars(importlib.import_module(f"shared.pegasus.wire.structures.{module.name}")).values()
    if hasattr(value, "__codec__")
]


@pytest.mark.parametrize("declared", ALL_STRUCTS, ids=lambda declared: declared.__name__)
def test_every_struct_of_the_idl_survives_the_wire_with_nothing_set(declared):
    codec = codec_of(declared)
    wire = codec.encode(declared())
    assert codec.encode(codec.decode(wire)) == wire


@pytest.mark.parametrize("declared", ALL_STRUCTS, ids=lambda declared: declared.__name__)
def test_every_struct_of_the_idl_reads_an_empty_message_as_zero_values(declared):
    again = codec_of(declared).decode(b"\x00")
    assert isinstance(again, declared)


keys = st.binary(max_size=20)
rows = st.lists(st.builds(KeyValue, keys, keys, st.none() | st.integers(-(2**31), 2**31 - 1)), max_size=5)


@given(
    st.builds(
        ScanResponse,
        st.integers(0, 13),
        rows,
        st.integers(-(2**63), 2**63 - 1),
        st.just(2),
        st.just(3),
        st.text(st.characters(codec="utf-8")),
        st.none() | st.integers(0, 100),
    )
)
def test_what_is_written_is_read_back(response):
    codec = codec_of(ScanResponse)
    assert codec.decode_field(codec.encode_field(response)) == response


def test_containers_of_every_kind_survive():
    request = MultiGetRequest(b"h", [b"a", b"", b"c"], 3, -1, True, b"s", b"t", True, False, 2, b"p", True)
    assert codec_of(MultiGetRequest).decode(codec_of(MultiGetRequest).encode(request)) == request
    batch = BatchGetRequest([FullKey(b"h1", b"s1"), FullKey(b"h2", b"")])
    assert codec_of(BatchGetRequest).decode(codec_of(BatchGetRequest).encode(batch)) == batch
    create = CreateAppRequest("temp", CreateAppOptions(8, 3, True, "pegasus", True, {"default_ttl": "10", "é": "ü"}))
    assert codec_of(CreateAppRequest).decode(codec_of(CreateAppRequest).encode(create)) == create
    query = QueryCfgRequest("temp", [0, 7, 3])
    assert codec_of(QueryCfgRequest).decode(codec_of(QueryCfgRequest).encode(query)) == query


def test_an_older_clients_answer_has_no_host_port_members():
    configuration = PartitionConfiguration(Gpid(2, 3), 1, 3, NODE, [NODE], [], 5, 0, NODE, [NODE], [])
    answer = QueryCfgResponse("ERR_OK", 2, 8, True, [configuration])
    full, compat = codec_of(QueryCfgResponse), codec_of(QueryCfgResponse).compat
    assert full.decode(full.encode(answer)) == answer
    (older,) = compat.decode(compat.encode(answer)).partitions
    assert (older.primary, older.hp_primary, older.hp_secondaries) == (NODE, None, None)
    assert NODE.host.encode() not in compat.encode(answer)


def test_a_struct_without_host_ports_needs_no_second_form():
    assert codec_of(ReadResponse).compat is codec_of(ReadResponse)


def test_members_are_read_in_any_order_and_unknown_ones_skipped():
    known = codec_of(UpdateRequest).encode(UpdateRequest(b"k", b"v", 7))[:-1]
    key, rest = known[:8], known[8:]
    unknown = b"".join(
        [
            b"\x02\x00\x63\x01",  # bool
            b"\x0b\x00\x64" + binary.pack(">i", 3) + b"abc",
            b"\x0d\x00\x65\x08\x0b" + binary.pack(">iii", 1, 5, 1) + b"x",
            b"\x0f\x00\x66\x0a" + binary.pack(">iqq", 2, 1, 2),
            b"\x0c\x00\x67\x0c\x00\x01\x03\x00\x01\x05\x00\x00",
            b"\x08\x00\x01\x00\x00\x00\x09",  # id 1 with another type is not our key
        ]
    )
    decoded = codec_of(UpdateRequest).decode(unknown + rest + unknown + key + b"\x00")
    assert (decoded.key, decoded.value, decoded.expire_ts_seconds) == (b"k", b"v", 7)


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x0c\x00\x01\x7f\xff\xff\xff",  # a blob of 2 GiB
        b"\x0c\x00\x01\xff\xff\xff\xff",  # a blob of negative length
        b"\x0c\x00\x01\x00\x00",  # cut short within a length
        b"\x0f\x00\x63\x0b\x7f\xff\xff\xff",  # an unknown list of 2^31 strings
        b"\x0d\x00\x63\x0b\x0b\xff\xff\xff\xff",  # an unknown map of negative size
        b"\x0b\x00\x63\xff\xff\xff\xff",  # an unknown string of negative length
        b"\x63\x00\x63",  # no such type
        b"\x0c\x00\x63" * 100,  # nested without end
        b"",
    ],
)
def test_hostile_bytes_are_refused(hostile):
    with pytest.raises(ThriftError):
        codec_of(UpdateRequest).decode(hostile)


def unknown_list(item: int, count: int, content: bytes) -> bytes:
    """A member that nobody here knows, in a message that has nothing else."""
    return b"\x0f\x00\x63" + bytes([item]) + binary.pack(">i", count) + content + b"\x00"


def test_items_of_fixed_size_that_nobody_knows_are_passed_in_one_step():
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    codec, message = codec_of(UpdateRequest), unknown_list(2, 1_000_000, bytes(1_000_000))
    sys.setprofile(count)
    try:
        codec.decode(message)
    finally:
        sys.setprofile(None)
    assert calls < 20


@pytest.mark.parametrize(("item", "content"), [(0x0C, b"\x00"), (0x0B, bytes(4)), (0x0F, b"\x02" + bytes(4))])
def test_a_container_that_nobody_knows_has_a_limited_number_of_items(item, content):
    codec = codec_of(UpdateRequest)
    assert codec.decode(unknown_list(item, 1000, content * 1000)) == UpdateRequest()
    with pytest.raises(ThriftError, match="announces 70000 items"):
        codec.decode(unknown_list(item, 70_000, content * 70_000))


def test_structs_in_a_list_must_say_something():
    with pytest.raises(ThriftError, match="announces 1000 items in 1001 bytes"):
        codec_of(MultiPutRequest).decode(b"\x0f\x00\x02\x0c" + binary.pack(">i", 1000) + bytes(1001))


def test_a_table_has_no_more_partitions_to_ask_for_than_a_table_can_have():
    codec = codec_of(QueryCfgRequest)
    assert len(codec.decode(codec.encode(QueryCfgRequest("t", range(65_536)))).partition_indices) == 65_536
    with pytest.raises(ThriftError, match="65537 items, at most 65536 are taken"):
        codec.decode(codec.encode(QueryCfgRequest("t", range(65_537))))


def test_a_request_names_a_limited_number_of_rows():
    codec = codec_of(MultiPutRequest)
    rows = [KeyValue(b"k", b"v")] * 16_385
    assert len(codec.decode(codec.encode(MultiPutRequest(b"h", rows[1:]))).kvs) == 16_384
    with pytest.raises(ThriftError, match="at most 16384"):
        codec.decode(codec.encode(MultiPutRequest(b"h", rows)))


def test_a_response_may_have_more_rows_than_a_request_may_name():
    codec = codec_of(ScanResponse)
    assert len(codec.decode(codec.encode(ScanResponse(kvs=[KeyValue(b"k", b"v")] * 70_000))).kvs) == 70_000


def test_a_list_of_another_type_is_refused():
    with pytest.raises(ThriftError, match="another type"):
        codec_of(QueryCfgRequest).decode(b"\x0f\x00\x02\x0b" + binary.pack(">ii", 1, 0) + b"\x00")


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(ThriftError):
        codec_of(QueryCfgRequest).decode(b"\x0b\x00\x01" + binary.pack(">i", 1) + b"\xff\x00")


@given(st.binary(max_size=120))
def test_no_bytes_do_anything_but_decode_or_be_refused(noise):
    for declared in (ScanResponse, QueryCfgResponse, AppInfo, CreateAppRequest):
        try:
            codec_of(declared).decode(noise)
        except ThriftError:
            continue


def test_the_argument_is_the_first_member_whatever_its_id():
    codec = codec_of(I64)
    assert codec.decode_field(codec.encode_field(-5, 1)) == codec.decode_field(codec.encode_field(-5, 0)) == -5
    assert codec.decode_field(b"\x00") == 0
    with pytest.raises(ThriftError, match="expected a value of thrift type 10, found type 11"):
        codec.decode_field(b"\x0b\x00\x01\x00\x00\x00\x00\x00")

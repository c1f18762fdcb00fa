"""Requests and replies on a connection (protocol §10.1 to §10.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.wire.framing import ReplyReader, Request, RequestReader, encode_error, encode_reply, encode_request
from shared.pegasus.wire.structures.base import GPID, Address, Gpid, HostPort, HostPortField
from shared.pegasus.wire.structures.layer2 import RequestMeta
from shared.pegasus.wire.structures.rrdb import ReadResponse
from shared.pegasus.wire.thrift import codec_of

GET = "RPC_RRDB_RRDB_GET"
HASH_OF_HK = 0x5D9AD5B51C9A4AB3
GET_REQUEST = bytes.fromhex(
    "54484654000000000000003000000000 0000002b0000000000000002 00000003000003e800003de1 5d9ad5b51c9a4ab3"
    "80010001 00000011 5250435f525244425f525244425f474554 00000002 0c0001 00000006 0002686b736b 00"
)
GET_REPLY = bytes.fromhex(
    "00000069 000000064552525f4f4b 80010002 000000155250435f525244425f525244425f4745545f41434b 00000002"
    "0c0000 080001 00000000 0c0002 0000000376616c 080003 00000002 080004 00000003"
    "0b0006 0000000f3132372e302e302e313a3334383031 00 00"
)
INVALID_STATE_REPLY = bytes.fromhex(
    "0000003a 000000114552525f494e56414c49445f5354415445 80010002"
    "000000155250435f525244425f525244425f4745545f41434b 00000002"
)
BACKUP_META = bytes.fromhex("080001 00000002 080002 00000003 080003 000003e8 0a0004 5d9ad5b51c9a4ab3 020005 00 00")

KEY = b"\x00\x02hksk"


def test_the_published_get_request_is_read():
    (request,) = RequestReader().feed(GET_REQUEST)
    assert (request.code, request.seqid) == (GET, 2)
    assert (request.app_id, request.partition_index, request.timeout_ms) == (2, 3, 1000)
    assert request.partition_hash == HASH_OF_HK
    assert codec_of(bytes).decode_field(request.arguments) == KEY


def test_the_published_get_request_is_written():
    arguments = codec_of(bytes).encode_field(KEY, 1)
    written = encode_request(GET, 2, arguments, app_id=2, partition_index=3, timeout_ms=1000, partition_hash=HASH_OF_HK)
    assert written == GET_REQUEST


def test_the_published_reply_is_written_and_read():
    result = codec_of(ReadResponse).encode_field(ReadResponse(0, b"val", 2, 3, "127.0.0.1:34801"))
    assert encode_reply(GET, 2, result) == GET_REPLY
    (reply,) = ReplyReader().feed(GET_REPLY)
    assert (reply.error, reply.code, reply.seqid) == ("ERR_OK", "RPC_RRDB_RRDB_GET_ACK", 2)
    assert codec_of(ReadResponse).decode_field(reply.result).value == b"val"


def test_the_published_error_reply_is_written_and_read():
    assert encode_error(GET, 2, "ERR_INVALID_STATE") == INVALID_STATE_REPLY
    (reply,) = ReplyReader().feed(INVALID_STATE_REPLY)
    assert (reply.error, reply.result) == ("ERR_INVALID_STATE", b"")


@pytest.mark.parametrize(
    ("kind", "value", "wire"),
    [
        (Address, HostPort("127.0.0.1", 34801), "7f00000187f10001"),
        (HostPortField, HostPort("127.0.0.1", 34801), "00000009 3132372e302e302e31 87f1 01"),
        (GPID, Gpid(2, 3), "00000003 00000002"),
        (RequestMeta, RequestMeta(2, 3, 1000, HASH_OF_HK, False), BACKUP_META.hex()),
    ],
)
def test_the_published_opaque_values(kind, value, wire):
    assert codec_of(kind).encode(value) == bytes.fromhex(wire)
    assert codec_of(kind).decode(bytes.fromhex(wire)) == value


def test_no_node_travels_as_invalid_in_both_forms():
    assert codec_of(Address).encode(HostPort("", 0)) == bytes(8)
    assert codec_of(HostPortField).encode(HostPort("", 0)) == bytes(7)
    assert not codec_of(Address).decode(bytes(8))


def test_a_node_known_by_name_only_has_no_rpc_address():
    assert codec_of(Address).encode(HostPort("node1.example", 34801)) == bytes(8)


def test_a_backup_request_travels_with_header_version_1():
    arguments = codec_of(bytes).encode_field(KEY, 1)
    wire = encode_request(
        GET, 7, arguments, app_id=2, partition_index=3, partition_hash=HASH_OF_HK | 1 << 63, is_backup_request=True
    )
    (request,) = RequestReader().feed(wire)
    assert request == Request(GET, 7, 2, 3, 0, HASH_OF_HK | 1 << 63, True, arguments)


@given(st.lists(st.integers(1, 60), max_size=12))
def test_any_segmentation_gives_the_same_requests(cuts):
    stream = GET_REQUEST * 3
    reader, requests, position = RequestReader(), [], 0
    for cut in [*cuts, len(stream)]:
        requests += reader.feed(stream[position : position + cut])
        position += cut
    assert [request.seqid for request in requests] == [2, 2, 2]
    assert reader.buffered_bytes == 0


@given(st.lists(st.integers(1, 60), max_size=12))
def test_any_segmentation_gives_the_same_replies(cuts):
    stream = GET_REPLY + INVALID_STATE_REPLY + GET_REPLY
    reader, replies, position = ReplyReader(), [], 0
    for cut in [*cuts, len(stream)]:
        replies += reader.feed(stream[position : position + cut])
        position += cut
    assert [reply.error for reply in replies] == ["ERR_OK", "ERR_INVALID_STATE", "ERR_OK"]


@given(st.binary(max_size=200), st.integers(0, len(GET_REQUEST)))
def test_no_bytes_break_the_reader(noise, keep):
    reader = RequestReader()
    reader.feed(GET_REQUEST[:keep] + noise)
    assert reader.error is None or not reader.feed(GET_REQUEST)


@pytest.mark.parametrize(
    ("offset", "replacement", "reason"),
    [
        (0, b"HTTP", "does not begin with THFT"),
        (4, b"\x00\x00\x00\x02", "no request header version 2"),
        (8, b"\x00\x00\x00\x31", "48 bytes, not 49"),
        (16, b"\x7f\xff\xff\xff", "longer than"),
        (48, b"\x80\x01\x00\x02", "no thrift call"),
        (52, b"\x7f\xff\xff\xff", "longer than its request"),
        (56, b"\xff", "not ASCII"),
    ],
)
def test_a_malformed_request_is_refused_with_a_reason(offset, replacement, reason):
    broken = bytearray(GET_REQUEST)
    broken[offset : offset + len(replacement)] = replacement
    reader = RequestReader()
    assert reader.feed(bytes(broken)) == []
    assert reason in (reader.error or "")


def test_requests_before_a_malformed_one_are_still_handed_out():
    reader = RequestReader()
    assert len(reader.feed(GET_REQUEST + b"GARBAGE garbage!")) == 1
    assert reader.error is not None


def test_a_request_longer_than_its_code_allows_is_handed_out_at_once_and_not_kept():
    reader = RequestReader({"SMALL": 100_000, "LARGE": 1_000_000}.__getitem__)
    long = encode_request("SMALL", 1, bytes(300_000)), encode_request("LARGE", 2, bytes(300_000))
    (refused,) = reader.feed(long[0][:2000])
    assert (refused.code, refused.seqid, refused.arguments, refused.dropped_bytes) == ("SMALL", 1, b"", 300_017)
    assert reader.is_busy
    assert reader.feed(long[0][2000:100_000]) == []
    assert reader.buffered_bytes == 0
    (taken,) = reader.feed(long[0][100_000:] + long[1])
    assert (taken.code, taken.size, taken.dropped_bytes) == ("LARGE", 300_000, 0)
    assert not reader.is_busy


@given(st.lists(st.integers(1, 80_000), max_size=12))
def test_any_segmentation_drops_the_same_requests(cuts):
    stream = GET_REQUEST + encode_request(GET, 3, bytes(200_000)) + GET_REQUEST
    reader, requests, position = RequestReader(lambda _code: 100_000), [], 0
    for cut in [*cuts, len(stream)]:
        requests += reader.feed(stream[position : position + cut])
        position += cut
    assert [(request.seqid, request.dropped_bytes > 0) for request in requests] == [(2, False), (3, True), (2, False)]
    assert (reader.taken, reader.is_busy) == (3, False)


@pytest.mark.parametrize("wire", ["0000000f", "7fffffff", "00000010 7fffffff 0000000000000000"])
def test_a_malformed_reply_is_refused(wire):
    with pytest.raises(ValueError, match="reply"):
        ReplyReader().feed(bytes.fromhex(wire))

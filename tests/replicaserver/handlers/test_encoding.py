"""Responses written straight to bytes are those that the declared structures give (protocol §10.4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replicaserver.handlers import encoding
from replicaserver.rows.scans import Page
from replicaserver.rows.store import Responder
from shared.pegasus.wire.structures.rrdb import KeyValue, ReadResponse, ScanResponse
from shared.pegasus.wire.thrift import codec_of

whos = st.builds(
    Responder, st.integers(1, 2**31 - 1), st.integers(0, 1000), st.sampled_from(["127.0.0.1:34801", "a:1"])
)
errors = st.integers(0, 13)
rows = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=8)


@given(whos, errors, st.binary(max_size=300))
def test_a_reply_to_get(who: Responder, error: int, data: bytes):
    declared = ReadResponse(error, data, who.app_id, who.partition_index, who.server)
    written = encoding.get_response(error, data, encoding.tail(who))
    assert written == codec_of(ReadResponse).encode_field(declared)


@given(whos, errors, rows, st.integers(-3, 2**62), st.none() | st.integers(0, 1000), st.booleans())
def test_a_page_of_a_scan(
    who: Responder, error: int, found: list[tuple[bytes, bytes]], context: int, count: int | None, has_expiries: bool
):
    expires = [(n * 0x3FFFFFFF) & 0xFFFFFFFF for n in range(len(found))] if has_expiries else None
    declared = ScanResponse(
        error,
        [
            KeyValue(key, data, None if expires is None else expires[n] - (expires[n] >> 31 << 32))
            for n, (key, data) in enumerate(found)
        ],
        context,
        who.app_id,
        who.partition_index,
        who.server,
        count,
    )
    written = encoding.scan_response(Page(error, found, expires, context, count), who)
    assert written == codec_of(ScanResponse).encode_field(declared)

"""A segment gives back what was written to it, and nothing that was written to its file before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.log_segments import (
    HEADER_BYTES,
    SegmentName,
    SegmentReader,
    encode_block,
    encode_end,
    encode_header,
    length_prefix,
    read_header,
)

NAME = SegmentName(number=7, run=12345)


def content(*payloads: bytes) -> bytes:
    return b"".join(length_prefix(len(payload)) + payload for payload in payloads)


def segment(name: SegmentName, *blocks: list[bytes], is_closed: bool = True) -> bytes:
    data = encode_header(name)
    for payloads in blocks:
        data += encode_block(name, len(data), content(*payloads))
    return data + (encode_end(name, len(data)) if is_closed else b"")


def read(data: bytes) -> tuple[list[bytes], bool]:
    name = read_header(data)
    assert name is not None
    reader = SegmentReader(name, data)
    return list(reader), reader.is_complete


@given(st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=4), max_size=5), st.binary(max_size=100))
def test_what_was_written_is_read_whatever_stands_behind_it(blocks: list[list[bytes]], behind: bytes):
    data = segment(NAME, *blocks) + behind
    assert read(data) == ([payload for block in blocks for payload in block], True)


def test_a_file_that_was_never_begun_is_no_segment():
    assert read_header(bytes(1000)) is None
    assert read_header(b"") is None
    assert read_header(b"another kind of file altogether") is None


@given(st.data())
def test_a_torn_block_is_left_out_whole_and_those_before_it_are_there(data: st.DataObject):
    whole = segment(NAME, [b"first"], is_closed=False)
    torn = segment(NAME, [b"first"], [b"second", b"third"], is_closed=False)
    cut = data.draw(st.integers(len(whole), len(torn) - 1))
    assert read(torn[:cut] + bytes(100)) == ([b"first"], False)


@given(st.integers(min_value=HEADER_BYTES, max_value=HEADER_BYTES + 30), st.integers(1, 255))
def test_a_changed_byte_ends_the_segment_at_its_block(place: int, change: int):
    data = bytearray(segment(NAME, [b"first"], [b"second"]))
    data[place] ^= change
    assert read(bytes(data))[0] in ([], [b"first"])


def test_blocks_of_an_earlier_use_of_the_file_are_not_taken_for_new_ones():
    old = segment(NAME, [b"old 1"], [b"old 2"], [b"old 3"])
    for name in (SegmentName(8, NAME.run), SegmentName(7, 999)):
        new = segment(name, [b"new 1"], is_closed=False)
        assert read(new + old[len(new) :]) == ([b"new 1"], False)

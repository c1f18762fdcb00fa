"""A segment gives back what was written to it, and nothing that was written to its file before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.wal.segments import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Place,
    SegmentHeader,
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
    data = encode_header(SegmentHeader(name, Place(6, 1000), 4096))
    for payloads in blocks:
        data += encode_block(name, len(data), content(*payloads))
    return data + (encode_end(name, len(data)) if is_closed else b"")


def read(data: bytes) -> tuple[list[bytes], bool]:
    header = read_header(data)
    assert header is not None
    reader = SegmentReader(header.name, data)
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


@given(st.integers(min_value=HEADER_BYTES, max_value=HEADER_BYTES + 34), st.integers(1, 255))
def test_a_changed_byte_ends_the_segment_at_its_block(place: int, change: int):
    data = bytearray(segment(NAME, [b"first"], [b"second"]))
    data[place] ^= change
    assert read(bytes(data))[0] in ([], [b"first"])


def test_blocks_of_an_earlier_use_of_the_file_are_not_taken_for_new_ones():
    old = segment(NAME, [b"old 1"], [b"old 2"], [b"old 3"])
    for name in (SegmentName(8, NAME.run), SegmentName(7, 999)):
        new = segment(name, [b"new 1"], is_closed=False)
        assert read(new + old[len(new) :]) == ([b"new 1"], False)


def test_a_header_says_which_segment_it_is_and_what_it_continues():
    header = SegmentHeader(NAME, Place(6, 1000), 4096)
    assert read_header(encode_header(header) + bytes(100)) == header


@given(st.integers(0, 2), st.integers(0, 20), st.integers(1, 255))
def test_reading_goes_on_behind_a_block_that_was_damaged(damaged: int, place: int, change: int):
    blocks = [[b"payload %d" % number] for number in range(4)]
    whole = segment(NAME, *blocks)
    size = len(content(*blocks[0])) + BLOCK_BYTES
    data = bytearray(whole)
    data[HEADER_BYTES + damaged * size + place] ^= change
    reader = SegmentReader(NAME, bytes(data))
    assert list(reader) == [payload for payloads in blocks[:damaged] for payload in payloads]
    assert reader.skip_damage() == size
    assert list(reader) == [payload for payloads in blocks[damaged + 1 :] for payload in payloads]
    assert reader.is_complete


def test_nothing_follows_a_block_that_was_torn():
    whole = segment(NAME, [b"first"], [b"second"], is_closed=False)
    reader = SegmentReader(NAME, whole[:-3] + bytes(100))
    assert (list(reader), reader.is_torn, reader.skip_damage()) == ([b"first"], True, None)
    reader = SegmentReader(NAME, whole + bytes(100))
    assert (list(reader), reader.is_torn) == ([b"first", b"second"], False)

"""Whole blocks leave in a file what was appended to it."""

from __future__ import annotations

import ctypes

from hypothesis import given
from hypothesis import strategies as st

from shared.wal.whole_blocks import ALIGNMENT, BlockStage

sizes = st.one_of(st.integers(0, 40), st.sampled_from([ALIGNMENT - 1, ALIGNMENT, ALIGNMENT + 1, 3 * ALIGNMENT]))


@given(st.lists(st.tuples(sizes, st.booleans()), max_size=30))
def test_a_file_has_what_was_appended_and_zeros(appended: list[tuple[int, bool]]):
    stage, file, text = BlockStage(3 * ALIGNMENT), bytearray(), b""
    for number, (size, is_tried_twice) in enumerate(appended):
        data = bytes([number + 1]) * size
        for _ in range(1 + is_tried_twice):
            blocks = stage.stage(data, len(text))
        assert blocks.length % ALIGNMENT == blocks.offset % ALIGNMENT == blocks.address % ALIGNMENT == 0
        assert blocks.memory == ctypes.string_at(blocks.address, blocks.length)
        file[blocks.offset : blocks.offset + blocks.length] = blocks.memory
        text += data
    assert file.rstrip(b"\0") == text


def test_the_next_file_begins_with_nothing_of_the_last():
    stage = BlockStage(ALIGNMENT)
    stage.stage(b"old" * 100, 0)
    assert bytes(stage.stage(b"new", 0).memory).rstrip(b"\0") == b"new"

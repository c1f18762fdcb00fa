"""The records of the node's log: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicaserver.storage.log_records import (
    Origin,
    Record,
    RecordError,
    decode_record,
    encode_caught_up,
    encode_record,
)
from shared.pegasus.wire.structures.base import Gpid

origins = st.builds(
    Origin, st.builds(Gpid, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), st.integers(0, 2**62 - 1)
)
numbers = st.integers(0, 2**64 - 1)
notes = st.dictionaries(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), max_size=4)
changes = st.dictionaries(st.binary(max_size=40), st.none() | st.binary(max_size=100), max_size=8)


@given(origins, numbers, notes, changes)
def test_a_record_is_read_back_as_it_was_written(origin, number, notes, changes):
    found = decode_record(encode_record(origin, number, notes, changes))
    assert found == Record(origin, number, notes, changes)
    assert list(found.changes) == list(changes)


@given(origins, numbers)
def test_a_store_that_has_caught_up_says_so(origin, number):
    assert decode_record(encode_caught_up(origin, number)) == Record(origin, number, {}, {}, is_caught_up=True)


@given(origins, notes, changes, st.data())
def test_half_a_record_is_none(origin, notes, changes, data):
    whole = encode_record(origin, 1, notes, changes)
    with pytest.raises(RecordError):
        decode_record(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(RecordError):
        decode_record(whole + b"\0")


@given(st.binary(max_size=200))
def test_nonsense_is_no_record_or_one_that_is_written_the_same(data):
    try:
        found = decode_record(data)
    except RecordError:
        return
    if not found.is_caught_up:
        assert len(encode_record(found.origin, found.number, found.notes, found.changes)) <= len(data)


def test_a_record_of_a_later_format_is_named():
    with pytest.raises(RecordError, match="format 2, expected 1"):
        decode_record(b"\2" + encode_record(Origin(Gpid(2, 0), 1), 1, {}, {})[1:])

"""Keys, values and hashes, against the published vectors (protocol §10.6 to §10.8, §15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pegasus.wire import keys

HASHES = {
    b"": 0,
    b"a": 0x8C2F8445B4CBFC3C,
    b"b": 0x0D9C951DE49567B7,
    b"0": 0x5CFB510B762E37AB,
    b"1": 0x2395A1C3461BBED2,
    b"abc": 0x05E5CABB3FC1FAEB,
    b"1234567890": 0x6025A582347B79F3,
    b"hello": 0x3377857006524257,
    b"hk": 0x5D9AD5B51C9A4AB3,
    b"h2": 0x2B52EC4FB66B7F51,
    b"hashkey1": 0xF267347267C090A1,
}


@pytest.mark.parametrize(("data", "expected"), HASHES.items())
def test_the_hash_of_a_published_key(data: bytes, expected: int) -> None:
    assert keys.crc64(data) == expected


def reference_crc64(data: bytes) -> int:
    """The bytewise definition of §10.7."""
    crc = 0xFFFF_FFFF_FFFF_FFFF
    for byte in data:
        entry = (crc ^ byte) & 0xFF
        for _ in range(8):
            entry = (entry >> 1) ^ (0x9A6C9329AC4BC9B5 if entry & 1 else 0)
        crc = entry ^ (crc >> 8)
    return crc ^ 0xFFFF_FFFF_FFFF_FFFF


@given(st.binary(max_size=300))
def test_the_hash_is_the_one_the_protocol_defines(data: bytes) -> None:
    assert keys.crc64(data) == reference_crc64(data)


def test_a_key_is_the_length_of_its_hash_key_then_both_keys() -> None:
    assert keys.encode_key(b"hk", b"sk") == bytes.fromhex("0002686b736b")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_key_is_read_back_as_it_was_written(hash_key: bytes, sort_key: bytes) -> None:
    assert keys.decode_key(keys.encode_key(hash_key, sort_key)) == (hash_key, sort_key)


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\3ab"])
def test_a_key_shorter_than_it_promises_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="raw key"):
        keys.decode_key(raw)


@given(st.binary(max_size=5))
def test_bytes_are_a_key_when_they_can_be_taken_apart(raw: bytes) -> None:
    if keys.is_key(raw):
        assert keys.encode_key(*keys.decode_key(raw)) == raw
    else:
        with pytest.raises(ValueError, match="raw key"):
            keys.decode_key(raw)


def test_the_longest_hash_key_has_65534_bytes() -> None:
    assert keys.decode_key(keys.encode_key(b"h" * 65534, b"s"))[1] == b"s"
    with pytest.raises(ValueError, match="at most 65534"):
        keys.encode_key(b"h" * 65535, b"s")


def test_a_row_belongs_to_the_partition_of_its_hash_key() -> None:
    assert keys.partition_of(keys.encode_key(b"hk", b"any"), 8) == 3
    assert keys.partition_of(keys.encode_key(b"h2", b""), 8) == 1


def test_a_row_without_hash_key_belongs_to_the_partition_of_its_sort_key() -> None:
    assert keys.key_hash(keys.encode_key(b"", b"hk")) == HASHES[b"hk"]


@pytest.mark.parametrize(
    ("prefix", "after"),
    [(b"ab", b"ac"), (b"a\xff\xff", b"b"), (b"\xff\xff", b""), (b"", b""), (b"\0\1a", b"\0\1b")],
)
def test_the_end_of_a_prefix(prefix: bytes, after: bytes) -> None:
    assert keys.next_prefix(prefix) == after


@given(st.binary(min_size=1, max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_exactly_the_rows_of_a_hash_key_lie_in_its_range(hash_key: bytes, other: bytes, sort_key: bytes) -> None:
    first, end = keys.hash_key_range(hash_key)
    raw = keys.encode_key(other, sort_key)
    assert (first <= raw and (not end or raw < end)) == (other == hash_key)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("expire", [0, 1000, 2**32 - 1])
@pytest.mark.parametrize("timetag", [0, 10001, 2**64 - 1])
@pytest.mark.parametrize("data", [b"", b"a", b"pegasus"])
def test_a_value_is_read_back_as_it_was_written(version: int, expire: int, timetag: int, data: bytes) -> None:
    stored = keys.encode_value(version, data, expire, timetag)
    assert keys.decode_value(version, stored) == (expire, timetag if version else 0, data)
    assert keys.value_expire(version, stored) == expire
    assert len(stored) == keys.HEADER_SIZES[version] + len(data)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_another_expiry_keeps_the_rest_of_a_value(version: int) -> None:
    stored = keys.encode_value(version, b"pegasus", 1000, 10001)
    assert keys.with_expire(version, stored, 10086) == keys.encode_value(version, b"pegasus", 10086, 10001)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_value_shorter_than_its_header_is_refused(version: int) -> None:
    with pytest.raises(ValueError, match="has at least"):
        keys.decode_value(version, b"\0" * (keys.HEADER_SIZES[version] - 1))


def test_an_unknown_data_version_is_refused() -> None:
    with pytest.raises(ValueError, match="data version 3"):
        keys.encode_value(3, b"")
    with pytest.raises(ValueError, match="data version 3"):
        keys.decode_value(3, b"")


def test_a_timetag_holds_the_time_the_cluster_and_the_deletion() -> None:
    assert keys.make_timetag(1, cluster_id=3, deleted=True) == 0x100 | 3 << 1 | 1


def test_a_row_is_gone_at_the_second_of_its_expiry() -> None:
    assert not keys.is_expired(0, 10)
    assert not keys.is_expired(11, 10)
    assert keys.is_expired(10, 10)


def test_expiry_counts_from_2016() -> None:
    assert keys.since_epoch(1451606400.9) == 0
    assert keys.to_unix(10) == 1451606410

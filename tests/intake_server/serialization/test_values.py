"""Control messages, blocks, frames and compression as bytes (protocol §4)."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import msgpack
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.serialization import blocks, frames
from intake_server.serialization.control import MalformedMessage, pack, plain, unpack
from intake_server.serialization.parts import LARGEST_BIN, Parts, TooLarge, bin_header, envelope
from intake_server.serialization.portable import portable_type, with_pandas_names
from intake_server.serialization.values import compress

HOUR = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (datetime(2020, 1, 2, 3, 4, 5), {"__datetime__": True, "as_str": "20200102T03:04:05.000000"}),
        (datetime(2020, 1, 2, tzinfo=HOUR), {"__datetime__": True, "as_str": "20200102T00:00:00.000000+0100"}),
        (pd.Timestamp("2020-01-02"), {"__datetime__": True, "as_str": "20200102T00:00:00.000000"}),
        (np.datetime64("2020-01-02"), {"__datetime__": True, "as_str": "20200102T00:00:00.000000"}),
        (date(2020, 1, 2), "2020-01-02"),
        (time(3, 4), "03:04:00"),
        (pd.NaT, None),
        (np.datetime64("NaT"), None),
        (pd.NA, None),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({"b", "a"}, ["a", "b"]),
        ((1, 2), [1, 2]),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (timedelta(hours=1), "1:00:00"),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (2**64 - 1, 2**64 - 1),
        ({1: "a", None: "b", date(2020, 1, 2): "c"}, {"1": "a", "None": "b", "2020-01-02": "c"}),
        (bytearray(b"x"), b"x"),
        (object, "<class 'object'>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_messagepack_cannot_hold_is_brought_into_a_form_that_it_can(value: Any, sent: Any):
    assert plain({"x": value}) == {"x": sent}
    assert msgpack.unpackb(pack([value])) == [sent]


def test_datetimes_come_back_with_their_offset():
    for moment in (datetime(2020, 1, 2, 3, 4, 5, 6), datetime(2020, 1, 2, tzinfo=HOUR)):
        assert unpack(pack({"at": moment})) == {"at": moment}


@pytest.mark.parametrize("text", [None, "", "yesterday", 7, "20201301T00:00:00.000000"])
def test_datetimes_that_are_none_are_malformed(text: Any):
    with pytest.raises(MalformedMessage):
        unpack(msgpack.packb({"at": {"__datetime__": True, "as_str": text}}))


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_but_malformed(data: bytes):
    try:
        unpack(data)
    except MalformedMessage as error:
        assert str(error)


@pytest.mark.parametrize("kind", [b"\xdf", b"\xdd", b"\xc6", b"\xdb", b"\x81\xa6action\xdd", b"\x91\xdf"])
def test_a_message_that_promises_four_billion_items_takes_no_memory(kind: bytes):
    tracemalloc.start()
    try:
        with pytest.raises(MalformedMessage):
            unpack(kind + b"\xff\xff\xff\xff" + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


keys = st.text(max_size=5).filter(lambda key: key != "__datetime__")
messages = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


@given(messages)
def test_plain_values_come_back_as_they_were(value: Any):
    assert unpack(pack(value), max_depth=100) == value


def test_the_worked_example_of_a_block():
    data = blocks.encode(np.arange(6, dtype="<i4").reshape(2, 3)).joined()
    assert data.hex() == (
        "85c4026e64c3c40474797065a33c6934c4046b696e64c400c4057368617065920203c40464617461c418"
        "000000000100000002000000030000000400000005000000"
    )


def test_a_block_is_the_arrays_own_memory():
    array = np.arange(1000.0)
    parts = blocks.encode(array)
    assert parts.buffers[-1].obj is not None
    array[0] = 42.0
    assert np.frombuffer(parts.buffers[-1])[0] == 42.0


@pytest.mark.parametrize("array", [np.arange(12).reshape(3, 4)[:, ::2], np.asfortranarray(np.arange(12).reshape(3, 4))])
def test_blocks_are_sent_in_c_order(array: Any):
    value = msgpack.unpackb(blocks.encode(array).joined(), strict_map_key=False)
    assert value[b"data"] == np.ascontiguousarray(array).tobytes()


def test_numpy_scalars_and_complex_numbers():
    assert msgpack.unpackb(blocks.encode(np.float32(1)).joined(), strict_map_key=False) == {
        b"nd": False, b"type": "<f4", b"data": np.float32(1).tobytes(),
    }  # fmt: skip
    assert msgpack.unpackb(blocks.encode(1 + 2j).joined(), strict_map_key=False) == {
        b"complex": True,
        b"data": "(1+2j)",
    }


def test_arrays_of_objects_are_text_or_bytes_or_refused():
    text = blocks.without_objects(np.array(["a", "bcd"], dtype=object))
    assert (text.dtype.str, text.tolist()) == ("<U3", ["a", "bcd"])
    assert blocks.without_objects(np.array([b"a"], dtype=object)).dtype.kind == "S"
    for odd in (np.array([1, "a"], dtype=object), np.array([None], dtype=object), np.zeros(1, dtype=[("x", "O")])):
        with pytest.raises(blocks.NotABlock):
            blocks.encode(odd)


def test_a_frame_shares_the_memory_of_its_columns():
    column = pa.array(np.arange(10_000))
    parts = frames.encode(pa.table({"x": column}))
    assert column.buffers()[1].address in {pa.py_buffer(view).address for view in parts.buffers}
    assert frames.decode(parts.joined()).column("x").to_pylist() == list(range(10_000))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2], "b": [0.5, None], "c": [True, False], "d": ["x", None]}),
        pd.DataFrame({"k": pd.Categorical(["a", "b"], ordered=True)}),
        pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Paris")}),
        pd.DataFrame({"p": pd.period_range("2020", periods=2, freq="M"), "i": pd.interval_range(0, 2)}),
        pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key")),
        pd.DataFrame([[1, 2]], columns=[0, 1]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        pd.DataFrame({"x": []}),
    ],
    ids=range(8),
)
def test_frames_survive_the_way_to_pandas_and_back(frame: pd.DataFrame):
    back = frames.decode(frames.encode(frames.from_pandas(frame)).joined()).to_pandas()
    pd.testing.assert_frame_equal(back, frame, check_freq=False)


def test_frames_with_repeated_labels_or_mixed_types_are_refused_by_name():
    with pytest.raises(frames.NotAFrame, match="column names repeat: a"):
        frames.from_pandas(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(frames.NotAFrame, match="mixes types"):
        frames.from_pandas(pd.DataFrame({"x": [1, "a"]}))


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_gzip_and_snappy_restore_what_they_were_given(pieces: list[bytes]):
    data = b"".join(pieces)
    assert gzip.decompress(compress(Parts.of(pieces), "gzip").joined()) == data
    snapped = compress(Parts.of(pieces), "snappy").joined()
    assert pa.decompress(snapped, len(data), codec="snappy", asbytes=True) == data


@pytest.mark.parametrize("size", [0, 255, 256, 65_535, 65_536])
def test_binary_headers_are_the_shortest(size: int):
    assert bin_header(size) + b"x" * size == msgpack.packb(b"x" * size)


def test_an_envelope_is_one_messagepack_map():
    parts = envelope(Parts.of([b"ab", b"c"]), format_name="msgpack", compression="none", container="python")
    value = {"format": "msgpack", "compression": "none", "container": "python", "data": b"abc"}
    assert parts.joined() == msgpack.packb(value)
    assert parts.size == len(parts.joined())
    with pytest.raises(TooLarge):
        envelope(Parts((), LARGEST_BIN + 1), format_name="msgpack", compression="none", container="python")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (pa.string_view(), pa.large_string()),
        (pa.binary_view(), pa.large_binary()),
        (pa.decimal32(5, 1), pa.decimal128(5, 1)),
        (pa.dictionary(pa.uint32(), pa.string_view()), pa.dictionary(pa.int64(), pa.large_string())),
        (pa.list_view(pa.string_view()), pa.list_(pa.large_string())),
        (pa.list_(pa.binary(3), 2), pa.list_(pa.binary(), 2)),
        (pa.struct({"x": pa.list_(pa.float16())}), pa.struct({"x": pa.list_(pa.float32())})),
        (pa.map_(pa.string_view(), pa.decimal64(9, 2)), pa.map_(pa.large_string(), pa.decimal128(9, 2))),
        *((kind, kind) for kind in (pa.int64(), pa.timestamp("us", "UTC"), pa.binary(3), pa.uuid(), pa.float16())),
    ],
    ids=str,
)
def test_types_that_old_clients_lack_are_sent_as_the_nearest_that_they_have(kind: pa.DataType, sent: pa.DataType):
    assert portable_type(kind) == sent


def described(**numpy_types: str) -> dict[bytes, bytes]:
    columns = [
        {"name": name, "field_name": name, "pandas_type": "?", "numpy_type": n} for name, n in numpy_types.items()
    ]
    return {b"pandas": json.dumps({"index_columns": ["key"], "columns": columns}).encode(), b"other": b"kept"}


def test_names_that_pandas_does_not_know_are_replaced_and_those_of_the_writer_kept():
    written = {
        "n": "int64", "kept": "Int64", "text": "string[pyarrow]", "changed": "Int64", "arrow": "int64[pyarrow]",
        "odd": "timestamp[us]", "nested": "list<item: int64>[pyarrow]",
    }  # fmt: skip
    types = [pa.int64(), pa.int64(), pa.string(), pa.string(), pa.int64(), pa.timestamp("us"), pa.list_(pa.int64())]
    schema = pa.schema(list(zip(written, types, strict=True)), metadata=described(**written))
    named = with_pandas_names(schema, {"n", "arrow"})
    assert {column["name"]: column["numpy_type"] for column in named.pandas_metadata["columns"]} == {
        **written, "n": "Int64", "changed": "object", "odd": "object", "nested": "object",
    }  # fmt: skip
    assert (named.pandas_metadata["index_columns"], named.metadata[b"other"]) == (["key"], b"kept")


@pytest.mark.parametrize("damaged", [b"{", b"[]", b"7", b'{"columns": 7}', b'{"columns": [], "index_columns": null}'])
def test_a_damaged_pandas_key_is_left_out(damaged: bytes):
    schema = pa.schema([("n", pa.int64())], metadata={b"pandas": damaged})
    assert b"pandas" not in (with_pandas_names(schema, set()).metadata or {})
    assert frames.dtypes(with_pandas_names(schema, {"n"})) == {"n": "Int64"}

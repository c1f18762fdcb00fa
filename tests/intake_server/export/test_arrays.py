"""Slices of arrays are what numpy says, and touch no block that they do not need."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake_server.drivers.base import Schema
from intake_server.export import arrays
from intake_server.export.arrays import Cut
from intake_server.export.selection import Axis, SelectionError


class Blocks:
    """An array in blocks; remembers which were read."""

    def __init__(self, array: np.ndarray[Any, Any], chunks: tuple[tuple[int, ...], ...]) -> None:
        self.array = array
        self.schema = Schema("ndarray", str(array.dtype), array.shape, 1, chunks)
        self.read_so_far: list[tuple[int, ...]] = []

    def read(self, block: Any) -> Any:
        self.read_so_far.append(block)
        cuts = []
        for position, lengths in zip(block, self.schema.chunks or (), strict=True):
            start = sum(lengths[:position])
            cuts.append(slice(start, start + lengths[position]))
        return self.array[tuple(cuts)]


@st.composite
def sliced_blocks(draw: st.DrawFn) -> tuple[Blocks, list[Axis], tuple[Any, ...]]:
    """An array in any blocks, slices of it, and the same as numpy writes them."""
    chunks = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3))
    shape = [sum(lengths) for lengths in chunks]
    axes, numpys = [], []
    for length in shape[: draw(st.integers(0, len(shape)))]:
        if draw(st.booleans()):
            index = draw(st.integers(-length, length - 1))
            axes.append(Axis(index, is_index=True))
            numpys.append(index)
        else:
            ends = st.none() | st.integers(-length - 2, length + 2)
            start, stop, step = draw(ends), draw(ends), draw(st.integers(1, 4))
            axes.append(Axis(start, stop, step))
            numpys.append(slice(start, stop, step))
    array = np.arange(np.prod(shape), dtype="<i4").reshape(shape)
    return Blocks(array, tuple(chunks)), axes, tuple(numpys)


@given(sliced_blocks())
def test_a_slice_is_numpys_whatever_the_blocks(case):
    source, axes, expected = case
    cut = Cut.of(axes, source.array.shape)
    wanted = source.array[expected]
    found = np.load(io.BytesIO(b"".join(arrays.npy(source, cut))))
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(found, wanted)
    assert json.loads(b"".join(arrays.json(source, cut))) == wanted.tolist() or wanted.size == 0
    assert len(set(source.read_so_far)) * 2 >= len(source.read_so_far)


def test_only_the_blocks_that_a_slice_touches_are_read_each_once():
    source = Blocks(np.arange(100).reshape(10, 10), ((5, 5), (3, 3, 4)))
    list(arrays.slabs(source, Cut.of([Axis(1, 4), Axis(4, 8)], (10, 10))))
    assert source.read_so_far == [(0, 1), (0, 2)]


def test_steps_over_whole_blocks_leave_them_out():
    source = Blocks(np.arange(12), ((2,) * 6,))
    assert [piece.tolist() for piece in arrays.slabs(source, Cut.of([Axis(0, 12, 5)], (12,)))] == [[0], [5], [10]]
    assert source.read_so_far == [(0,), (2,), (5,)]


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5),
        np.array(["a", "bé"]),
        np.array([b"x", b"yz"]),
        np.array([(1, 2.5), (3, 4.5)], dtype=[("n", "<i2"), ("x", "<f8")]),
        np.array(["2024-01-01", "NaT"], dtype="M8[s]"),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(4, dtype=">u2"),
        np.zeros((0, 3)),
    ],
)
def test_every_type_of_element_survives_as_npy(array):
    source = Blocks(array, tuple((length,) for length in array.shape))
    found = np.load(io.BytesIO(b"".join(arrays.npy(source, Cut.of([], array.shape)))))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_missing_times_are_null_in_json_and_cells_with_commas_are_quoted_in_csv():
    times = np.array(["2024-01-01", "NaT"], dtype="M8[D]")
    assert b"".join(arrays.json(Blocks(times, ((2,),)), Cut.of([], (2,)))) == b'["2024-01-01",null]'
    texts = np.array([["a,b", 'say "x"'], ["c", "d"]])
    assert b"".join(arrays.csv(Blocks(texts, ((1, 1), (2,))), Cut.of([], (2, 2)))) == b'"a,b","say ""x"""\nc,d\n'


def test_csv_has_two_axes():
    source = Blocks(np.zeros((2, 2, 2)), ((2,),) * 3)
    with pytest.raises(SelectionError, match="CSV has two axes, this has 3"):
        list(arrays.csv(source, Cut.of([], (2, 2, 2))))
    assert b"".join(arrays.csv(source, Cut.of([Axis(0, is_index=True)], (2, 2, 2)))) == b"0.0,0.0\n0.0,0.0\n"


def test_a_block_is_sent_from_its_own_memory():
    source = Blocks(np.arange(1_000_000.0), ((600_000, 400_000),))
    head, *pieces = arrays.npy(source, Cut.of([], (1_000_000,)))
    assert len(head) % 64 == 0
    assert [len(piece) for piece in pieces] == [4_800_000, 3_200_000]
    assert all(np.shares_memory(np.frombuffer(piece, np.uint8), source.array) for piece in pieces)


LONG = np.arange(300_000.0)
LONG[7] = np.nan


@pytest.mark.parametrize("shape", [(300_000,), (3, 100_000), (100_000, 3), (1, 300_000), (2, 3, 50_000), (300, 1000)])
@pytest.mark.parametrize("dropped", [False, True])
def test_large_arrays_become_text_in_steps(shape, dropped):
    array = LONG.reshape(shape)
    source = Blocks(array, tuple((length,) for length in shape))
    cut = Cut.of([Axis(0, is_index=True)] if dropped else [], shape)
    wanted = array[0] if dropped else array
    pieces = list(arrays.json(source, cut))
    found = np.array(json.loads(b"".join(pieces)), dtype=float)
    np.testing.assert_array_equal(found, wanted)
    assert max(map(len, pieces)) < 2**20
    if wanted.ndim == 3:
        return
    pieces = list(arrays.csv(source, cut))
    found = np.loadtxt(io.BytesIO(b"".join(pieces)), delimiter=",", ndmin=wanted.ndim)
    np.testing.assert_array_equal(found.reshape(-1), wanted.reshape(-1))
    assert max(map(len, pieces)) < 2**20


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "i1", "u8", "?"])
def test_numbers_of_every_type_are_the_same_in_csv(kind):
    array = np.array([[0, 1], [1, 0]]).astype(kind)
    array[0, 0] = np.inf if kind[1:2] == "f" else 1
    source = Blocks(array, ((2,), (2,)))
    found = [line.split(",") for line in b"".join(arrays.csv(source, Cut.of([], (2, 2)))).decode().splitlines()]
    assert [[float(cell == "True" or (cell != "False" and cell)) for cell in line] for line in found] == array.tolist()

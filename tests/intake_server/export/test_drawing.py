"""Previews: what is drawn stands where the numbers say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from intake_server.export import drawing
from intake_server.export.drawing import Envelope, NotDrawable

BLUE = (9, 105, 218)


def line(values: np.ndarray, most: int = 1600) -> Envelope:
    envelope = Envelope(most)
    envelope.add(values)
    return envelope


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=30), min_size=1, max_size=8),
    st.integers(1, 9),
)
def test_an_envelope_keeps_the_extremes_of_a_line_in_bounded_memory(parts, most):
    envelope = Envelope(most)
    for part in parts:
        envelope.add(np.array(part, dtype=float))
    values = np.array([value for part in parts for value in part])
    low, high = envelope.lines()
    assert len(low) <= most + 1
    assert envelope.count == len(values)
    finite = values[np.isfinite(values)]
    if len(finite):
        assert np.nanmin(low) == finite.min()
        assert np.nanmax(high) == finite.max()
    else:
        assert not np.isfinite(low).any()


def test_the_order_of_a_line_is_kept():
    low, high = line(np.arange(10_000.0), most=100).lines()
    assert (np.diff(low) > 0).all()
    assert (low <= high).all()


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    picture = opened(drawing.line_plot([("n", line(np.arange(500.0)))], "rising"))
    pixels = np.asarray(picture)[34:360, 70:781]
    ys, xs = np.nonzero((pixels == BLUE).all(axis=2))
    assert xs[ys.argmax()] < 20
    assert xs[ys.argmin()] > 690
    assert len(set(xs)) > 700


def test_every_line_has_its_own_colour_up_to_the_most():
    lines = [(f"line {n}", line(np.full(10, float(n)))) for n in range(20)]
    colours = {colour for _, colour in opened(drawing.line_plot(lines, "many")).getcolors(1 << 16)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in drawing.COLOURS} <= colours


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf]])
def test_without_a_finite_number_nothing_can_be_drawn(values):
    with pytest.raises(NotDrawable):
        drawing.line_plot([("x", line(np.array(values)))], "empty")
    with pytest.raises(NotDrawable):
        drawing.picture(np.array([values]))


def test_a_title_of_any_text_is_drawn():
    title = "".join(map(chr, (0, 10, 0x202E, 0x1F600))) + "x" * 1000
    assert opened(drawing.line_plot([("\x1b[31m", line(np.array([1.0])))], title)).size == (800, 400)


def test_a_picture_goes_from_dark_to_bright_and_shows_what_is_missing_white():
    picture = opened(drawing.picture(np.array([[0.0, 5.0], [10.0, np.nan]])))
    assert picture.size == (32, 32)
    corners = [picture.getpixel(at) for at in ((0, 0), (31, 0), (0, 31), (31, 31))]
    assert corners[0] == (68, 1, 84)
    assert corners[2] == (253, 231, 37)
    assert corners[3] == (255, 255, 255)
    assert sum(corners[0]) < sum(corners[1]) < sum(corners[2])


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-3.7, 12.2), (1e-9, 2e-9), (1e12, 1e12 + 5), (0, 0.1)])
def test_ticks_are_round_and_inside(low, high):
    found = drawing.ticks(low, high)
    assert 3 <= len(found) <= 9
    assert all(low - 1e-6 * (high - low) <= tick <= high + 1e-6 * (high - low) for tick in found)
    assert len(set(found)) == len(found)

"""Previews as PNG: lines of numbers, and arrays as pictures.

Pillow draws; it is small, has wheels everywhere and needs no fonts or configuration, unlike a plotting library,
which a server that only shows previews has no other use for.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 800, 400
MAX_LINES = 8
LARGEST_IMAGE = 1024
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 40
_PAPER, _INK, _GRID = "#ffffff", "#30363d", "#e3e6ea"
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#1b7c83", "#57606a")
_SHADES = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725")


class NotDrawable(Exception):  # noqa: N818 - a property of the data, reported to the caller
    """There is nothing in the data that can be drawn; the text says why."""


class Envelope:
    """The smallest and the largest of each stretch of a line, however long the line becomes.

    Args:
        most: The most stretches; when there are more, each two become one.
    """

    def __init__(self, most: int = 2 * WIDTH) -> None:
        self._most = most
        self._width = 1
        self.count = 0
        self._low: list[float] = []
        self._high: list[float] = []
        self._rest = np.empty(0)

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Go on with further values."""
        self.count += len(values)
        self._rest = np.concatenate([self._rest, values.astype(float, copy=False)])
        while len(self._rest) // self._width > self._most:
            self._fold()
        self._take(len(self._rest) // self._width * self._width)
        while len(self._low) > self._most:
            self._fold()

    def _fold(self) -> None:
        if len(self._low) % 2:
            self._low.append(math.nan)
            self._high.append(math.nan)
        self._low = _least(np.reshape(self._low, (-1, 2))).tolist()
        self._high = (-_least(-np.reshape(self._high, (-1, 2)))).tolist()
        self._width *= 2

    def _take(self, count: int) -> None:
        if count:
            stretches = self._rest[:count].reshape(-1, self._width)
            self._low += _least(stretches).tolist()
            self._high += (-_least(-stretches)).tolist()
            self._rest = self._rest[count:]

    def lines(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The smallest and the largest value of each stretch, the last one perhaps shorter."""
        low, high = list(self._low), list(self._high)
        if len(self._rest):
            low += _least(self._rest.reshape(1, -1)).tolist()
            high += (-_least(-self._rest.reshape(1, -1))).tolist()
        return np.array(low), np.array(high)


def _least(stretches: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The smallest finite value of each row, NaN where there is none."""
    finite = np.where(np.isfinite(stretches), stretches, np.inf)
    found = finite.min(axis=1)
    return np.where(np.isinf(found), np.nan, found)


def line_plot(lines: Sequence[tuple[str, Envelope]], title: str) -> bytes:
    """Lines over the number of the row.

    Args:
        lines: Their names and values.
        title: What stands above.

    Raises:
        NotDrawable: There is no finite number in any of them.
    """
    drawn = [(name, *envelope.lines()) for name, envelope in lines[:MAX_LINES]]
    finite = [values[np.isfinite(values)] for _, low, high in drawn for values in (low, high)]
    if not sum(map(len, finite)):
        raise NotDrawable("there is no number in the data that could be drawn")
    bottom = min(float(values.min()) for values in finite if len(values))
    top = max(float(values.max()) for values in finite if len(values))
    if bottom == top:
        bottom, top = bottom - 0.5, top + 0.5
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(12)
    pen.text((_LEFT, 10), _shortened(title, 100), _INK, font=font)
    _draw_grid(pen, font, bottom, top, max(envelope.count for _, envelope in lines))
    for number, (_, low, high) in enumerate(drawn):
        _draw_line(pen, low, high, bottom, top, COLOURS[number])
    _draw_legend(pen, font, [name for name, *_ in drawn])
    return _png(picture)


def _draw_grid(pen: Any, font: Any, bottom: float, top: float, count: int) -> None:
    for value in ticks(bottom, top):
        y = _y(value, bottom, top)
        pen.line([(_LEFT, y), (WIDTH - _RIGHT, y)], _GRID)
        text = f"{value:.6g}"
        pen.text((_LEFT - 6 - pen.textlength(text, font=font), y - 7), text, _INK, font=font)
    for value in ticks(0, max(1, count - 1)):
        x = _LEFT + value / max(1, count - 1) * (WIDTH - _LEFT - _RIGHT)
        pen.line([(x, _TOP), (x, HEIGHT - _BOTTOM)], _GRID)
        text = f"{value:.6g}"
        pen.text((x - pen.textlength(text, font=font) / 2, HEIGHT - _BOTTOM + 4), text, _INK, font=font)
    pen.rectangle([(_LEFT, _TOP), (WIDTH - _RIGHT, HEIGHT - _BOTTOM)], outline=_INK)


def _draw_line(
    pen: Any, low: np.ndarray[Any, Any], high: np.ndarray[Any, Any], bottom: float, top: float, colour: str
) -> None:
    xs = _LEFT + np.linspace(0, 1, max(2, len(low)))[: len(low)] * (WIDTH - _LEFT - _RIGHT)
    before: tuple[float, float] | None = None
    for x, least, most in zip(xs.tolist(), low.tolist(), high.tolist(), strict=True):
        if not math.isfinite(least):
            before = None
            continue
        pen.line([(x, _y(least, bottom, top)), (x, _y(most, bottom, top))], colour)
        middle = (x, _y((least + most) / 2, bottom, top))
        if before is not None:
            pen.line([before, middle], colour)
        before = middle


def _draw_legend(pen: Any, font: Any, names: Sequence[str]) -> None:
    x = float(_LEFT)
    for number, name in enumerate(names):
        text = _shortened(name, 16)
        pen.rectangle([(x, HEIGHT - 16), (x + 10, HEIGHT - 6)], fill=COLOURS[number])
        pen.text((x + 14, HEIGHT - 18), text, _INK, font=font)
        x += 26 + pen.textlength(text, font=font)


def _y(value: float, bottom: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)


def ticks(bottom: float, top: float, about: int = 6) -> list[float]:
    """Round numbers between two numbers.

    >>> ticks(0, 10)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (top - bottom) / about
    if not math.isfinite(rough) or rough <= 0:
        return [bottom]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(bottom / step)
    return [round(number * step, 12) for number in range(first, math.floor(top / step) + 1)]


def picture(array: np.ndarray[Any, Any]) -> bytes:
    """An array of two axes as a picture from dark (its smallest value) to bright; small ones are enlarged.

    Raises:
        NotDrawable: It is empty or has no finite number.
    """
    values = array.astype(float)
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise NotDrawable("there is no number in the array that could be drawn")
    low, high = float(finite.min()), float(finite.max())
    share = np.zeros(values.shape) if low == high else (values - low) / (high - low)
    levels = np.clip(np.nan_to_num(share) * 255, 0, 255).astype(np.uint8)
    pixels = _palette()[levels]
    pixels[~np.isfinite(values)] = 255
    image = Image.fromarray(pixels, "RGB")
    enlarged = max(1, min(16, 256 // max(image.size)))
    return _png(image.resize((image.width * enlarged, image.height * enlarged), Image.Resampling.NEAREST))


def _palette() -> np.ndarray[Any, Any]:
    stops = np.array([[int(shade[at : at + 2], 16) for at in (1, 3, 5)] for shade in _SHADES], dtype=float)
    positions = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(positions, range(len(stops)), stops[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def _shortened(text: str, most: int) -> str:
    printable = "".join(sign if sign.isprintable() else "?" for sign in text)
    return printable if len(printable) <= most else printable[: most - 1] + "…"


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()

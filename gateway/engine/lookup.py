"""Finding a record by its id, in bounded memory (§8.3).

Records are kept as their printed bytes, one behind the other, in blocks of a few thousand. Ids given by the gateway
grow, so a block finds them by bisection in an array of eight-byte numbers; only ids that clients made up need an
entry of their own. A million records of 92 bytes take 116 MiB; in a dictionary from id to bytes they take 272 MiB, and
its growth stops the event loop for up to 190 ms.

Every entry knows the channels on which its record has ticked or was staged, for callers who may see some channels only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import lt
from typing import Final

from gateway.schema.record import Record

_BLOCK: Final = 4096
_BLOCK_BYTES: Final = 2**20
_BATCH: Final = 256
_RUN: Final = 256
_DIGITS: Final = 19
"""How many digits an id of the gateway has: nanoseconds since the epoch."""
_LEAST: Final = 10 ** (_DIGITS - 1)
_MOST_ORIGINS: Final = 2**12


@dataclass(frozen=True, slots=True)
class LookupLimits:
    """How much is kept for each struct type.

    Attributes:
        max_items: Number of records.
        max_bytes: Size of their printed text.
        ttl_s: Age in seconds beyond which a record is not found any more, or None.
    """

    max_items: int = 100_000
    max_bytes: int = 256 * 2**20
    ttl_s: float | None = None


class _Block:
    """Up to `_BLOCK` records in the order in which they came."""

    __slots__ = ("ends", "first", "numbers", "odd", "origins", "positions", "sealed_at", "text")

    def __init__(self) -> None:
        self.text = bytearray()
        self.ends = array("L")
        self.numbers = array("Q")
        self.positions = array("H")
        self.origins = array("H")
        self.odd: list[str] = []
        self.first = 0
        self.sealed_at = 0.0

    def __len__(self) -> int:
        return len(self.ends) - self.first

    def start(self, position: int) -> int:
        return self.ends[position - 1] if position else 0

    def get(self, position: int) -> bytes:
        return bytes(self.text[self.start(position) : self.ends[position]])

    def position_of(self, number: int) -> int | None:
        at = bisect_left(self.numbers, number)
        if at == len(self.numbers) or self.numbers[at] != number or self.positions[at] < self.first:
            return None
        return self.positions[at]


class LookupCache:
    """The records of one struct type, the oldest forgotten first."""

    def __init__(self, limits: LookupLimits) -> None:
        self.limits = limits
        self._blocks: deque[_Block] = deque([_Block()])
        self._dropped_blocks = 0
        self._odd: dict[str, tuple[int, int]] = {}
        self._items = 0
        self._size_bytes = 0
        self._fresh: list[tuple[list[Record], str]] = []
        self._fresh_items = 0
        self._fresh_bytes = 0
        self._highest = -1
        self._origins: list[frozenset[str]] = []
        self._origin_numbers: dict[str | frozenset[str], int] = {}
        self._batch = _BATCH if limits.ttl_s is None else 1

    def limit(self, limits: LookupLimits) -> None:
        """Keep no more than this from now on."""
        self._file_away(0.0)
        self.limits = limits
        self._batch = _BATCH if limits.ttl_s is None else 1
        self._shrink(0.0)

    @property
    def items(self) -> int:
        """How many records are kept."""
        self._file_away(0.0)
        return self._items

    @property
    def size_bytes(self) -> int:
        """The size of their text."""
        self._file_away(0.0)
        return self._size_bytes

    @property
    def held_bytes(self) -> int:
        """The size of all text in memory, forgotten records of blocks that are not empty yet included."""
        return self._fresh_bytes + sum([len(block.text) for block in self._blocks])

    def add(self, records: Sequence[Record], channel: str, now: float) -> None:
        """Keep records that ticked or were staged.

        Args:
            records: The records; one whose id is not a string is not kept, as nothing could find it.
            channel: Where they ticked or were staged.
            now: Seconds on any steadily growing clock.
        """
        fresh = self._fresh
        if fresh and fresh[-1][1] == channel:
            fresh[-1][0].extend(records)
        else:
            fresh.append((list(records), channel))
        self._fresh_items += len(records)
        self._fresh_bytes += sum([len(record.encoded) for record in records])
        if self._fresh_items >= self._batch or self._fresh_bytes >= _BLOCK_BYTES:
            self._file_away(now)

    def _file_away(self, now: float) -> None:
        """Put what came since the last time into blocks: together, as that costs a fraction of one by one."""
        if not self._fresh:
            return
        fresh, self._fresh, self._fresh_items, self._fresh_bytes = self._fresh, [], 0, 0
        for records, channel in fresh:
            for start in range(0, len(records), _RUN):
                run = records[start : start + _RUN]
                numbers = _growing_numbers(run, self._highest)
                if numbers is not None:
                    self._put_run(run, numbers, channel, now)
                    continue
                for record in run:
                    record_id = record.values.get("id")
                    if isinstance(record_id, str):
                        self._put(record_id, record.encoded, channel, now)
        self._shrink(now)

    def _put_run(self, records: Sequence[Record], numbers: Sequence[int], channel: str, now: float) -> None:
        """`_put` for records with ids that the gateway has given, each greater than all before."""
        origin = self._origin(channel)
        self._highest = numbers[-1]
        start = 0
        while start < len(records):
            block = self._blocks[-1]
            position = len(block.ends)
            if position == _BLOCK or len(block.text) >= _BLOCK_BYTES:
                block, position = _Block(), 0
                self._blocks.append(block)
            texts = [record.encoded for record in records[start : start + _BLOCK - position]]
            count = len(texts)
            size_before = len(block.text)
            ends = accumulate(map(len, texts), initial=size_before)
            next(ends)
            block.ends.extend(ends)
            block.text += b"".join(texts)
            self._size_bytes += len(block.text) - size_before
            block.origins.extend([origin] * count)
            block.numbers.extend(numbers[start : start + count])
            block.positions.extend(range(position, position + count))
            block.sealed_at = now
            self._items += count
            start += count

    def _put(self, record_id: str, encoded: bytes, channel: str, now: float) -> None:
        number = _generated_number(record_id)
        if number is not None and number > self._highest:
            self._highest = number
            origin = self._origin(channel)
        else:
            origin = self._origin_with(channel, self._origins_before(record_id, encoded))
        block = self._blocks[-1]
        position = len(block.ends)
        if position == _BLOCK or len(block.text) >= _BLOCK_BYTES:
            block, position = _Block(), 0
            self._blocks.append(block)
        block.text += encoded
        block.ends.append(len(block.text))
        block.origins.append(origin)
        block.sealed_at = now
        if number is not None and (not block.numbers or number > block.numbers[-1]):
            block.numbers.append(number)
            block.positions.append(position)
            if self._odd:
                self._odd.pop(record_id, None)
        else:
            self._odd[record_id] = (self._dropped_blocks + len(self._blocks) - 1, position)
            block.odd.append(record_id)
        self._items += 1
        self._size_bytes += len(encoded)

    def _origins_before(self, record_id: str, encoded: bytes) -> frozenset[str]:
        """The channels on which this very record is known already."""
        place = self._place_of(record_id)
        if place is None or place[0].get(place[1]) != encoded:
            return frozenset()
        return self._origins[place[0].origins[place[1]]]

    def _origin(self, channel: str) -> int:
        """The number of one channel."""
        number = self._origin_numbers.get(channel)
        if number is None:
            number = self._origin_numbers[channel] = len(self._origins)
            self._origins.append(frozenset((channel,)))
        return number

    def _origin_with(self, channel: str, others: frozenset[str]) -> int:
        """The number of a set of channels; that of `channel` alone when too many different sets are in use."""
        if others <= {channel}:
            return self._origin(channel)
        origins = others | {channel}
        number = self._origin_numbers.get(origins)
        if number is None:
            if len(self._origins) >= _MOST_ORIGINS:
                return self._origin(channel)
            number = self._origin_numbers[origins] = len(self._origins)
            self._origins.append(origins)
        return number

    def find(self, record_id: str, now: float, channels: frozenset[str] | None = None) -> bytes | None:
        """The printed record of that id, the newest if there were several; None when it is not kept.

        Args:
            record_id: The id.
            now: As for `add`.
            channels: The record must have ticked or been staged on one of these; None for any.
        """
        self._file_away(now)
        self._shrink(now)
        place = self._place_of(record_id)
        if place is None:
            return None
        block, position = place
        if channels is not None and channels.isdisjoint(self._origins[block.origins[position]]):
            return None
        return block.get(position)

    def _place_of(self, record_id: str) -> tuple[_Block, int] | None:
        place = self._odd.get(record_id)
        if place is not None:
            block = self._blocks[place[0] - self._dropped_blocks]
            return (block, place[1]) if place[1] >= block.first else None
        number = _generated_number(record_id)
        if number is None:
            return None
        for block in reversed(self._blocks):
            if block.numbers and block.numbers[0] <= number <= block.numbers[-1]:
                position = block.position_of(number)
                if position is not None:
                    return block, position
        return None

    def _shrink(self, now: float) -> None:
        limits = self.limits
        while self._items > limits.max_items or self._size_bytes > limits.max_bytes:
            self._forget_oldest()
        if limits.ttl_s is not None:
            while self._blocks and len(self._blocks[0]) and self._blocks[0].sealed_at < now - limits.ttl_s:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        block = self._blocks[0]
        start = block.start(block.first)
        self._size_bytes -= block.ends[block.first] - start
        self._items -= 1
        block.first += 1
        if block.first == len(block.ends):
            self._drop_block()

    def _drop_block(self) -> None:
        block = self._blocks.popleft()
        for record_id in block.odd:
            place = self._odd.get(record_id)
            if place is not None and place[0] == self._dropped_blocks:
                del self._odd[record_id]
        self._dropped_blocks += 1
        if not self._blocks:
            self._blocks.append(_Block())


def _growing_numbers(records: Sequence[Record], above: int) -> list[int] | None:
    """The ids of records as numbers, if each is one that a gateway gives, and greater than the one before."""
    try:
        ids = [record.values["id"] for record in records]
        digits = "".join(ids)
    except (KeyError, TypeError):
        return None
    if len(digits) != _DIGITS * len(ids) or not (digits.isascii() and digits.isdecimal()):
        return None
    numbers = list(map(int, ids))
    is_growing = numbers[0] > max(above, _LEAST) and numbers[-1] < 2**63 and all(map(lt, numbers, numbers[1:]))
    return numbers if is_growing else None


def _generated_number(record_id: str) -> int | None:
    if record_id.isdecimal() and record_id.isascii() and len(record_id) < 20 and record_id[0] != "0":
        number = int(record_id)
        return number if number < 2**63 else None
    return None

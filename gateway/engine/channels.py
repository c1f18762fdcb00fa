"""Channels: named streams of ticks, alone or as baskets of keyed feeds.

A feed is one ordered series of ticks: a plain channel has one, a basket one for each key. A feed stores its last tick
and a few before it, and notifies waiters and subscribers, which are plain callables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

import orjson

from gateway.schema.record import Record, encode_list
from gateway.state.store import StateSpec

Waiter: TypeAlias = Callable[[bytes], None]
QueuePolicy = Literal["disconnect", "drop_oldest", "conflate"]

RECENT_BYTES: Final = 64 * 2**20
_RECORD_BYTES: Final = 512
CONTROLS = "controls"
HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """A declared channel.

    Attributes:
        name: Its name.
        struct: Name of the struct type.
        is_list: A tick is a list of structs instead of one.
        keys: The keys of a basket, or None for a plain channel.
        key_enum: The enumeration that the keys are names of, if any.
        sendable: Clients may tick it.
        staged: It has staging areas.
        states: Its accumulations.
        conflatable: A slow subscriber may be sent only the newest tick.
        policy: What happens to a slow subscriber, when it differs from the stream's own policy.
    """

    name: str
    struct: str
    is_list: bool = False
    keys: tuple[str, ...] | None = None
    key_enum: str | None = None
    sendable: bool = False
    staged: bool = False
    states: tuple[StateSpec, ...] = ()
    conflatable: bool = False
    policy: QueuePolicy | None = None


class Tick:
    """One tick of one feed, with everything that is ever sent of it, built at most once.

    Attributes:
        feed: Where it ticked.
        records: The struct, or the structs of a list channel.
        at: When it was applied, aware UTC.
        number: Its number among the ticks of the gateway, from 1.
        size_bytes: About what it takes to remember it.
    """

    __slots__ = ("_encoded", "_frame", "at", "feed", "number", "records", "size_bytes")

    def __init__(self, feed: Feed, records: Sequence[Record], at: datetime, number: int) -> None:
        self.feed = feed
        self.records = records
        self.at = at
        self.number = number
        if len(records) == 1:
            self.size_bytes = _RECORD_BYTES + len(records[0].encoded)
        else:
            self.size_bytes = _RECORD_BYTES * len(records) + sum([len(record.encoded) for record in records])
        self._encoded: bytes | None = None
        self._frame: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """What ``last`` answers: always a JSON array."""
        encoded = self._encoded
        if encoded is None:
            records = self.records
            encoded = b"[" + records[0].encoded + b"]" if len(records) == 1 else encode_list(records)
            self._encoded = encoded
        return encoded

    @property
    def message(self) -> bytes:
        """What subscribers are sent (§4.3)."""
        return self.feed.message_head + self.encoded + b"}"

    @property
    def frame(self) -> bytes:
        """The message as one unmasked WebSocket text frame, the same bytes for every subscriber."""
        frame = self._frame
        if frame is None:
            frame = self._frame = text_frame(self.message)
        return frame

    @property
    def event_id(self) -> str | None:
        """What names this very tick to a client that wants to go on behind it: its last record's id and its number."""
        record_id = self.records[-1].values.get("id") if self.records else None
        return f"{record_id}@{self.number}" if isinstance(record_id, str) else None

    def has_id(self, record_id: str) -> bool:
        """Whether one of its records carries this id."""
        return any(record.values.get("id") == record_id for record in self.records)


class Subscriber(Protocol):
    """Someone who is handed every tick of the feeds it listens to."""

    def deliver(self, tick: Tick) -> None:
        """Take a tick; must not block and must not raise."""


class Feed:
    """One ordered series of ticks."""

    __slots__ = ("channel", "key", "last", "message_head", "path", "recent", "subscribers", "ticks", "waiters")

    def __init__(self, channel: Channel, key: str | None, recent: int) -> None:
        self.channel = channel
        self.key = key
        self.path = channel.name if key is None else f"{channel.name}/{key}"
        self.last: Tick | None = None
        self.recent: deque[Tick] = deque(maxlen=recent)
        self.subscribers: dict[Subscriber, None] = {}
        self.waiters: dict[Waiter, None] = {}
        self.ticks = 0
        head = b'{"channel":' + orjson.dumps(channel.name)
        if key is not None:
            head += b',"key":' + orjson.dumps(key)
        self.message_head = head + b',"data":'

    @property
    def encoded_last(self) -> bytes:
        """The answer of ``last``."""
        return b"[]" if self.last is None else self.last.encoded

    def after(self, record_id: str) -> list[Tick] | None:
        """The remembered ticks that came after the one with this id; None when it is not remembered."""
        later: list[Tick] = []
        for tick in reversed(self.recent):
            if tick.has_id(record_id):
                later.reverse()
                return later
            later.append(tick)
        return None


class RecentTicks:
    """What all feeds together remember of their ticks: a number for each, and so many bytes for all.

    Args:
        most_bytes: The bytes; beyond them the oldest ticks of all feeds are forgotten.
    """

    def __init__(self, most_bytes: int = RECENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._feeds: dict[Feed, None] = {}
        self.size_bytes = 0

    def add(self, tick: Tick) -> None:
        """Remember a tick, as the newest of its feed."""
        recent = tick.feed.recent
        if not recent:
            self._feeds[tick.feed] = None
        elif len(recent) == recent.maxlen:
            self.size_bytes -= recent[0].size_bytes
        recent.append(tick)
        self.size_bytes += tick.size_bytes
        if self.size_bytes > self._most_bytes:
            self._shrink()

    def add_run(self, feed: Feed, ticks: Sequence[Tick]) -> None:
        """Remember ticks of one feed, as its newest."""
        recent = feed.recent
        most = recent.maxlen or 0
        if not recent:
            self._feeds[feed] = None
        kept = ticks[-most:]
        for _ in range(len(recent) + len(kept) - most):
            self.size_bytes -= recent.popleft().size_bytes
        recent.extend(kept)
        self.size_bytes += sum([tick.size_bytes for tick in kept])
        if self.size_bytes > self._most_bytes:
            self._shrink()

    def _shrink(self) -> None:
        """Forget an eighth at once, as finding the oldest means looking at all."""
        for tick in sorted((tick for feed in self._feeds for tick in feed.recent), key=lambda tick: tick.number):
            if self.size_bytes <= self._most_bytes * 7 // 8:
                return
            tick.feed.recent.popleft()
            self.size_bytes -= tick.size_bytes


class Channel:
    """A declared channel with its feeds and with who provides and who reads it."""

    def __init__(self, spec: ChannelSpec, *, recent: int) -> None:
        self.spec = spec
        self.name = spec.name
        self.setters: list[str] = []
        self.getters: list[str] = []
        self.waiters: dict[Waiter, None] = {}
        keys: Sequence[str | None] = (None,) if spec.keys is None else spec.keys
        self.feeds = [Feed(self, key, recent) for key in keys]
        self._by_key = {feed.key: feed for feed in self.feeds}

    @property
    def is_basket(self) -> bool:
        """Whether it has keys."""
        return self.spec.keys is not None

    @property
    def is_provided(self) -> bool:
        """Whether anything can tick it."""
        return bool(self.setters)

    def also_call(self, key: str, alias: str) -> None:
        """Let a key be found under another name, unless that is a key itself."""
        self._by_key.setdefault(alias, self._by_key[key])

    def feed(self, key: str | None) -> Feed | None:
        """The feed of a key, or the only feed of a plain channel for None."""
        return self._by_key.get(key)

    @property
    def records(self) -> list[Record]:
        """The last records: of a basket those of all keys that have ticked, in key order."""
        return [record for feed in self.feeds if feed.last is not None for record in feed.last.records]

    @property
    def encoded_last(self) -> bytes:
        """The answer of ``last``: a JSON array."""
        if len(self.feeds) == 1:
            return self.feeds[0].encoded_last
        return encode_list(self.records)


class Channels:
    """The channels of a gateway, in the order of declaration, by name and by name with dashes."""

    def __init__(self, specs: Iterable[ChannelSpec], *, recent: int = 1024) -> None:
        self._channels = {spec.name: Channel(spec, recent=recent) for spec in specs}
        aliases = {name.replace("_", "-"): channel for name, channel in self._channels.items()}
        self._by_path = aliases | self._channels

    def __getitem__(self, name: str) -> Channel:
        return self._channels[name]

    def __contains__(self, name: str) -> bool:
        return name in self._channels

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def __len__(self) -> int:
        return len(self._channels)

    def get(self, name: str) -> Channel | None:
        """The channel of that very name."""
        return self._channels.get(name)

    def at(self, segment: str) -> Channel | None:
        """The channel that a path segment means: its name, or its name with dashes (§0)."""
        return self._by_path.get(segment)


def text_frame(payload: bytes) -> bytes:
    """A final, unmasked WebSocket text frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload

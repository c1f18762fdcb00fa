"""The protocol of the stream (§4.2): one session for each connection.

Invalid actions are ignored without an answer. A client that has sent ``hello`` with ``errors`` receives an error
instead. A session uses the engine and its own outbox; it has no socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic_core import from_json

from gateway.auth import Rights
from gateway.engine.channels import HEARTBEAT, Channel, Feed, text_frame
from gateway.engine.engine import Engine
from gateway.schema.invalid import InvalidInput
from gateway.schema.memory_estimate import is_large
from gateway.schema.record import encode
from gateway.state.slices import collect
from gateway.streaming.outbox import Outbox
from gateway.streaming.resume import resume
from shared.errors import Problem

log = structlog.get_logger("gateway.stream")
PING_FRAME: Final = text_frame(b'{"channel":"heartbeat","data":"PING"}')


class IgnoredAction(Exception):  # noqa: N818 - not a failure: the protocol ignores what it does not understand
    """An action that is ignored; ``detail`` is the reason."""

    def __init__(self, detail: Any) -> None:
        super().__init__(str(detail))
        self.detail = detail


@dataclass(frozen=True, slots=True)
class StreamRules:
    """What the stream of a gateway allows.

    Attributes:
        is_readonly: No client may send.
        include: The channels that can be subscribed to, or None for all.
    """

    is_readonly: bool = False
    include: frozenset[str] | None = None

    def takes(self, channel: str) -> bool:
        """Whether a channel is on the stream."""
        return self.include is None or channel in self.include


class Session:
    """One connection's subscriptions and actions.

    Args:
        engine: The gateway's engine.
        outbox: Where its messages go.
        rights: What the caller may do.
        rules: What the stream allows.
        heartbeats: The outboxes that are sent heartbeats.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Outbox,
        rights: Rights,
        rules: StreamRules,
        heartbeats: dict[Outbox, None],
    ) -> None:
        self._engine = engine
        self._outbox = outbox
        self._rights = rights
        self._rules = rules
        self._heartbeats = heartbeats
        self._feeds: dict[Feed, None] = {}
        self._reports_errors = False

    def receive(self, text: str) -> Awaitable[None] | None:
        """Carry out the action of a text frame.

        Returns:
            None, or what must be awaited before the next acknowledgement may be believed; its completion is
            acknowledged by `acknowledge`, which the caller need not call.
        """
        action: dict[str, Any] = {}
        try:
            self._engine.types.memory_limit.check(text, ())
            action = read_action(text)
            return self._perform(action, is_large(text))
        except IgnoredAction as reason:
            self._reject(action, reason.detail)
        except InvalidInput as invalid:
            self._reject(action, invalid.errors)
        return None

    def ignore(self, reason: str) -> None:
        """Note a frame that cannot even be read, such as a binary one."""
        self._reject({}, reason)

    def close(self) -> None:
        """End all subscriptions."""
        for feed in self._feeds:
            feed.subscribers.pop(self._outbox, None)
        self._feeds.clear()
        self._heartbeats.pop(self._outbox, None)
        self._outbox.close()

    @property
    def subscriptions(self) -> list[str]:
        """The feeds that are subscribed to."""
        return [feed.path for feed in self._feeds]

    def _perform(self, action: dict[str, Any], has_many: bool) -> Awaitable[None] | None:
        match action.get("action"):
            case "send":
                return self._send(action, has_many)
            case "subscribe":
                self._subscribe(action)
            case "unsubscribe":
                self._unsubscribe(action)
            case "hello":
                self._reports_errors = action.get("errors") is True
                self._acknowledge(action, [])
            case other:
                raise IgnoredAction(f"unknown action {other!r}")
        return None

    def _subscribe(self, action: dict[str, Any]) -> None:
        if action.get("channel") == HEARTBEAT:
            self._heartbeats[self._outbox] = None
        else:
            feeds = self._feeds_of(action)
            self._send_missed(action, feeds)
            for feed in feeds:
                self._feeds[feed] = None
                feed.subscribers[self._outbox] = None
        self._acknowledge(action, [])

    def _unsubscribe(self, action: dict[str, Any]) -> None:
        if action.get("channel") == HEARTBEAT:
            self._heartbeats.pop(self._outbox, None)
        else:
            for feed in self._feeds_of(action):
                self._feeds.pop(feed, None)
                feed.subscribers.pop(self._outbox, None)
        self._acknowledge(action, [])

    def _send_missed(self, action: dict[str, Any], feeds: Sequence[Feed]) -> None:
        """Snapshot and resume: send ticks from before the subscription, on request (§11.11)."""
        after = action.get("after")
        missed = resume(feeds, after) if isinstance(after, str) else None
        if missed is None and action.get("snapshot") is True:
            lasts = [feed.last for feed in feeds if feed.last is not None]
            missed = sorted(lasts, key=lambda tick: tick.number)
        for tick in missed or ():
            self._outbox.deliver(tick)

    def _send(self, action: dict[str, Any], has_many: bool) -> Awaitable[None] | None:
        channel = self._channel_of(action)
        if self._rules.is_readonly or not channel.spec.sendable or not self._rights.may_send(channel.name):
            raise IgnoredAction(f"{channel.name} cannot be sent to")
        key = self._key_of(action, channel)
        if channel.is_basket and key is None:
            raise IgnoredAction(f"{channel.name} is a basket: send needs a key")
        feed = channel.feed(key)
        if feed is None:
            raise IgnoredAction(f"{channel.name} has no key {key!r}")
        data = action.get("data")
        if data is None or data == {} or data == []:
            raise IgnoredAction("there is no data")
        if has_many and isinstance(data, list):
            return self._send_many(action, feed, data)
        records = self._engine.types[channel.spec.struct].take(data, ("data",))
        pending = self._engine.send(feed, records)
        ids = [record.values.get("id") for record in records]
        if pending is None:
            self._acknowledge(action, ids)
            return None
        return self._acknowledge_later(action, ids, pending)

    async def _acknowledge_later(self, action: dict[str, Any], ids: list[Any], pending: Awaitable[None]) -> None:
        try:
            await pending
        except Problem as problem:
            self._reject(action, problem.message)
            return
        self._acknowledge(action, ids)

    async def _send_many(self, action: dict[str, Any], feed: Feed, data: list[Any]) -> None:
        try:
            records = await collect(self._engine.types[feed.channel.spec.struct].take_in_slices(data, ("data",)))
            await self._engine.send_in_slices(feed, records)
        except InvalidInput as invalid:
            self._reject(action, invalid.errors)
        except Problem as problem:
            self._reject(action, problem.message)
        else:
            self._acknowledge(action, [record.values.get("id") for record in records])

    def _channel_of(self, action: dict[str, Any]) -> Channel:
        name = action.get("channel")
        if not isinstance(name, str) or not name:
            raise IgnoredAction("there is no channel")
        channel = self._engine.channels.get(name)
        if channel is None or not self._rules.takes(name) or not self._rights.may_read(name):
            raise IgnoredAction(f"unknown channel {name!r}")
        return channel

    def _key_of(self, action: dict[str, Any], channel: Channel) -> str | None:
        key = action.get("key")
        if key is None:
            return None
        if not channel.is_basket:
            raise IgnoredAction(f"{channel.name} has no keys")
        return resolve_key(self._engine, channel, key)

    def _feeds_of(self, action: dict[str, Any]) -> list[Feed]:
        channel = self._channel_of(action)
        key = self._key_of(action, channel)
        if key is None:
            return channel.feeds
        feed = channel.feed(key)
        if feed is None:
            raise IgnoredAction(f"{channel.name} has no key {key!r}")
        return [feed]

    def _acknowledge(self, action: dict[str, Any], ids: list[Any]) -> None:
        if self._reports_errors:
            data = {"action": action.get("action"), "channel": action.get("channel"), "ids": ids}
            self._outbox.push(text_frame(b'{"channel":"ack","data":' + encode(data) + b"}"))

    def _reject(self, action: dict[str, Any], detail: Any) -> None:
        log.debug("action ignored", reason=detail)
        if self._reports_errors:
            data = {name: action.get(name) for name in ("action", "channel", "key")} | {"detail": detail}
            self._outbox.push(text_frame(b'{"channel":"error","data":' + encode(data) + b"}"))


def read_action(text: str) -> dict[str, Any]:
    """The JSON object of a text frame.

    Raises:
        IgnoredAction: It is no JSON, or no object.
    """
    try:
        action = from_json(text)
    except ValueError:
        raise IgnoredAction("not JSON") from None
    if not isinstance(action, dict):
        raise IgnoredAction("not an object")
    return action


def resolve_key(engine: Engine, channel: Channel, key: Any) -> str | None:
    """The basket key that a client means: its name, or the value of an enumeration's member."""
    if isinstance(key, str) and channel.feed(key) is not None:
        return key
    enum = engine.types.enums.get(channel.spec.key_enum or "")
    if enum is not None:
        for name, value in enum.members.items():
            if value == key and type(value) is type(key):
                return name
    return str(key)

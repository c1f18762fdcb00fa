"""Gateways for the tests of what joins several of them: built from a text, without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.auth import Access
from gateway.config.loader import parse_channel_file
from gateway.engine.channels import Feed, Tick
from gateway.engine.engine import Change
from gateway.handlers.context import Gateway, build_gateway

QUOTES = """
structs:
  Quote:
    fields: {symbol: str, price: float, size: "int?", note: str, seen: datetime, gap: timedelta}
channels:
  quotes: {type: Quote, send: true, state: {keyby: [symbol]}}
  batches: {type: Quote, list: true, send: true}
  venues: {type: Quote, keys: [xetra, "new york"], send: true}
  newest: {type: Quote, send: true, state: {keyby: [symbol], max_keys: 2}}
"""
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def gateway_of(text: str = QUOTES, *, epoch_ns: int = 1_000_000) -> Gateway:
    """A gateway at noon."""
    declared = parse_channel_file(text, "channels.yml", {})
    access = Access([], lambda a, b: a == b)
    return build_gateway(declared, access, now=lambda: NOON, epoch_ns=epoch_ns, shut_down=lambda: None)


def feed_of(gateway: Gateway, channel: str, key: str | None = None) -> Feed:
    """One feed."""
    feed = gateway.engine.channels[channel].feed(key)
    assert feed is not None
    return feed


def change(gateway: Gateway, channel: str, *values: dict[str, Any], key: str | None = None) -> Change:
    """A tick that a client of this gateway has sent."""
    feed = feed_of(gateway, channel, key)
    struct = gateway.engine.types[feed.channel.spec.struct]
    return feed, [struct.take_one(value) for value in values]


def state_of(gateway: Gateway, alias: str) -> list[bytes]:
    """The rows of a state, as they print."""
    return [record.encoded for state in gateway.engine.states[alias].values() for record in state.rows()]


def everything(gateway: Gateway) -> dict[str, Any]:
    """All that a client could read: last values and states."""
    lasts = {channel.name: channel.encoded_last for channel in gateway.engine.channels}
    return {"last": lasts, "state": {alias: state_of(gateway, alias) for alias in gateway.engine.states}}


class Listener:
    """A subscriber that remembers the messages it is sent."""

    def __init__(self, gateway: Gateway, channels: Sequence[str]) -> None:
        self.messages: list[bytes] = []
        for channel in channels:
            for feed in gateway.engine.channels[channel].feeds:
                feed.subscribers[self] = None

    def deliver(self, tick: Tick) -> None:
        self.messages.append(tick.message)

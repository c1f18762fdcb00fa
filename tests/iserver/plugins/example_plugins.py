"""Plugins for the tests of plugins."""

from __future__ import annotations

import asyncio
import threading

CALLS: list[tuple[object, ...]] = []
RELEASE = threading.Event()
WAITING = threading.Event()


class Notes:
    """Notes every call."""

    def session_fill(self, session):
        CALLS.append(("session_fill", session.get("deviceId")))
        session.set("tier", "gold")

    async def fill(self, session, imp):
        CALLS.append(("fill", imp.feature, dict(imp.args), session.get("tier")))
        if imp.feature == "Search":
            imp.set("ranker", f"best-{imp.args['query']}")

    def on_impression(self, session, imp):
        CALLS.append(("on_impression", imp.feature, imp.impression_ids))

    async def on_event(self, session, imp, event):
        CALLS.append(("on_event", imp and imp.feature, event.name, dict(event.fields)))

    def new_variant(self, session, experiment, variant, values):
        CALLS.append(("new_variant", experiment.name, variant.name, list(values)))

    def close(self):
        CALLS.append(("close",))


class Bots:
    """Keeps bots out of the log."""

    async def session_fill(self, session):
        session.no_log = session.get("deviceId").startswith("bot")


class Garbled:
    """Sets what is not text."""

    def session_fill(self, session):
        session.set("tier", "\udcff")


class Broken:
    """Fails wherever it is called, after having set something."""

    def session_fill(self, session):
        session.set("tier", "broken")
        raise RuntimeError("no tier for you")

    def fill(self, session, imp):
        if imp.feature == "Search":
            imp.set("ranker", "broken")
        raise LookupError("no ranker for you")

    async def on_impression(self, session, imp):
        imp.set("nothing", 1)

    async def on_event(self, session, imp, event):
        event.set("value", "not a float")


class Slow:
    """Does not come to an end."""

    async def session_fill(self, session):
        session.set("tier", "slow")
        WAITING.set()
        await asyncio.Event().wait()

    def fill(self, session, imp):
        if imp.feature == "Search":
            imp.set("ranker", "slow")
        RELEASE.wait()


class NotMade:
    """Cannot be made."""

    def __init__(self):
        raise ValueError("out of order")

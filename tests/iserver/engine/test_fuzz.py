"""Bodies nobody would send: each is answered or refused, none is a bug, and what is stored can be read again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from iserver.configuration.compiled import configure
from iserver.document import read_document
from iserver.engine.engine import Engine
from iserver.engine.interfaces import EngineEnvironment
from iserver.errors import RequestError
from iserver.fdl import compile_program
from iserver.handlers.sse import EventStreams
from iserver.protocol.feature_requests import Origin
from iserver.sessions.finished import FinishedSession
from iserver.sessions.session import Session

EXAMPLE = Path(__file__).parents[3] / "iserver/example/shop.json"
DOCUMENT = read_document(EXAMPLE.read_bytes())
CONFIGURATION = configure(DOCUMENT, compile_program(DOCUMENT.fdl))
DEFINITIONS = {CONFIGURATION.definition.fingerprint: CONFIGURATION.definition}

WORDS = """
version fetchOptions args impressionId requests reqs name id feature event mutate value impressions impression
newImpression options ignore_missing_imp deviceId arrivalId userId channel userAgent entryUrl product query page
results dwell stars sku qty RatingBox ProductInfo NewCheckout Search Nothing Rating AddToCart Purchase Click
session flags dev-1 dev-qa imp-1 imp-2 title score
"""
NAMES = st.sampled_from(WORDS.split())
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | NAMES
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.fixed_dictionaries({"deviceId": st.sampled_from(["dev-1", "dev-2", "dev-qa"])}, optional={"userId": VALUES})
FEATURE_ARGS = st.fixed_dictionaries({}, optional={"product": VALUES, "query": VALUES, "page": VALUES})
IMPRESSIONS = st.sampled_from(["imp-1", "imp-2", None])
VISITS = st.fixed_dictionaries(
    {"args": KEYS},
    optional={
        "impressionId": IMPRESSIONS,
        "requests": st.dictionaries(NAMES, FEATURE_ARGS, max_size=4),
        "fetchOptions": st.just(["flags"]),
    },
)
SIGNALS = st.fixed_dictionaries(
    {"id": KEYS},
    optional={
        "feature": NAMES,
        "event": NAMES,
        "impressionId": IMPRESSIONS,
        "args": VALUES,
        "mutate": NAMES,
        "value": VALUES,
        "impressions": VALUES,
        "options": VALUES,
        "results": VALUES,
    },
)
BODIES = VISITS | SIGNALS | st.dictionaries(NAMES, VALUES, max_size=6)
REQUESTS = st.lists(st.tuples(st.sampled_from(["features", "signal", "external"]), BODIES), max_size=8)


class Notebook:
    """A journal that keeps everything in the form in which it would be on disk."""

    def __init__(self):
        self.changes: dict[str, list[bytes]] = {}

    async def store(self, *sessions):
        for session in sessions:
            self.changes.setdefault(session.id, []).append(orjson.dumps(session.take_changes()))

    async def finish(self, sessions, finished):
        for line in finished.values():
            FinishedSession.from_json(line)

    async def store_definition(self, definition):
        pass


def rebuilt(session_id, rows):
    session = Session(session_id)
    for row in rows:
        for change in orjson.loads(row):
            session.apply(change, DEFINITIONS)
    return session


async def nothing_else():
    """Nobody waits for a turn."""


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_whatever_is_sent_is_answered_or_refused_and_can_be_rebuilt(requests):
    journal = Notebook()
    ids = iter(range(10_000))
    environment = EngineEnvironment(
        listeners=EventStreams(),
        clock_ms=lambda: 1_700_000_000_000,
        new_id=lambda: f"id-{next(ids)}",
        locks=None,
        yield_to_event_loop=nothing_else,
    )
    server = Engine(CONFIGURATION, journal, environment)

    async def play():
        for endpoint, body in requests:
            try:
                if endpoint == "features":
                    orjson.loads(await server.features(body, Origin({})))
                else:
                    await getattr(server, endpoint)(body)
            except RequestError as refusal:
                assert str(refusal)
        for session in server.sessions:
            twin = rebuilt(session.id, journal.changes[session.id])
            assert list(twin.describe()) == list(session.describe())
        await server.retire_all()

    asyncio.run(play())


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_text_is_a_configuration_by_accident(text):
    try:
        read_document(text)
    except ValueError as error:
        assert str(error)

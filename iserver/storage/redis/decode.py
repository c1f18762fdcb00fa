"""Reads what servers have stored of sessions and definitions; a newer server may store what this one cannot read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import orjson
import structlog

from iserver.evaluation.definition import Definition
from iserver.fdl import FdlError, SourceFile, compile_program
from iserver.sessions.changes import KINDS
from iserver.sessions.memo_record import Change
from iserver.sessions.session import Session
from iserver.storage.redis.client import RedisClient
from iserver.storage.redis.scripts import KEEP

log = structlog.get_logger("iserver.redis")

SHOWN = 80
"""How much of a change is shown in a message, in characters."""


_USES = {"start": 1, "record": 2}
"""Where a change names the definition that it uses."""


class UnreadableError(ValueError):
    """What is stored is not what this server would store; the message says what was found and what was expected."""


def read_changes(chunks: Sequence[bytes]) -> list[Change]:
    """The changes in the chunks of a session.

    Raises:
        UnreadableError: They are none.
    """
    changes: list[Change] = []
    for chunk in chunks:
        try:
            changes += orjson.loads(chunk)
        except (TypeError, ValueError):
            raise UnreadableError(f"found {_short(chunk)}, expected a JSON list of changes") from None
    for change in changes:
        if not (isinstance(change, list) and change and change[0] in KINDS):
            known = ", ".join(KINDS)
            raise UnreadableError(f"found the change {_short(orjson.dumps(change))}, expected one of {known}")
        at = _USES.get(change[0])
        if at is not None and not (len(change) > at and isinstance(change[at], str)):
            found = _short(orjson.dumps(change))
            raise UnreadableError(f"found the change {found}, expected the fingerprint of a definition at {at}")
    return changes


def rebuild(session_id: str, changes: Iterable[Change], definitions: Mapping[str, Definition]) -> Session:
    """The session that changes make.

    Raises:
        UnreadableError: They make none.
    """
    session = Session(session_id)
    is_begun = False
    for change in changes:
        if not is_begun and change[0] != "start":
            found = _short(orjson.dumps(change))
            raise UnreadableError(f"found the change {found} first, expected 'start': the head of its list is gone")
        is_begun = True
        try:
            session.apply(change, definitions)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            reason = f"found the change {_short(orjson.dumps(change))}, expected the values of its kind: {error!r}"
            raise UnreadableError(reason) from error
    if not is_begun:
        raise UnreadableError("found no changes, expected 'start': its list is gone")
    if session.definition.persistent_key not in session.fields:
        raise UnreadableError(f"found no '{session.definition.persistent_key}' in 'start'")
    return session


def uses(changes: Iterable[Change]) -> set[str]:
    """Fingerprints of the definitions that changes refer to."""
    return {change[_USES[change[0]]] for change in changes if change[0] in _USES}


def _short(found: bytes) -> str:
    text = found.decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Unreadable(dict[str, str]):
    """Why sessions and definitions in Redis cannot be read, by session id or fingerprint."""

    def note(self, name: str, reason: str) -> None:
        """Log once that something cannot be read, which a newer server may have written; it stays where it is."""
        if name not in self:
            self[name] = reason
            log.error("cannot read from Redis", name=name, reason=reason)


class RedisDefinitions:
    """The definitions that sessions in Redis refer to.

    Attributes:
        known: Every definition known here, by fingerprint.
    """

    def __init__(self, client: RedisClient, prefix: str, unreadable: Unreadable) -> None:
        self.known: dict[str, Definition] = {}
        self._client = client
        self._prefix = prefix
        self._unreadable = unreadable

    async def store(self, definition: Definition) -> None:
        """Store the FDL of a definition.

        Raises:
            NotStoredError: Redis does not answer.
        """
        sources = [[source.name, source.text] for source in definition.program.sources]
        await self._client.script(KEEP, [self._prefix, definition.fingerprint, orjson.dumps(sources)])
        self.known[definition.fingerprint] = definition
        self._unreadable.pop(definition.fingerprint, None)

    async def load(self, fingerprints: Iterable[str] | None = None) -> None:
        """Load definitions that other servers have stored; by default all."""
        name = f"{self._prefix}definitions"
        if fingerprints is None:
            fingerprints = [key.decode() for key in await self._client.command("HKEYS", name)]
        for fingerprint in fingerprints:
            if fingerprint in self.known:
                continue
            sources = await self._client.command("HGET", name, fingerprint)
            if sources is None:
                self._unreadable.note(fingerprint, "found nothing, expected its FDL")
                continue
            try:
                files = [SourceFile(file, text) for file, text in orjson.loads(sources)]
                program = await asyncio.to_thread(compile_program, files, is_stored=True)
                self.known[fingerprint] = Definition(program)
            except (FdlError, TypeError, ValueError) as error:
                self._unreadable.note(fingerprint, f"found FDL that cannot be compiled here ({error})")

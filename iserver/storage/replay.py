"""Running sessions rebuilt from the changes in a session log, and the definitions that they refer to (§11.6).

Every FDL that was ever in force is stored before a session uses it, and most of them are not needed after a while.
So a definition is compiled when it is first looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program
from iserver.sessions.memo_record import Change
from iserver.sessions.session import Session


class Replay:
    """Sessions as they are rebuilt from what was stored.

    Attributes:
        sessions: By id, in the order in which they were first stored.
        headless: Ids of sessions of which there are only later changes, since the segment of the first has been
            released. A snapshot or an end follows, unless the end was on its way when the server was killed.
        finished_row: The last row of finished sessions that the log knows of.
        has_loss: Whether something of the log is lost.
        damaged: Ids of sessions that have lost changes for certain.
    """

    def __init__(self, definitions: Mapping[str, Definition], *, accepts_loss: bool = False) -> None:
        self.sessions: dict[str, Session] = {}
        self.headless: set[str] = set()
        self.finished_row = 0
        self.has_loss = False
        self.damaged: set[str] = set()
        self._accepts_loss = accepts_loss
        self._cut: set[str] = set()
        self._definitions = definitions
        self._values: dict[bytes, Any] = {}

    def cut(self) -> None:
        """Something of the log is lost here.

        A change refers to earlier ones, which may be what is lost. So sessions stay as they are here until they end, or
        a snapshot rebuilds them.
        """
        self.has_loss = True
        self._cut.update(self.sessions)

    def add(self, session_id: str, changes: list[Change] | None, segment: int, size: int) -> None:
        """Take one part of a payload.

        Raises:
            LookupError, TypeError, ValueError: It is not what a session log holds.
        """
        if changes is None:
            self._forget(session_id)
            return
        session = self.sessions.get(session_id)
        if changes[0][0] == "start":
            self._reset(session_id)
            session = self.sessions[session_id] = Session(session_id)
            session.journal_segment = segment
        elif session is None:
            self.headless.add(session_id)
            return
        elif session_id in self._cut:
            self.damaged.add(session_id)
            return
        try:
            self._apply(session, changes)
        except (LookupError, TypeError, ValueError):
            if not self._accepts_loss:
                raise
            self._forget(session_id)
            self.headless.add(session_id)
            self.has_loss = True
            return
        session.journal_bytes += size

    def _apply(self, session: Session, changes: list[Change]) -> None:
        for change in changes:
            if change[0] == "record":  # most records have the values of many others
                change[3:7] = map(self._shared, change[3:7])
            session.apply(change, self._definitions)

    def _forget(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)
        self._reset(session_id)

    def _reset(self, session_id: str) -> None:
        for ids in (self.headless, self.damaged, self._cut):
            ids.discard(session_id)

    def drop(self, session_id: str) -> bool:
        """Leave a session out; whether there was something of it."""
        was_headless = session_id in self.headless
        self.headless.discard(session_id)
        return self.sessions.pop(session_id, None) is not None or was_headless

    def _shared(self, value: Any) -> Any:
        return self._values.setdefault(orjson.dumps(value), value)


class StoredDefinitions(Mapping[str, Definition]):
    """Definitions by fingerprint."""

    def __init__(self) -> None:
        self._compiled: dict[str, Definition] = {}
        self._sources: dict[str, bytes] = {}

    def add(self, definition: Definition) -> None:
        """Take a definition."""
        self._compiled[definition.fingerprint] = definition

    def add_sources(self, fingerprint: str, sources: bytes) -> None:
        """Take a definition as it is stored, see `encode`; it is compiled when it is looked up."""
        self._sources[fingerprint] = sources

    @property
    def unused(self) -> list[str]:
        """Fingerprints of what was never looked up."""
        return list(self._sources)

    def forget_unused(self) -> None:
        """Forget what was never looked up."""
        self._sources.clear()

    def __getitem__(self, fingerprint: str) -> Definition:
        found = self._compiled.get(fingerprint)
        if found is None:
            files = [SourceFile(name, text) for name, text in orjson.loads(self._sources[fingerprint])]
            found = self._compiled[fingerprint] = Definition(compile_program(files, is_stored=True))
            del self._sources[fingerprint]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([*self._compiled, *self._sources])

    def __len__(self) -> int:
        return len(self._compiled) + len(self._sources)


def encode_sources(definition: Definition) -> bytes:
    """The FDL of a definition, to be stored."""
    return orjson.dumps([[source.name, source.text] for source in definition.program.sources])

"""Reading what Redis has of a session, and saying what is wrong with it: another server may know what this does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from iserver.evaluation.definition import Definition
from iserver.sessions.changes import KINDS
from iserver.sessions.memo_record import Change
from iserver.sessions.session import Session

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

"""What clients are sent in the words of one configuration, prepared once (§3.5 and §3.7).

A `ConfigurationEncoder` knows nothing of requests. What it gives is shared by all answers and must not be modified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from iserver.evaluation.plans import Assignment
from iserver.fdl.model import JsonValue, Program
from iserver.fdl.names import LAST_FLUSH_TIME
from iserver.sessions.session import Session

MAX_KNOWN = 1024


class ConfigurationEncoder:
    """Encodes sessions and variants for one configuration.

    Args:
        environment: Name of the environment.
        program: The FDL program in force.
        variants: What clients are sent of an assignment.
    """

    def __init__(
        self, environment: str, program: Program, variants: Mapping[Assignment, Mapping[str, JsonValue]]
    ) -> None:
        block = program.session
        others = (*block.args, *block.plugin_outputs)
        self._fingerprint = program.fingerprint
        self._session: dict[str, JsonValue] = {
            "environment": environment,
            **{item.name: None for item in block.keys},
            **dict.fromkeys(("sessionId", "startTime", "userAgent", "entryUrl")),
            **{item.name: None if item.type.nullable else item.default for item in others},
        }
        self._sends_last_flush = LAST_FLUSH_TIME not in self._session
        if self._sends_last_flush:
            self._session[LAST_FLUSH_TIME] = None
        self._variants = variants
        self._encoded: dict[tuple[Assignment, ...], orjson.Fragment] = {}

    def session(self, session: Session) -> dict[str, JsonValue]:
        """The session as clients see it (§3.5); what it does not have has its default."""
        answer = self._session.copy()  # no field is called like one of ours, but lastFlushTime
        if session.definition.fingerprint == self._fingerprint:
            answer.update(session.fields)
        else:
            answer.update({name: value for name, value in session.fields.items() if name in answer})
        answer["sessionId"] = session.id
        answer["startTime"] = session.start_ms
        answer["userAgent"] = session.user_agent
        answer["entryUrl"] = session.entry_url
        if self._sends_last_flush:
            answer[LAST_FLUSH_TIME] = session.last_flush_ms
        return answer

    def variants(self, assignments: Iterable[Assignment]) -> orjson.Fragment:
        """Assignments as clients see them, encoded; `null` is the control (§3.7).

        What the configuration does not have any more is logged, but clients are not sent of it.
        """
        assigned = tuple(assignments)
        encoded = self._encoded.get(assigned)
        if encoded is None:
            if len(self._encoded) >= MAX_KNOWN:
                self._encoded.clear()
            known = self._variants
            sent = [known[assignment] for assignment in assigned if assignment in known]
            encoded = self._encoded[assigned] = orjson.Fragment(orjson.dumps(sent))
        return encoded

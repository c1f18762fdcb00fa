"""What clients are told: bodies of answers, in the order streaming clients need (specification §3.3 to §3.8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from iserver.configuration import Configuration
from iserver.evaluation import Assignment
from iserver.record import Record
from iserver.session import Session
from iserver.visits import Asked, Visit

Json = dict[str, Any]


def features_answer(visit: Visit) -> bytes:
    """The body of an answer to `features`, in the form of the request."""
    request, session, configuration = visit.request, visit.session, visit.configuration
    answer: Json = {"session": session_object(session, configuration)}
    objects = [impression_object(asked, request.impression_id, configuration) for asked in visit.asked]
    errors: Any
    if request.is_map:
        answer.update(zip((asked.name for asked in visit.asked), objects, strict=True))
        errors = {asked.name: asked.error for asked in visit.asked if asked.error is not None}
    else:
        answer["impressions"] = objects
        errors = [asked.error for asked in visit.asked] if any(asked.error for asked in visit.asked) else None
    if errors:
        answer["errors"] = errors
    if request.wants_flags:
        answer["_flags"] = visit.flags()
    answer["_variants"] = wire_variants(session.active.items(), configuration)
    answer["registered"] = session.persistent_id in configuration.devices
    return orjson.dumps(answer)


def session_object(session: Session, configuration: Configuration) -> Json:
    """The session as clients see it (§3.5)."""
    fields = session.fields
    block = configuration.definition.program.session
    answer: Json = {"environment": configuration.environment.name}
    for item in block.keys:
        answer[item.name] = fields.get(item.name)
    answer["sessionId"] = session.id
    answer["startTime"] = session.start_ms
    answer["userAgent"] = session.user_agent
    answer["entryUrl"] = session.entry_url
    for item in (*block.args, *block.plugin_outputs):
        answer[item.name] = fields.get(item.name, None if item.type.nullable else item.default)
    answer["lastFlushTime"] = session.last_flush_ms
    return answer


def session_details(session: Session) -> Json:
    """What is logged of a session but never sent to clients, for debugging (§6)."""
    return {
        "audiences": session.audiences,
        "variants": list(session.active.values()),
        "histories": {
            name: [{"startTime": start_ms, "value": value} for start_ms, value in session.history(name)]
            for name in session.definition.mutables
        },
    }


def impression_object(asked: Asked, impression_id: str | None, configuration: Configuration) -> Json | str:
    """The answer for one feature: an object, `"OFF"` or `"UNKNOWN"` (§3.6, §3.8)."""
    if asked.literal is not None:
        return asked.literal
    if asked.error is not None:
        assert asked.plan is not None
        return asked.plan.controls
    record = asked.record
    assert record is not None
    if impression_id is None:
        answer: Json = {"impressionCount": 0}
    else:
        time_ms = record.time_of(impression_id)
        answer = {
            "impressionIds": [impression_id],
            "impressions": [{"impressionId": impression_id, "impressionTime": time_ms}],
            "firstTime": record.impressions[0].time_ms,
            "impressionCount": len(record.impressions),
        }
    _add_values(answer, record)
    answer["_impressionId"] = asked.alias if impression_id is None else impression_id
    if impression_id is None and record.variants:
        answer["_variants"] = wire_variants(record.variants, configuration)
    return answer


def _add_values(answer: Json, record: Record) -> None:
    answer.update(record.args)
    answer.update(record.outputs)
    feature = record.definition.program.features[record.feature]
    for item in feature.plugin_outputs:
        answer[item.name] = record.plugin_outputs.get(item.name, item.default)
    for output, name in record.external.items():
        answer[f"_external_{output}"] = name


def wire_variants(assignments: Iterable[Assignment], configuration: Configuration) -> list[Mapping[str, Any]]:
    """Assignments as clients see them; `null` is the control (§3.7).

    What the configuration does not have any more is logged, but clients are not told of it.
    """
    known = configuration.wire_variants
    return [known[assignment] for assignment in assignments if assignment in known]

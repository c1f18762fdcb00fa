"""Bodies of responses, in the order streaming clients need (§3.3 to §3.8)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from iserver.configuration.compiled import Configuration
from iserver.fdl.model import JsonObject
from iserver.fdl.names import RESPONSE_NAMES
from iserver.protocol.feature_requests import FeatureEvaluation, RequestedFeature
from iserver.sessions.memo_record import MemoRecord
from iserver.sessions.session import Session

SHOWN = (
    b'{"impressionIds":[%b],"impressions":[{"impressionId":%b,"impressionTime":%d}],"firstTime":%d,'
    b'"impressionCount":%d%b,"_impressionId":%b}'
)
"""The object of a feature that was shown, with its values in the middle (§3.6)."""

MAX_CACHED_BYTES = 1024
"""Longer values are encoded for each answer, since the cache is bounded only in number."""

OURS = "_impressionId"
"""The one member of an impression object that FDL lets an output be called, too."""


def features_response(evaluation: FeatureEvaluation) -> bytes:
    """The body of an answer to `features`, in the form of the request."""
    request, session, configuration = evaluation.request, evaluation.session, evaluation.configuration
    answer: JsonObject = {"session": configuration.encoder.session(session)}
    impression_id = request.impression_id
    encoded_id = b"" if impression_id is None else orjson.dumps(impression_id)
    objects = [impression_object(feature, impression_id, encoded_id, configuration) for feature in evaluation.features]
    errors: Any
    if request.is_map:
        for feature, value in zip(evaluation.features, objects, strict=True):
            if feature.name not in RESPONSE_NAMES:
                answer[feature.name] = value
        errors = {feature.name: feature.error for feature in evaluation.features if feature.error is not None}
    else:
        answer["impressions"] = objects
        errors = (
            [feature.error for feature in evaluation.features]
            if any(feature.error for feature in evaluation.features)
            else None
        )
    if errors:
        answer["errors"] = errors
    if request.wants_flags:
        answer["_flags"] = evaluation.flags()
    answer["_variants"] = configuration.encoder.variants(session.active.items())
    answer["registered"] = evaluation.is_registered
    return orjson.dumps(answer)


def session_details(session: Session) -> JsonObject:
    """What is logged of a session but never sent to clients, for debugging (§6)."""
    return {
        "audiences": session.audiences,
        "variants": list(session.active.values()),
        "histories": {
            name: [{"startTime": start_ms, "value": value} for start_ms, value in session.history(name)]
            for name in session.definition.mutables
        },
    }


def impression_object(
    feature: RequestedFeature, impression_id: str | None, encoded_id: bytes, configuration: Configuration
) -> JsonObject | str | orjson.Fragment:
    """The answer for one feature: an object, `"OFF"` or `"UNKNOWN"` (§3.6, §3.8).

    Args:
        feature: The feature.
        impression_id: The request's.
        encoded_id: The same in JSON.
        configuration: The one in force for the request.
    """
    record = feature.record
    if record is None:
        if feature.literal is not None:
            return feature.literal
        assert feature.plan is not None
        return feature.plan.controls
    if impression_id is None:
        return _cache_fill(feature, record, configuration)
    impressions = record.impressions
    time_ms, first_ms, count = record.time_of(impression_id), impressions[0].time_ms, len(impressions)
    members = _members(record)
    if members is not None:
        return orjson.Fragment(SHOWN % (encoded_id, encoded_id, time_ms, first_ms, count, members, encoded_id))
    answer: JsonObject = orjson.loads(SHOWN % (encoded_id, encoded_id, time_ms, first_ms, count, b"", encoded_id))
    del answer[OURS]
    return {**answer, **_values(record), OURS: impression_id}


def _cache_fill(feature: RequestedFeature, record: MemoRecord, configuration: Configuration) -> JsonObject:
    answer = {"impressionCount": 0, **_values(record), "_impressionId": feature.alias}
    if record.variants:
        answer["_variants"] = configuration.encoder.variants(record.variants)
    return answer


def _members(record: MemoRecord) -> bytes | None:
    """The values of a record as JSON members, each after a comma; None when one is called like ours.

    A record that is shown again and again caches them.
    """
    members = record.members
    if members is None:
        values = _values(record)
        if OURS in values:
            return None
        members = b"," + orjson.dumps(values)[1:-1] if values else b""
        if len(members) <= MAX_CACHED_BYTES:
            members = _same(members)
            if len(record.impressions) > 1:
                record.members = members
    return members


@lru_cache(4096)
def _same(members: bytes) -> bytes:
    """The same object for equal bytes: most records have the values of many others."""
    return members


def _values(record: MemoRecord) -> JsonObject:
    values: JsonObject = {**record.args, **record.outputs}
    feature = record.definition.program.features[record.feature]
    for item in feature.plugin_outputs:
        values[item.name] = record.plugin_outputs.get(item.name, item.default)
    for output, name in record.external.items():
        values[f"_external_{output}"] = name
    return values

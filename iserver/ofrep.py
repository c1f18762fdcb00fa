"""Features as OpenFeature flags: the OpenFeature Remote Evaluation Protocol, without its HTTP.

A feature is a boolean flag under its name: whether it is on. Each of its outputs is a flag `Feature.output`. The
targeting key is the persistent key; the other fields of the context are session args and feature args. Evaluation
records an impression, under the context's `impressionId` if it has one, unless `recordImpression` is false. An output
that is null, or that the application computes, defers to the default in the code of the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from iserver.audiences import same
from iserver.configuration import Configuration, touches
from iserver.document.model import Constant

Json = dict[str, Any]

IMPRESSION_ID, RECORD, TARGETING_KEY = "impressionId", "recordImpression", "targetingKey"


class EvaluationError(Exception):
    """A request that cannot be evaluated, in the protocol's words.

    Attributes:
        status: HTTP status.
        code: The protocol's `errorCode`.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, details: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(details)
        self.status = status
        self.code = code
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag and what it stands for; `output` is `None` for the feature itself."""

    key: str
    feature: str
    output: str | None = None


def all_flags(configuration: Configuration) -> list[Flag]:
    """Every flag of the configuration, a feature before its outputs, in the order of the FDL."""
    flags = []
    for name, plan in configuration.features.items():
        flags.append(Flag(name, name))
        flags += [
            Flag(f"{name}.{output.name}", name, output.name)
            for output in plan.definition.outputs
            if output.elapsed is None
        ]
    return flags


def one_flag(configuration: Configuration, key: str) -> Flag:
    """The flag with a key.

    Raises:
        EvaluationError: There is none.
    """
    feature = key.partition(".")[0]
    for flag in all_flags(configuration) if feature in configuration.features else ():
        if flag.key == key:
            return flag
    raise EvaluationError(404, "FLAG_NOT_FOUND", f"there is no flag '{key}'")


def context_of(body: Json) -> Json:
    """The context of a request.

    Raises:
        EvaluationError: It is no object, or it has no targeting key.
    """
    context = body.get("context")
    if context is not None and not isinstance(context, dict):
        raise EvaluationError(400, "INVALID_CONTEXT", "expected an object for 'context'")
    key = (context or {}).get(TARGETING_KEY)
    if key is None or key == "":
        raise EvaluationError(400, "TARGETING_KEY_MISSING", "expected 'targetingKey' in 'context'")
    if not isinstance(key, str):
        raise EvaluationError(400, "INVALID_CONTEXT", "expected a string for 'targetingKey'")
    return dict(context or {})


def features_request(configuration: Configuration, context: Json, features: Sequence[str], impression_id: str) -> Json:
    """The features request (§3.1) that evaluates flags.

    Args:
        configuration: Names the persistent key.
        context: What `context_of` returned.
        features: Which features to evaluate.
        impression_id: Id of the impression when the context has none.
    """
    args = {name: value for name, value in context.items() if name not in (IMPRESSION_ID, RECORD, TARGETING_KEY)}
    given = context.get(IMPRESSION_ID)
    if given is not None and not isinstance(given, str):
        raise EvaluationError(400, "INVALID_CONTEXT", "expected a string for 'impressionId'")
    return {
        "args": {**args, configuration.definition.persistent_key: context[TARGETING_KEY]},
        "impressionId": None if context.get(RECORD) is False else given or impression_id,
        "reqs": [{"name": name, "args": args} for name in features],
    }


def evaluations(
    configuration: Configuration, flags: Sequence[Flag], answer: Json, features: Sequence[str]
) -> list[Json]:
    """What each flag was evaluated to.

    Args:
        configuration: The configuration in force.
        flags: The flags asked for.
        answer: The answer (§3.3) to `features_request` for `features`.
        features: The features that were requested, in order.
    """
    shown = dict(zip(features, answer["impressions"], strict=True))
    errors = dict(zip(features, answer.get("errors") or [None] * len(features), strict=True))
    variants = {item["id"]: item["variant"] for item in answer["_variants"]}
    return [_evaluation(configuration, flag, shown[flag.feature], errors[flag.feature], variants) for flag in flags]


def _evaluation(
    configuration: Configuration, flag: Flag, shown: Any, error: str | None, variants: Mapping[str, Any]
) -> Json:
    if error is not None:
        return {"key": flag.key, "errorCode": "INVALID_CONTEXT", "errorDetails": error}
    is_on = isinstance(shown, dict)
    if flag.output is None:
        reason = _gate_reason(configuration, flag.feature) if is_on else "DISABLED"
        return {"key": flag.key, "value": is_on, "variant": "on" if is_on else "off", "reason": reason, "metadata": {}}
    plan = configuration.features[flag.feature]
    value = (shown if is_on else plan.controls).get(flag.output)
    active = {**variants, **{item["id"]: item["variant"] for item in shown.get("_variants", ())}} if is_on else {}
    taken = {
        id_: variant
        for id_, variant in active.items()
        if (experiment := configuration.experiments.get(id_)) is not None and touches(experiment, flag.feature)
    }
    names = [variant["name"] or variant["id"] if variant else "control" for variant in taken.values()]
    reason = "DISABLED" if not is_on else "SPLIT" if taken else _rollout_reason(configuration, flag, value)
    metadata = {
        f"experiment {configuration.experiments[id_].name}": name for id_, name in zip(taken, names, strict=True)
    }
    return {
        "key": flag.key,
        **({} if value is None else {"value": value}),  # without one, the caller's default stands
        "variant": ", ".join(names) if names else "control",
        "reason": reason,
        "metadata": metadata,
    }


def _gate_reason(configuration: Configuration, feature: str) -> str:
    """Why a feature is on."""
    settings = configuration.document.features.get(feature)
    if settings is None or configuration.features[feature].definition.no_gate:
        return "STATIC"
    return _reason(settings.gate.audience_id, settings.gate.percent)


def _rollout_reason(configuration: Configuration, flag: Flag, value: Any) -> str:
    """Why an output that no experiment touches has its value: by the first rollout that gives this value.

    Evaluation does not tell, since nobody else asks, and what it decided may be remembered from an earlier request.
    """
    settings = configuration.document.features.get(flag.feature)
    for rollout in settings.controls.get(flag.output or "", ()) if settings is not None else ():
        gives = rollout.value.value if isinstance(rollout.value, Constant) else None
        if rollout.is_unconditional or same(gives, value):
            return _reason(rollout.audience_id, rollout.percent)
    return "STATIC"


def _reason(audience_id: str | None, percent: float) -> str:
    if audience_id is not None:
        return "TARGETING_MATCH"
    return "SPLIT" if percent < 100 else "STATIC"


def etag(evaluated: Sequence[Json]) -> str:
    """Names a bulk answer, without quotes: the same for equal evaluations."""
    return hashlib.sha256(orjson.dumps(evaluated)).hexdigest()[:32]

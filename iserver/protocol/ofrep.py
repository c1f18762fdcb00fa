"""Features as OpenFeature flags: the OpenFeature Remote Evaluation Protocol, without its HTTP.

A feature is a boolean flag under its name: whether it is on. Each of its outputs is a flag `Feature.output`. The
targeting key is the persistent key; the other fields of the context are session args and feature args. Evaluation
records an impression, under the context's `impressionId` if it has one, unless `recordImpression` is false. An output
that is null, or that the application computes, defers to the default in the code of the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from iserver.configuration.compiled import Configuration
from iserver.document.model import Constant, Experiment, FeatureSettings, VariantValue
from iserver.evaluation.audiences import same
from iserver.evaluation.plans import RegisteredDevice
from iserver.fdl.model import JsonObject

STATIC, SPLIT, TARGETING = "STATIC", "SPLIT", "TARGETING_MATCH"
"""Reasons of OpenFeature: nothing was evaluated, chance decided, a rule decided."""

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


def context_of(body: JsonObject) -> JsonObject:
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


def features_request(
    configuration: Configuration, context: JsonObject, features: Sequence[str], impression_id: str
) -> JsonObject:
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


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose flags are evaluated, and when.

    Attributes:
        device: What the configuration says of a registered QA device.
        now_ms: The current time, for experiments with a start and a finish.
    """

    device: RegisteredDevice | None
    now_ms: int


def evaluations(
    configuration: Configuration, flags: Sequence[Flag], answer: JsonObject, features: Sequence[str], caller: Caller
) -> list[JsonObject]:
    """What each flag was evaluated to.

    Args:
        configuration: The configuration in force.
        flags: The requested flags.
        answer: The answer (§3.3) to `features_request` for `features`.
        features: The features that were requested, in order.
        caller: Whose flags they are.
    """
    shown = dict(zip(features, answer["impressions"], strict=True))
    errors = dict(zip(features, answer.get("errors") or [None] * len(features), strict=True))
    variants = {item["id"]: item["variant"] for item in answer["_variants"]}
    return [
        _evaluation(configuration, flag, shown[flag.feature], errors[flag.feature], variants, caller) for flag in flags
    ]


def _evaluation(
    configuration: Configuration, flag: Flag, shown: Any, error: str | None, variants: Mapping[str, Any], caller: Caller
) -> JsonObject:
    if error is not None:
        return {"key": flag.key, "errorCode": "INVALID_CONTEXT", "errorDetails": error}
    is_on = isinstance(shown, dict)
    if flag.output is None:
        reason = _gate_reason(configuration, flag.feature, caller)
        return {"key": flag.key, "value": is_on, "variant": "on" if is_on else "off", "reason": reason, "metadata": {}}
    value = (shown if is_on else configuration.features[flag.feature].controls).get(flag.output)
    active = {**variants, **{item["id"]: item["variant"] for item in shown.get("_variants", ())}} if is_on else {}
    setting = _experiments(
        configuration, caller, lambda value: (value.feature, value.field) == (flag.feature, flag.output)
    )
    taken = [(experiment, active[experiment.id]) for experiment in setting if experiment.id in active]
    names = [variant["name"] or variant["id"] if variant else "control" for _, variant in taken]
    if not is_on:
        reason = _gate_reason(configuration, flag.feature, caller)
    else:
        reason = _output_reason(configuration, flag, value, setting, is_assigned=bool(taken), caller=caller)
    return {
        "key": flag.key,
        **({} if value is None else {"value": value}),  # without one, the caller's default stands
        "variant": ", ".join(names) if names else "control",
        "reason": reason,
        "metadata": {f"experiment {item.name}": name for (item, _), name in zip(taken, names, strict=True)},
    }


def _experiments(
    configuration: Configuration, caller: Caller, decides: Callable[[VariantValue], bool]
) -> list[Experiment]:
    """The running experiments with a variant that decides something."""
    return [
        experiment
        for experiment in configuration.experiments.values()
        if experiment.is_running(caller.now_ms)
        and any(decides(value) for variant in experiment.variants for value in variant.values)
    ]


def _gate_reason(configuration: Configuration, feature: str, caller: Caller) -> str:
    """Why a feature is on or off: the first that was there to decide it."""
    override = caller.device.overrides.get(feature) if caller.device is not None else None
    if override is not None and override.active is not None:
        return TARGETING
    definition = configuration.features[feature].definition
    if definition.no_gate:
        return STATIC
    switching = _experiments(configuration, caller, lambda value: value.feature == feature and value.active is not None)
    if switching:
        return _reason(switching[0].audience_id, 0)
    settings = configuration.document.features.get(feature, FeatureSettings())
    active = settings.gate.active
    if active is False or (active is None and definition.off_by_default):
        return "DISABLED"
    return _reason(settings.gate.audience_id, settings.gate.percent)


def _output_reason(
    configuration: Configuration,
    flag: Flag,
    value: Any,
    setting: Sequence[Experiment],
    *,
    is_assigned: bool,
    caller: Caller,
) -> str:
    """Why an output of a feature that is on has its value.

    Evaluation does not tell, since nobody else asks, and what it decided may be remembered from an earlier request. So
    it is the first that gives this value, or else what has left the visitor out.

    Args:
        setting: The experiments that set the output in some variant.
        is_assigned: Whether the visitor has a variant in one of them, be it control.
    """
    override = caller.device.overrides.get(flag.feature) if caller.device is not None else None
    if override is not None and flag.output in override.values:
        return TARGETING
    if is_assigned:
        return SPLIT
    left_out = [_reason(experiment.audience_id, experiment.percent) for experiment in setting]
    settings = configuration.document.features.get(flag.feature, FeatureSettings())
    for rollout in settings.controls.get(flag.output or "", ()):
        reason = _reason(rollout.audience_id, rollout.percent)
        gives = rollout.value.value if isinstance(rollout.value, Constant) else None
        if reason == STATIC:
            break
        if same(gives, value):
            return reason
        left_out.append(reason)
    return next((reason for reason in (TARGETING, SPLIT) if reason in left_out), STATIC)


def _reason(audience_id: str | None, percent: float) -> str:
    """Why a condition decided as it did, for those it took and for those it left out."""
    if audience_id is not None:
        return TARGETING
    return SPLIT if percent < 100 else STATIC


def etag(evaluated: Sequence[JsonObject]) -> str:
    """Names a bulk answer, without quotes: the same for equal evaluations."""
    return hashlib.sha256(orjson.dumps(evaluated)).hexdigest()[:32]

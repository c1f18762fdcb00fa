"""What a visitor sees of a feature (protocol §10).

Everything that decides a gate, an assignment or an output is in this module. It knows no sessions, no storage
and no clock: a `Visitor` brings in what is known, and carries out what was found.

The order is: QA overrides, experiments in document order, rollouts, FDL defaults. Gates come before all of
it. All choices by chance are `bucket`s, so they depend on nothing but a salt and the visitor's split value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeAlias

from iserver.document.model import Constant, Experiment, External, Override, Rollout, Value, Variant
from iserver.evaluation.audiences import Context, Predicate
from iserver.fdl.model import FeatureDefinition, FieldDefinition, JsonValue

Assignment: TypeAlias = "tuple[str, str]"
"""Ids of an experiment and of the variant a visitor was assigned."""


def bucket(salt: str, key: str) -> float:
    """Map a visitor to a fixed point in [0, 1), independently for every salt (appendix B)."""
    digest = hashlib.sha256(f"{salt}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def choose(variants: Sequence[Variant], thresholds: Sequence[float], point: float) -> Variant:
    """The variant whose share of [0, 1) contains a visitor's bucket.

    Args:
        variants: At least one, in the order of the document.
        thresholds: The running sums of their weights.
        point: The bucket.
    """
    target = point * thresholds[-1]
    for variant, upper in zip(variants, thresholds, strict=True):
        if target < upper:
            return variant
    return variants[-1]  # rounding: the point fell on the upper edge


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """What the configuration says of a registered QA device.

    Attributes:
        variants: Forced variants by experiment id.
        overrides: By feature name.
    """

    variants: Mapping[str, str]
    overrides: Mapping[str, Override]


@dataclass(slots=True)
class Visitor:
    """What is known of a visitor while a request is answered, and what evaluation finds out.

    Attributes:
        context: Session fields and history; collects the audiences found true.
        split_value: What traffic is split on.
        now_ms: The current time, for experiments with a start and a finish.
        assignments: Variant id by experiment id, fixed until the session ends.
        open_gates: Features whose percentage let this session in before.
        device: The overrides of a registered QA device.
        assigned: Receives new assignments.
        forced: Receives the ids of experiments whose variant a QA override chose.
        opened: Receives the features whose percentage let the session in.
    """

    context: Context
    split_value: str
    now_ms: int
    assignments: Mapping[str, str]
    open_gates: Collection[str]
    device: RegisteredDevice | None = None
    assigned: dict[str, str] = field(default_factory=dict)
    forced: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)


class ExperimentPlan:
    """An experiment ready to assign visitors (§10.7)."""

    __slots__ = ("_audience", "_thresholds", "_variants", "experiment", "id", "salt")

    def __init__(self, experiment: Experiment, audience: Predicate | None) -> None:
        self.experiment = experiment
        self.id = experiment.id
        self.salt = experiment.salt if experiment.salt is not None else experiment.id
        self._audience = audience
        self._variants = {variant.id: variant for variant in experiment.variants}
        self._thresholds = list(accumulate(variant.weight for variant in experiment.variants))

    def variant_of(self, visitor: Visitor) -> Variant | None:
        """The visitor's variant, assigned now if need be; `None` for visitors who take no part."""
        if not self.experiment.is_running(visitor.now_ms):
            return None
        if visitor.device is not None and (forced := visitor.device.variants.get(self.id)) in self._variants:
            visitor.forced.add(self.id)
            if visitor.assignments.get(self.id) != forced:
                visitor.assigned[self.id] = forced
            return self._variants[forced]
        assigned = visitor.assigned.get(self.id) or visitor.assignments.get(self.id)
        if assigned is not None:
            return self._variants.get(assigned)
        if self._audience is not None and not self._audience(visitor.context):
            return None
        percent = self.experiment.percent
        if percent < 100 and bucket(self.salt + ":in", visitor.split_value) * 100 >= percent:
            return None
        chosen = choose(self.experiment.variants, self._thresholds, bucket(self.salt, visitor.split_value))
        visitor.assigned[self.id] = chosen.id
        return chosen


class GatePlan:
    """Whether a feature is on for a visitor (§10.2).

    Attributes:
        is_always_on: Whether the feature is on for everybody without a QA override.
    """

    __slots__ = ("_active", "_audience", "_feature", "_no_gate", "_percent", "_salt", "_switches", "is_always_on")

    def __init__(
        self,
        feature: FeatureDefinition,
        *,
        active: bool | None,
        audience: Predicate | None,
        percent: float,
        salt: str | None,
        switches: Sequence[tuple[ExperimentPlan, Mapping[str, bool]]],
    ) -> None:
        """Prepare a gate.

        Args:
            feature: The feature.
            active: What the configuration says; `None` leaves it to the FDL.
            audience: Who may see the feature; `None` for everybody.
            percent: Share of the traffic that may see it.
            salt: Salt of the bucket; `None` for the feature's own.
            switches: Experiments with variants that switch the feature, in document order, with
                `active` by variant id.
        """
        self._feature = feature.name
        self._no_gate = feature.no_gate
        self._active = (not feature.off_by_default) if active is None else active
        self._audience = audience
        self._percent = percent
        self._salt = salt if salt is not None else f"gate:{feature.name}"
        self._switches = tuple(switches)
        is_open = self._active and audience is None and percent >= 100 and not switches
        self.is_always_on = self._no_gate or is_open

    def is_on(self, visitor: Visitor) -> bool:
        """Decide, and note the decision in the visitor when it must hold for the session."""
        if self._no_gate:
            return True
        for experiment, active_by_variant in self._switches:
            variant = experiment.variant_of(visitor)
            if variant is not None and variant.id in active_by_variant:
                return active_by_variant[variant.id]
        if not self._active or (self._audience is not None and not self._audience(visitor.context)):
            return False
        if self._percent >= 100:
            return True
        if self._percent <= 0:
            return False
        if self._feature in visitor.open_gates:
            return True
        if bucket(self._salt, visitor.split_value) * 100 >= self._percent:
            return False
        visitor.opened.append(self._feature)
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A value that an output may get.

    Attributes:
        value: A constant, or the name of an external.
        is_default: Whether it is what everybody gets from rollouts and FDL (§10.7, `@is_default`).
    """

    value: Value
    is_default: bool = False


class OutputPlan:
    """The control value of one output: its rollouts, then its FDL default."""

    __slots__ = ("_default", "_rollouts", "name")

    def __init__(
        self, feature: str, output: FieldDefinition, rollouts: Sequence[tuple[Rollout, Predicate | None]]
    ) -> None:
        self.name = output.name
        own_salt = f"rollout:{feature}.{output.name}"
        self._rollouts = tuple(
            (
                Choice(rollout.value, is_default=rollout.is_unconditional),
                audience,
                rollout.percent,
                rollout.salt if rollout.salt is not None else own_salt,
            )
            for rollout, audience in rollouts
        )
        self._default = Choice(Constant(output.default), is_default=True)

    @property
    def constant(self) -> Choice | None:
        """The choice when it is the same for everybody, else `None`."""
        if not self._rollouts:
            return self._default
        choice, audience, percent, _ = self._rollouts[0]
        return choice if audience is None and percent >= 100 else None

    @property
    def control(self) -> Choice:
        """The control value of §1: the first unconditional rollout, else the FDL default.

        What the application computes has no control value but the FDL's: it is not computed for an error.
        """
        choice = next((choice for choice, *_ in self._rollouts if choice.is_default), self._default)
        return choice if isinstance(choice.value, Constant) else self._default

    def choose(self, visitor: Visitor) -> Choice:
        """The first rollout whose audience matches and whose bucket passes, else the default."""
        for choice, audience, percent, salt in self._rollouts:
            if (audience is None or audience(visitor.context)) and (
                percent >= 100 or bucket(salt, visitor.split_value) * 100 < percent
            ):
                return choice
        return self._default


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outputs of a feature once every choice is made; shared by all visitors with the same choices.

    Attributes:
        outputs: Values by name in the order of the definition; without pending externals and elapsed outputs.
        plugin_outputs: Plugin outputs that have a default, and `@is_default` fields among them.
        external: Names of externals by output, pending until the application posts the values (§5).
    """

    outputs: Mapping[str, JsonValue]
    plugin_outputs: Mapping[str, JsonValue]
    external: Mapping[str, str]


class FeaturePlan:
    """A feature of the current configuration, ready to be evaluated for any visitor.

    Attributes:
        plugin_defaults: What its plugin outputs are until a plugin fills them; not to be modified.
    """

    __slots__ = ("_constant", "_experiments", "_outcomes", "_outputs", "definition", "gate", "name", "plugin_defaults")

    def __init__(
        self,
        definition: FeatureDefinition,
        gate: GatePlan,
        outputs: Sequence[OutputPlan],
        experiments: Sequence[tuple[ExperimentPlan, Mapping[str, Mapping[str, Value]]]],
    ) -> None:
        """Prepare a feature.

        Args:
            definition: The feature.
            gate: Its gate.
            outputs: One plan for each output that is configured or has a default, in the order of the definition.
            experiments: Every experiment that touches the feature, in document order, with the values
                of its outputs by variant id.
        """
        self.definition = definition
        self.name = definition.name
        self.gate = gate
        self.plugin_defaults: Mapping[str, JsonValue] = _plugin_defaults(definition)
        self._outputs = tuple(outputs)
        self._experiments = tuple(
            (experiment, {id_: _choices(values) for id_, values in by_variant.items()})
            for experiment, by_variant in experiments
        )
        self._outcomes: dict[tuple[Choice, ...], Outcome] = {}
        choices = [output.constant for output in self._outputs]
        settled = [choice for choice in choices if choice is not None]
        self._constant = self._outcome(tuple(settled)) if len(settled) == len(choices) else None

    @property
    def controls(self) -> dict[str, JsonValue]:
        """The control values of all outputs, for an answer to a request that went wrong (§3.8)."""
        controls = tuple(output.control for output in self._outputs)
        return dict(self._outcome(controls).outputs)

    def is_on(self, visitor: Visitor) -> bool:
        """Whether the visitor gets the feature at all (§10.2). Evaluated for every request, memoized or not."""
        if visitor.device is not None:
            override = visitor.device.overrides.get(self.name)
            if override is not None and override.active is not None:
                return override.active
        return self.gate.is_on(visitor)

    def evaluate(self, visitor: Visitor) -> tuple[Outcome, tuple[Assignment, ...]]:
        """Compute the outputs (§10.5 to §10.7).

        Returns:
            The outputs, and the visitor's assignment in every experiment that touches the feature.
        """
        override = visitor.device.overrides.get(self.name) if visitor.device is not None else None
        if self._constant is not None and not self._experiments and override is None:
            return self._constant, ()
        chosen = _choices(override.values) if override is not None else {}
        assignments = []
        for experiment, choices_by_variant in self._experiments:
            variant = experiment.variant_of(visitor)
            if variant is None:
                continue
            assignments.append((experiment.id, variant.id))
            for name, choice in choices_by_variant.get(variant.id, {}).items():
                chosen.setdefault(name, choice)
        choices = tuple(chosen.get(output.name) or output.choose(visitor) for output in self._outputs)
        outcome = self._outcome(choices, keep=override is None)
        return outcome, tuple(assignments)

    def _outcome(self, choices: tuple[Choice, ...], *, keep: bool = True) -> Outcome:
        known = self._outcomes.get(choices)
        if known is not None:
            return known
        made = dict(zip((output.name for output in self._outputs), choices, strict=True))
        outcome = _outcome(self.definition, made)
        if keep and len(self._outcomes) < _MAX_SHARED_OUTCOMES:
            self._outcomes[choices] = outcome
        return outcome


_MAX_SHARED_OUTCOMES = 1024


def _choices(values: Mapping[str, Value]) -> dict[str, Choice]:
    return {name: Choice(value) for name, value in values.items()}


def _outcome(definition: FeatureDefinition, chosen: Mapping[str, Choice]) -> Outcome:
    outputs: dict[str, JsonValue] = {}
    external: dict[str, str] = {}
    for output in definition.outputs:
        if output.elapsed is not None:
            continue
        if output.is_default_of is not None:
            outputs[output.name] = _is_default(chosen, output.is_default_of)
            continue
        value = chosen[output.name].value
        if isinstance(value, External):
            external[output.name] = value.name
        else:
            outputs[output.name] = value.value
    plugin_outputs = _plugin_defaults(definition)
    for output in definition.plugin_outputs:
        if output.is_default_of is not None:
            plugin_outputs[output.name] = _is_default(chosen, output.is_default_of)
    return Outcome(outputs, plugin_outputs, external)


def _plugin_defaults(definition: FeatureDefinition) -> dict[str, JsonValue]:
    return {output.name: output.default for output in definition.plugin_outputs if output.default is not None}


def _is_default(chosen: Mapping[str, Choice], name: str) -> bool:
    return name in chosen and chosen[name].is_default

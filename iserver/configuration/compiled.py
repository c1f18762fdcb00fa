"""The configuration in force: a document and its FDL, checked against each other and compiled.

A `Configuration` is immutable. Requests use the one they started with; a new one takes effect by replacing
one reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from iserver.configuration.encoding import ConfigurationEncoder
from iserver.document.model import (
    Audience,
    Constant,
    Document,
    Environment,
    Experiment,
    External,
    FeatureSettings,
    Override,
    Rollout,
    Settings,
    Value,
    Variant,
    VariantValue,
)
from iserver.document.node import DocumentError
from iserver.evaluation.audiences import Predicate, RuleError, compile_audiences
from iserver.evaluation.definition import Definition
from iserver.evaluation.plans import ExperimentPlan, FeaturePlan, GatePlan, OutputPlan, RegisteredDevice
from iserver.fdl.model import (
    FeatureDefinition,
    FieldDefinition,
    JsonValue,
    ListType,
    ObjectType,
    Program,
    Scalar,
    ScalarType,
    TypeRef,
)
from iserver.fdl.values import InvalidValueError, reader

T = TypeVar("T")

LOCAL = Environment(id="00000000-0000-0000-0000-000000000000", name="local")
"""The environment of a server that is configured by nothing but FDL."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that decides what visitors see.

    Attributes:
        document: Where it comes from.
        definition: The FDL program, ready for traffic.
        features: Plans of all features that can be requested, by name.
        experiments: By id, in document order, whatever their state.
        devices: Registered QA devices by persistent id.
        encoder: Encodes sessions and variants for clients.
        warnings: What was skipped of a leniently read document.
    """

    document: Document
    definition: Definition
    features: Mapping[str, FeaturePlan]
    experiments: Mapping[str, Experiment]
    devices: Mapping[str, RegisteredDevice]
    encoder: ConfigurationEncoder
    warnings: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """Names this state of the control plane."""
        return self.document.revision

    @property
    def environment(self) -> Environment:
        """The deployment this server serves."""
        return self.document.environment

    @property
    def settings(self) -> Settings:
        """Limits of sessions."""
        return self.document.settings


def fdl_only(program: Program, environment: Environment = LOCAL) -> Document:
    """The document that stands for FDL without any configuration: all defaults (§9.2)."""
    return Document(revision=f"fdl-{program.fingerprint[:12]}", environment=environment, fdl=tuple(program.sources))


def configure(document: Document, program: Program, *, lenient: bool = False) -> Configuration:
    """Check a document against its FDL and compile both.

    Args:
        document: A document of the right shape.
        program: The compiled FDL that is to be used with it.
        lenient: Leave out overrides and experiments that name a feature or field which the FDL does not
            have, instead of rejecting the document.

    Raises:
        DocumentError: A reference leads nowhere or a value has the wrong type; nothing was changed.
    """
    return _Builder(document, program, lenient).build()


class _MissingError(DocumentError):
    """The document names a feature or field that the FDL does not have."""


class _Builder:
    def __init__(self, document: Document, program: Program, lenient: bool) -> None:
        self._document = document
        self._program = program
        self._lenient = lenient
        self._warnings: list[str] = []
        self._audiences: Mapping[str, Predicate] = {}

    def build(self) -> Configuration:
        document = self._document
        _require_unique((audience.id for audience in document.audiences), "audiences")
        _require_unique((experiment.id for experiment in document.experiments), "experiments")
        _require_unique((device.persistent_id for device in document.devices), "qa.devices")
        _require_unique(
            (variant.id for experiment in document.experiments for variant in experiment.variants),
            "experiments.variants",
        )
        self._audiences = self._compile_audiences(document.audiences)
        settings = dict(
            self._kept(
                lambda name, item: (name, self._settings(f"features.{name}", name, item)),
                document.features.items(),
            )
        )
        experiments = [
            self._experiment(f"experiments[{index}]", experiment)
            for index, experiment in enumerate(document.experiments)
        ]
        plans = [
            ExperimentPlan(experiment, self._audience(f"experiments[{index}]", experiment.audience_id))
            for index, experiment in enumerate(experiments)
        ]
        by_id = {experiment.id: experiment for experiment in experiments}
        features = {
            feature.name: self._feature(feature, settings.get(feature.name, FeatureSettings()), plans)
            for feature in self._program.features.values()
            if not feature.abstract
        }
        devices = {
            device.persistent_id: RegisteredDevice(
                self._forced_variants(f"qa.devices[{index}]", device.variants, by_id),
                self._overrides(f"qa.devices[{index}]", device.overrides),
            )
            for index, device in enumerate(document.devices)
        }
        wire_variants = {
            (experiment.id, variant.id): _wire_variant(experiment, variant)
            for experiment in experiments
            for variant in experiment.variants
        }
        return Configuration(
            document,
            Definition(self._program),
            features,
            by_id,
            devices,
            ConfigurationEncoder(document.environment.name, self._program, wire_variants),
            tuple(self._warnings),
        )

    # --- references -------------------------------------------------------------------------------

    def _kept(self, read: Callable[..., T], items: Iterable[tuple[object, ...]]) -> list[T]:
        """What `read` makes of each item, without those that name what the FDL does not have if that is tolerated."""
        kept: list[T] = []
        for item in items:
            try:
                kept.append(read(*item))
            except _MissingError as error:
                if not self._lenient:
                    raise
                self._warnings.append(str(error))
        return kept

    def _compile_audiences(self, audiences: Sequence[Audience]) -> Mapping[str, Predicate]:
        try:
            return compile_audiences(audiences, self._program)
        except RuleError as error:
            raise DocumentError("audiences", str(error)) from error

    def _audience(self, path: str, audience_id: str | None) -> Predicate | None:
        if audience_id is None:
            return None
        if audience_id not in self._audiences:
            raise DocumentError(f"{path}.audienceId", f"there is no audience '{audience_id}'")
        return self._audiences[audience_id]

    def _defined_feature(self, path: str, name: str) -> FeatureDefinition:
        feature = self._program.features.get(name)
        if feature is None or feature.abstract:
            raise _MissingError(path, f"the FDL has no feature '{name}'")
        return feature

    def _output(self, path: str, feature: FeatureDefinition, name: str) -> FieldDefinition:
        for output in feature.outputs:
            if output.name == name:
                if output.elapsed is not None or output.is_default_of is not None:
                    raise DocumentError(path, f"'{feature.name}.{name}' is computed by the server")
                return output
        raise _MissingError(path, f"feature '{feature.name}' has no output '{name}'")

    def _value(self, path: str, output: FieldDefinition, value: Value) -> Value:
        if isinstance(value, External):
            if value.name not in output.external:
                choices = ", ".join(output.external) or "none"
                raise DocumentError(path, f"'{value.name}' is not an external of '{output.name}': {choices}")
            return value
        try:
            return Constant(reader(output.type, output.name)(_integral(output.type, value.value)))
        except InvalidValueError as error:
            raise DocumentError(path, f"{error} (type {output.type})") from error

    # --- parts ------------------------------------------------------------------------------------

    def _settings(self, path: str, name: str, settings: FeatureSettings) -> FeatureSettings:
        feature = self._defined_feature(path, name)
        if feature.no_gate and settings.gate.active is False:
            raise DocumentError(f"{path}.gate.active", f"'{name}' is marked @no_gate and cannot be off")
        self._audience(f"{path}.gate", settings.gate.audience_id)

        def read_control(field_name: str, rollouts: Sequence[Rollout]) -> tuple[str, tuple[Rollout, ...]]:
            at = f"{path}.controls.{field_name}"
            output = self._output(at, feature, field_name)
            checked = []
            for index, rollout in enumerate(rollouts):
                self._audience(f"{at}[{index}]", rollout.audience_id)
                checked.append(replace(rollout, value=self._value(f"{at}[{index}].value", output, rollout.value)))
            return field_name, tuple(checked)

        controls = dict(self._kept(read_control, settings.controls.items()))
        return FeatureSettings(settings.gate, controls)

    def _experiment(self, path: str, experiment: Experiment) -> Experiment:
        controls = sum(variant.is_control for variant in experiment.variants)
        if controls != 1:
            raise DocumentError(f"{path}.variants", f"expected exactly one control variant, found {controls}")
        if experiment.finish_ms is not None and experiment.finish_ms < (experiment.start_ms or 0):
            raise DocumentError(f"{path}.finishTs", "the experiment would finish before it starts")
        variants = []
        for number, variant in enumerate(experiment.variants):
            at = f"{path}.variants[{number}].values"
            values = self._kept(
                lambda index, value, at=at: self._variant_value(f"{at}[{index}]", value),
                enumerate(variant.values),
            )
            variants.append(replace(variant, values=tuple(values)))
        return replace(experiment, variants=tuple(variants))

    def _variant_value(self, path: str, value: VariantValue) -> VariantValue:
        feature = self._defined_feature(path, value.feature)
        if feature.no_gate and value.active is False:
            raise DocumentError(path, f"'{feature.name}' is marked @no_gate and cannot be off")
        if value.field is None or value.value is None:
            return value
        output = self._output(path, feature, value.field)
        return replace(value, value=self._value(f"{path}.value", output, value.value))

    def _feature(
        self, feature: FeatureDefinition, settings: FeatureSettings, experiments: Sequence[ExperimentPlan]
    ) -> FeaturePlan:
        path = f"features.{feature.name}"
        touching = [
            (plan, _values_for(feature.name, plan.experiment), _switches_for(feature.name, plan.experiment))
            for plan in experiments
            if touches(plan.experiment, feature.name)
        ]
        gate = GatePlan(
            feature,
            active=settings.gate.active,
            audience=self._audience(f"{path}.gate", settings.gate.audience_id),
            percent=settings.gate.percent,
            salt=settings.gate.salt,
            switches=[(plan, switches) for plan, _, switches in touching if switches],
        )
        outputs = [
            OutputPlan(
                feature.name,
                output,
                [
                    (rollout, self._audience(f"{path}.controls.{output.name}", rollout.audience_id))
                    for rollout in settings.controls.get(output.name, ())
                ],
            )
            for output in feature.outputs
            if output.elapsed is None and output.is_default_of is None
        ]
        return FeaturePlan(feature, gate, outputs, [(plan, values) for plan, values, _ in touching])

    def _forced_variants(
        self, path: str, variants: Mapping[str, str], experiments: Mapping[str, Experiment]
    ) -> Mapping[str, str]:
        for experiment_id, variant_id in variants.items():
            experiment = experiments.get(experiment_id)
            if experiment is None:
                raise DocumentError(f"{path}.variants", f"there is no experiment '{experiment_id}'")
            if variant_id not in {variant.id for variant in experiment.variants}:
                raise DocumentError(f"{path}.variants.{experiment_id}", f"the experiment has no variant '{variant_id}'")
        return dict(variants)

    def _overrides(self, path: str, overrides: Mapping[str, Override]) -> Mapping[str, Override]:
        def read_override(name: str, override: Override) -> tuple[str, Override]:
            at = f"{path}.overrides.{name}"
            feature = self._defined_feature(at, name)

            def read_value(field_name: str, value: Value) -> tuple[str, Value]:
                place = f"{at}.values.{field_name}"
                return field_name, self._value(place, self._output(place, feature, field_name), value)

            return name, replace(override, values=dict(self._kept(read_value, override.values.items())))

        return dict(self._kept(read_override, overrides.items()))


def _wire_variant(experiment: Experiment, variant: Variant) -> dict[str, JsonValue]:
    shown: JsonValue = None if variant.is_control else {"id": variant.id, "name": variant.name}
    return {"id": experiment.id, "name": experiment.name, "variant": shown}


def touches(experiment: Experiment, feature: str) -> bool:
    """Whether some variant of an experiment sets an output of a feature, or switches it (§10.7)."""
    return any(value.feature == feature for variant in experiment.variants for value in variant.values)


def _values_for(feature: str, experiment: Experiment) -> dict[str, dict[str, Value]]:
    return {
        variant.id: {
            value.field: value.value
            for value in variant.values
            if value.feature == feature and value.field is not None and value.value is not None
        }
        for variant in experiment.variants
    }


def _switches_for(feature: str, experiment: Experiment) -> dict[str, bool]:
    return {
        variant.id: value.active
        for variant in experiment.variants
        for value in variant.values
        if value.feature == feature and value.active is not None
    }


def _integral(type_: TypeRef, value: JsonValue) -> JsonValue:
    """The value with `1.0` written as `1` wherever the type says Int: documents may come from JavaScript."""
    if isinstance(value, float):
        is_int = isinstance(type_, ScalarType) and type_.scalar is Scalar.INT
        return int(value) if is_int and value.is_integer() else value
    if isinstance(value, list) and isinstance(type_, ListType):
        return [_integral(type_.element, item) for item in value]
    if isinstance(value, dict) and isinstance(type_, ObjectType):
        members = {item.name: item.type for item in type_.definition.fields}
        return {name: _integral(members[name], item) if name in members else item for name, item in value.items()}
    return value


def _require_unique(ids: Iterable[str], path: str) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if id_ in seen:
            raise DocumentError(path, f"the id '{id_}' is used twice")
        seen.add(id_)

"""What registered devices must drop when the configuration changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from iserver.configuration.compiled import Configuration, touches
from iserver.document.model import (
    AllOf,
    AnyOf,
    Device,
    FeatureSettings,
    Happened,
    InAudience,
    Not,
    Rule,
)


@dataclass(frozen=True, slots=True)
class Flush:
    """What one device must drop.

    Attributes:
        device: Its persistent id.
        features: Names in the order of the FDL; `None` means everything.
    """

    device: str
    features: tuple[str, ...] | None = None


class DeviceListeners(Protocol):
    """The registered devices that are connected (§8)."""

    def flush_cache(self, device: str, last_flush_ms: int) -> None:
        """Send a device the event to drop everything."""

    def flush_features(self, device: str, features: Sequence[str]) -> None:
        """Send a device the event to drop some features."""

    def disconnect(self, device: str) -> None:
        """Disconnect a device that is not registered any more."""

    def disconnect_all(self) -> None:
        """Disconnect all devices; they reconnect, and `hello` says what is current."""


def flushes(old: Configuration, new: Configuration) -> list[Flush]:
    """What follows from a change of the configuration, for every device registered before or after it."""
    before = {device.persistent_id: device for device in old.document.devices}
    after = {device.persistent_id: device for device in new.document.devices}
    everything = old.definition.program != new.definition.program or old.environment != new.environment
    changed = set() if everything else _changed_features(old, new)
    result = []
    for device in {**before, **after}:
        is_listed_anew = device not in before or device not in after
        if everything or is_listed_anew or _wants_flush(before[device], after[device]):
            result.append(Flush(device))
        else:
            touched = changed | _changed_overrides(before[device], after[device], new)
            features = tuple(name for name in new.features if name in touched)
            if features:
                result.append(Flush(device, features))
    return result


def _wants_flush(old: Device, new: Device) -> bool:
    return new.flush_ms is not None and new.flush_ms > (old.flush_ms or 0)


def _changed_features(old: Configuration, new: Configuration) -> set[str]:
    return {name for name in new.features if _decisive(old, name) != _decisive(new, name)}


def _decisive(configuration: Configuration, feature: str) -> object:
    """Everything in the document that decides what visitors see of a feature."""
    document = configuration.document
    settings = document.features.get(feature, FeatureSettings())
    experiments = [item for item in document.experiments if touches(item, feature)]
    audiences = {settings.gate.audience_id, *(item.audience_id for item in experiments)}
    for rollouts in settings.controls.values():
        audiences.update(rollout.audience_id for rollout in rollouts)
    rules = {audience.id: audience.definition for audience in document.audiences}
    pending = [audience for audience in audiences if audience is not None]
    used: dict[str, Rule] = {}
    while pending:
        audience = pending.pop()
        if audience in rules and audience not in used:
            used[audience] = rules[audience]
            pending += _references(rules[audience])
    return settings, experiments, used


def _references(rule: Rule) -> Iterator[str]:
    match rule:
        case AllOf(rules) | AnyOf(rules):
            for item in rules:
                yield from _references(item)
        case Not(inner):
            yield from _references(inner)
        case InAudience(audience):
            yield audience
        case Happened(where=where) if where is not None:
            yield from _references(where)


def _changed_overrides(old: Device, new: Device, configuration: Configuration) -> set[str]:
    names = {*old.overrides, *new.overrides}
    changed = {name for name in names if old.overrides.get(name) != new.overrides.get(name)}
    forced = {*old.variants, *new.variants}
    for id_ in forced:
        if old.variants.get(id_) != new.variants.get(id_) and id_ in configuration.experiments:
            experiment = configuration.experiments[id_]
            changed.update(name for name in configuration.features if touches(experiment, name))
    return changed

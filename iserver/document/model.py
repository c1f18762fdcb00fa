"""The parts of a configuration document as plain data, references not yet resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from iserver.fdl.model import JsonValue, SourceFile

# --- values and rules -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """An output gets this value."""

    value: JsonValue


@dataclass(frozen=True, slots=True)
class External:
    """The application computes the output; responses give it this name (§5)."""

    name: str


Value: TypeAlias = Constant | External


@dataclass(frozen=True, slots=True)
class AllOf:
    """True when every rule is true."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when at least one rule is true."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when the rule is false."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class InAudience:
    """True for members of another audience."""

    audience_id: str


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares a field, such as `session.channel` or `feature.product`, with a value."""

    field: str
    op: str
    value: JsonValue = None


@dataclass(frozen=True, slots=True)
class Happened:
    """Compares how often an event happened in the session with a count."""

    event: str
    op: str = "gte"
    count: int = 1
    where: Rule | None = None


Rule: TypeAlias = AllOf | AnyOf | Not | InAudience | Compare | Happened

COMPARISONS = (
    "eq",
    "ne",
    "lt",
    "lte",
    "gt",
    "gte",
    "in",
    "nin",
    "exists",
    "missing",
    "startsWith",
    "contains",
    "matches",
)
COUNTS = ("gte", "gt", "eq", "lt", "lte")


# --- parts of the document ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Environment:
    """The deployment this server serves."""

    id: str
    name: str
    is_production: bool = False
    warehouse_location: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of sessions."""

    session_timeout_s: float = 1800
    max_session_s: int | None = None
    max_memo_records: int = 2000


@dataclass(frozen=True, slots=True)
class Audience:
    """A named boolean rule over what is known of a visitor."""

    id: str
    name: str
    definition: Rule
    description: str = ""
    state: str = "published"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A control value for a share of the traffic, an audience, or both."""

    value: Value
    audience_id: str | None = None
    percent: float = 100.0
    salt: str | None = None

    @property
    def is_unconditional(self) -> bool:
        """Whether everybody gets the value."""
        return self.audience_id is None and self.percent >= 100


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a feature is on, and for whom. `active=None` leaves it to the FDL."""

    active: bool | None = None
    audience_id: str | None = None
    percent: float = 100.0
    salt: str | None = None


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """Gate and control values of one feature."""

    gate: Gate = field(default_factory=Gate)
    controls: Mapping[str, tuple[Rollout, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VariantValue:
    """What a variant sets: one output of a feature, or whether the feature is on, or both."""

    feature: str
    field: str | None = None
    value: Value | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of an experiment."""

    id: str
    weight: float
    name: str | None = None
    is_control: bool = False
    values: tuple[VariantValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Experiment:
    """A split of the traffic between a control variant and others."""

    id: str
    name: str
    variants: tuple[Variant, ...]
    description: str = ""
    state: str = "published"
    audience_id: str | None = None
    percent: float = 100.0
    salt: str | None = None
    start_ms: int | None = None
    finish_ms: int | None = None

    def is_running(self, now_ms: int) -> bool:
        """Whether it is published, has started and has not finished."""
        return (
            self.state == "published"
            and (self.start_ms is None or self.start_ms <= now_ms)
            and (self.finish_ms is None or now_ms < self.finish_ms)
        )


@dataclass(frozen=True, slots=True)
class Override:
    """What a team member's device sees of one feature."""

    active: bool | None = None
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Device:
    """A registered QA device (§1)."""

    persistent_id: str
    owner: str = ""
    flush_ms: int | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole configuration document, references not yet resolved.

    Attributes:
        raw: The JSON object it was read from, for the metadata tables.
    """

    revision: str
    environment: Environment
    fdl: tuple[SourceFile, ...]
    settings: Settings = field(default_factory=Settings)
    audiences: tuple[Audience, ...] = ()
    features: Mapping[str, FeatureSettings] = field(default_factory=dict)
    experiments: tuple[Experiment, ...] = ()
    devices: tuple[Device, ...] = ()
    metrics: tuple[JsonValue, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

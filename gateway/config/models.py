"""The channel file as data: every section, its options and their defaults.

These models validate one section each. Checks across sections (which names exist, which collide) are in
`gateway.config.loader`, which also reports the line.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.engine.channels import QueuePolicy
from gateway.state.store import Eviction

_SIZES = {"": 1, "b": 1, "kb": 10**3, "kib": 2**10, "mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30}
_SPANS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_size(value: Any) -> Any:
    """``16MiB`` in bytes; numbers are bytes already."""
    return int(_quantity(value, _SIZES, "a size such as 16MiB")) if isinstance(value, str) else value


def read_span(value: Any) -> Any:
    """``12h`` in seconds; numbers are seconds already."""
    return _quantity(value, _SPANS, "a time span such as 12h") if isinstance(value, str) else value


def _quantity(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is None or found.group(2).lower() not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    return float(found.group(1)) * units[found.group(2).lower()]


def _strip_slashes(text: str) -> str:
    return text.strip("/")


def _root(text: str) -> str:
    stripped = text.strip("/")
    return f"/{stripped}" if stripped else ""


Size = Annotated[int, BeforeValidator(read_size), Field(gt=0)]
Span = Annotated[float, BeforeValidator(read_span), Field(gt=0)]
Segment = Annotated[str, AfterValidator(_strip_slashes), Field(min_length=1)]


class Section(BaseModel):
    """A section of the file; unknown options are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ContactSection(Section):
    """The contact in the OpenAPI document."""

    name: str = ""
    email: str = "example@domain.com"


class ServerSection(Section):
    """Where and how the gateway answers."""

    bind: str | None = None
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    title: str = "Gateway"
    description: str = ""
    version: str = "3.0.0"
    contact: ContactSection = ContactSection()
    api_prefix: Segment = "api"
    api_version: Segment = "v1"
    root_path: Annotated[str, AfterValidator(_root)] = ""
    cors_origins: list[str] = Field(default_factory=list)
    max_body: Size = 16 * 2**20
    send_readonly: bool = False


class EnumOptions(Section):
    """An enumeration."""

    members: dict[str, str | int | float | bool] = Field(min_length=1)
    wire: Literal["value", "name"] = "value"


Literals = Annotated[list[str | int | bool], Field(min_length=1)]


class LiteralType(Section):
    """The type of a few written-out values."""

    literal: Literals


class FieldOptions(Section):
    """The long form of a field."""

    type: str | LiteralType | None = None
    literal: Literals | None = None
    default: Any = None
    default_now: Literal["start", "tick"] | None = None
    ge: float | int | None = None
    gt: float | int | None = None
    le: float | int | None = None
    lt: float | int | None = None
    min_length: Annotated[int, Field(ge=0)] | None = None
    max_length: Annotated[int, Field(ge=0)] | None = None
    pattern: str | None = None
    message: str | None = None


class StructOptions(Section):
    """A struct: declared field by field, or imported."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    fields: dict[str, str | FieldOptions] | None = None
    json_schema: str | None = Field(default=None, alias="schema")
    pydantic: str | None = None
    implicit: bool = True
    python_type: str | None = None
    lookup: bool = True


class StateOptions(Section):
    """An accumulation over a channel."""

    keyby: Annotated[list[str], BeforeValidator(lambda v: [v] if isinstance(v, str) else v), Field(min_length=1)] = (
        Field(default_factory=lambda: ["id"])
    )
    alias: str | None = None
    max_keys: Annotated[int, Field(gt=0)] | None = None
    evict: Eviction = "oldest_update"


class ChannelOptions(Section):
    """A channel."""

    type: str
    is_list: bool = Field(default=False, alias="list")
    keys: str | list[str] | None = None
    send: bool = False
    stage: bool = False
    state: StateOptions | list[StateOptions] | bool = False
    conflatable: bool = False
    policy: QueuePolicy | None = None


class ControlsSection(Section):
    """Which of the three control routes exist."""

    heartbeat: bool = True
    stats: bool = True
    shutdown: bool = True


class GroupOptions(Section):
    """Which channels a group of routes has."""

    include: list[str] | None = None
    exclude: list[str] = Field(default_factory=list)

    def takes(self, channel: str) -> bool:
        """Whether a channel belongs to the group."""
        return (self.include is None or channel in self.include) and channel not in self.exclude


class RestSection(Section):
    """The groups of REST routes; false switches a whole group off."""

    last: GroupOptions | Literal[False] = GroupOptions()
    next: GroupOptions | Literal[False] = GroupOptions()
    send: GroupOptions | Literal[False] = GroupOptions()
    state: GroupOptions | Literal[False] = GroupOptions()
    lookup: GroupOptions | Literal[False] = GroupOptions()
    stage: GroupOptions | Literal[False] = GroupOptions()
    force_mount_all: bool = True


class QueueSection(Section):
    """Limits of the send queue of one subscriber, and the policy beyond them."""

    max_messages: Annotated[int, Field(gt=0)] = 10_000
    max_bytes: Size = 32 * 2**20
    policy: QueuePolicy = "disconnect"


class StreamSection(Section):
    """The WebSocket and the server-sent events."""

    path: Annotated[str, AfterValidator(_root)] = "/stream"
    ping_time_s: Annotated[float, Field(gt=0)] = 1.0
    readonly: bool = False
    include: list[str] | None = None
    queue: QueueSection = QueueSection()


class ApiKeyOptions(Section):
    """A key with less than all rights."""

    key: Annotated[str, Field(min_length=1)]
    name: str = ""
    read_only: bool = False
    channels: list[str] | None = None


class ApiKeySection(Section):
    """Authentication by API keys."""

    keys: list[Annotated[str, Field(min_length=1)] | ApiKeyOptions] = Field(default_factory=list)
    name: str = "token"
    cookie_max_age: Span = 12 * 3600.0
    cookie_domain: str | None = None
    message: str = "unauthorized"
    protect_docs: bool = False
    trusted_networks: list[IPv4Network | IPv6Network] = Field(default_factory=list)


class AuthSection(Section):
    """Who may call."""

    api_key: ApiKeySection | None = None


class LookupSection(Section):
    """Limits of the lookup cache of each struct type."""

    max_items: Annotated[int, Field(gt=0)] = 100_000
    max_bytes: Size = 256 * 2**20
    ttl: Span | None = None


class StateSection(Section):
    """Defaults of all states."""

    max_keys: Annotated[int, Field(gt=0)] | None = None
    evict: Eviction = "oldest_update"
    strict: bool = False


class ModuleOptions(Section):
    """A module that is connected to the channels."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str
    name: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """The options, written under ``options`` or beside ``use``."""
        return {**(self.model_extra or {}), **self.options}


class ChannelFile(Section):
    """The whole file."""

    server: ServerSection = ServerSection()
    enums: dict[str, EnumOptions] = Field(default_factory=dict)
    structs: dict[str, StructOptions] = Field(default_factory=dict)
    channels: dict[str, ChannelOptions] = Field(min_length=1)
    fields: dict[str, Any] = Field(default_factory=dict)
    controls: ControlsSection | Literal[False] = ControlsSection()
    rest: RestSection = RestSection()
    stream: StreamSection = StreamSection()
    auth: AuthSection = AuthSection()
    lookup: LookupSection = LookupSection()
    state: StateSection = StateSection()
    recent: Annotated[int, Field(ge=1)] = 1024
    graph: bool = True
    outputs: str | Literal[False] = False
    modules: list[ModuleOptions] = Field(default_factory=list)

"""Which routes a gateway has: every group with its channels."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.config.declared import Declared
from gateway.config.models import GroupOptions, RestSection
from gateway.engine.channels import HEARTBEAT, ChannelSpec
from gateway.state.store import StateSpec


@dataclass(frozen=True)
class RouteGroups:
    """The groups of routes; a group that is switched off is None.

    Attributes:
        api_root: The prefix itself, such as ``/api``.
        base: What every route begins with, such as ``/api/v1``.
        stream_path: The WebSocket's path below the base.
        send: The channels that clients may tick.
        stage: The channels with staging areas; none at all means that the group does not exist.
    """

    api_root: str
    base: str
    stream_path: str
    last: tuple[ChannelSpec, ...] | None
    next: tuple[ChannelSpec, ...] | None
    lookup: tuple[ChannelSpec, ...] | None
    send: tuple[ChannelSpec, ...] | None
    states: tuple[tuple[StateSpec, ChannelSpec], ...] | None
    stage: tuple[ChannelSpec, ...]
    controls: tuple[str, ...]
    stream: tuple[ChannelSpec, ...]

    @property
    def send_names(self) -> list[str]:
        """The send listing: channels, and each key of baskets."""
        names = [spec.name for spec in self.send or ()]
        names += [f"{spec.name}/{key}" for spec in self.send or () for key in spec.keys or ()]
        return sorted(names)

    @property
    def stream_names(self) -> list[str]:
        """The stream listing, in the order of declaration, the heartbeat last."""
        names: list[str] = []
        for spec in self.stream:
            names += [spec.name] if spec.keys is None else [f"{spec.name}/{key}" for key in spec.keys]
        return [*names, HEARTBEAT]


def route_groups_of(declared: Declared) -> RouteGroups:
    """Decide which routes the channels of a file have."""
    options = declared.options
    rest: RestSection = options.rest
    channels = declared.channels
    controls = options.controls
    names = [name for name in ("heartbeat", "shutdown", "stats") if controls and getattr(controls, name)]
    include = options.stream.include
    api_root = f"/{options.server.api_prefix}"
    sendable = None if options.server.send_readonly else _take(rest.send, channels)
    stage = _take(rest.stage, channels) or ()
    state_selection = rest.state
    return RouteGroups(
        api_root=api_root,
        base=f"{api_root}/{options.server.api_version}",
        stream_path=options.stream.path,
        last=_take(rest.last, channels),
        next=_take(rest.next, channels),
        lookup=_take(rest.lookup, channels),
        send=None if sendable is None else tuple(spec for spec in sendable if spec.sendable),
        states=None
        if state_selection is False
        else tuple((state, spec) for spec in channels for state in spec.states if state_selection.takes(state.alias)),
        stage=tuple(spec for spec in stage if spec.staged),
        controls=tuple(names),
        stream=tuple(spec for spec in channels if include is None or spec.name in include),
    )


def _take(selection: GroupOptions | bool, channels: tuple[ChannelSpec, ...]) -> tuple[ChannelSpec, ...] | None:
    if isinstance(selection, bool):
        return None
    return tuple(spec for spec in channels if selection.takes(spec.name))

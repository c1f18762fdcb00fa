"""Which replica servers are alive.

A server is alive from its first beacon until no beacon has come for the grace period. The grace period is
longer than the lease after which a silent server stops serving by itself, so a server held for dead here
has already stopped. Time is passed in, in seconds of any clock that does not jump.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.metadata import ReplicaInfo


@dataclass
class Node:
    """A replica server.

    Attributes:
        address: Its ip:port form, where it differs from its name or the name is not an address.
        last_beacon: When it was last heard of.
        start_time: When its process started, in its own words; tells a restart from silence.
        stored: The replicas it reported last, None before its first report since it came up.
    """

    address: HostPort
    is_alive: bool
    last_beacon: float
    start_time: int = 0
    stored: Mapping[Gpid, ReplicaInfo] | None = None


@dataclass
class Nodes:
    """All replica servers that were heard of, or are named in a partition configuration.

    Attributes:
        disconnections: How often a server was found dead.
    """

    known: dict[HostPort, Node] = field(default_factory=dict)
    disconnections: int = 0

    def copy(self) -> Nodes:
        """Another one that names the same servers, for a thread in which this one may not be looked at."""
        return Nodes(dict(self.known), self.disconnections)

    def expect(self, nodes: Iterable[HostPort], now: float) -> None:
        """After a start: servers that hold partitions count as alive until the grace period ends."""
        for node in nodes:
            self.known.setdefault(node, Node(node, True, now))

    def beacon(self, name: HostPort, address: HostPort, start_time: int, now: float) -> bool:
        """Note a sign of life.

        Returns:
            Whether the server has come up: it is new, was dead, or was started again.
        """
        node = self.known.get(name)
        if node is None:
            self.known[name] = Node(address, True, now, start_time)
            return True
        came_up = not node.is_alive or (node.start_time not in (0, start_time))
        if came_up:
            node.stored = None
        node.address, node.is_alive, node.last_beacon, node.start_time = address, True, now, start_time
        return came_up

    def report(self, name: HostPort, stored: Iterable[ReplicaInfo]) -> None:
        """Note which replicas a server holds."""
        node = self.known.get(name)
        if node is not None:
            node.stored = {info.pid: info for info in stored}

    def confirm(self, name: HostPort, info: ReplicaInfo) -> None:
        """Note that a server has just confirmed to hold a replica, which its last report could not know."""
        node = self.known.get(name)
        if node is not None and node.stored is not None:
            node.stored = {**node.stored, info.pid: info}

    def expire(self, now: float, grace_s: float) -> list[HostPort]:
        """Mark the servers that have been silent for the grace period as dead, and name them."""
        silent = [name for name, node in self.known.items() if node.is_alive and now - node.last_beacon >= grace_s]
        for name in silent:
            self.known[name].is_alive = False
            self.known[name].stored = None
        self.disconnections += len(silent)
        return silent

    def is_alive(self, name: HostPort) -> bool:
        """Whether a server is known and alive."""
        node = self.known.get(name)
        return node is not None and node.is_alive

    def alive(self) -> list[HostPort]:
        """The servers that are alive, sorted."""
        return sorted(name for name, node in self.known.items() if node.is_alive)

    def address(self, name: HostPort) -> HostPort:
        """The ip:port form of a server, as far as known."""
        node = self.known.get(name)
        return node.address if node is not None else name

    def is_frozen(self, min_live: int, live_percentage: int) -> bool:
        """Whether so many servers are missing that nothing may be changed for now (§1)."""
        alive = len(self.alive())
        return alive < min_live or alive * 100 < len(self.known) * live_percentage

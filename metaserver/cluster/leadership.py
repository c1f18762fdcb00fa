"""The leader of the metaservers of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from shared.pegasus.wire.structures.base import NO_NODE, HostPort


@dataclass
class Leadership:
    """What this metaserver knows about the leader.

    Attributes:
        this: The address under which this metaserver is known.
        leader: The address of the leader, `NO_NODE` when there is none.
        servers: All metaservers, in the order in which they were configured.
    """

    this: HostPort
    leader: HostPort = NO_NODE
    servers: tuple[HostPort, ...] = ()

    @property
    def is_leader(self) -> bool:
        """Whether this metaserver may answer for the cluster."""
        return bool(self.this) and self.leader == self.this

    @classmethod
    def alone(cls, this: HostPort) -> Leadership:
        """The leadership of the only metaserver of its cluster."""
        return cls(this, this, (this,))

"""What a primary knows of its group: who has which entries, which change is proposed, and what may be committed.

A decree is committed when the primary and every secondary have it on their disks, those of a proposed configuration
included: the metaserver may have made it durable already. It never knows the log or the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from replicaserver.replication.replica import Configuration
from shared.pegasus.wire.structures.base import HostPort


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a primary waits, in seconds.

    Attributes:
        prepare_timeout_s: A follower that has made no progress for this long is taken out.
        resend_s: After this long without an answer a prepare is sent again.
        group_check_s: How often every member is told the configuration and the committed point.
        learn_timeout_s: A learner that has not learned for this long begins again, or is given up.
    """

    prepare_timeout_s: float = 3.0
    resend_s: float = 0.5
    group_check_s: float = 10.0
    learn_timeout_s: float = 30.0


@dataclass(slots=True)
class Follower:
    """One secondary or learner, as its primary sees it.

    Attributes:
        next: The decree that is sent next.
        acknowledged: Everything up to this decree is on its disk, as this primary has prepared it.
        waiting_since: When the oldest prepare without an answer was sent; None when nothing is unanswered.
        sent_at: When something was sent last.
        gap: The decree from which entries were sent again after a gap.
        signature: Above 0 for a learner: the attempt at learning that goes on.
        has_learned: Whether it has the state, so that it can be sent what follows.
        began_at: When it became a learner.
    """

    next: int
    acknowledged: int = 0
    waiting_since: float | None = None
    sent_at: float = 0.0
    gap: int = 0
    signature: int = 0
    has_learned: bool = True
    began_at: float = 0.0


@dataclass(slots=True)
class Primary:
    """The state of a primary, from its first ballot as one to the end of its term.

    Attributes:
        term: The ballot under which this term began; acknowledgements of earlier ones do not count.
        tail: Everything up to this decree was prepared before the term: it must be committed before anything is read.
        proposed: A configuration that the metaserver may have made durable.
        is_asking: Whether its answer is awaited.
    """

    term: int
    tail: int
    secondaries: dict[HostPort, Follower] = field(default_factory=dict)
    learners: dict[HostPort, Follower] = field(default_factory=dict)
    unwanted: set[HostPort] = field(default_factory=set)
    tokens: dict[int, int] = field(default_factory=dict)
    proposed: Configuration | None = None
    is_asking: bool = False
    signatures: int = 0
    checked_at: float = float("-inf")

    def follower(self, node: HostPort) -> Follower | None:
        """A secondary or learner."""
        return self.secondaries.get(node) or self.learners.get(node)

    def committable(self, logged: int) -> int:
        """The highest decree that everybody has who must.

        Args:
            logged: What the primary itself has on its disk.
        """
        acknowledged = [follower.acknowledged for follower in self.secondaries.values()]
        if self.proposed is not None:
            joining = [node for node in self.proposed.secondaries if node not in self.secondaries]
            acknowledged += [self.learners[node].acknowledged if node in self.learners else 0 for node in joining]
        return min([logged, *acknowledged])

    def adopt(self, configuration: Configuration) -> None:
        """Go on under a configuration of this primary's own making."""
        self.proposed, self.is_asking = None, False
        for node in list(self.secondaries):
            if node not in configuration.secondaries:
                del self.secondaries[node]
        for node in configuration.secondaries:
            if node not in self.secondaries:
                self.secondaries[node] = self.learners.pop(node)
                self.secondaries[node].signature = 0
        self.unwanted &= {*self.secondaries, *self.learners}

    def change(self, configuration: Configuration, committed: int) -> Configuration | None:
        """The configuration that should follow; None when the one in force is right.

        Args:
            committed: A learner that has everything up to here, and the tail of the primary before, which may have been
                committed by it, is ready to become a secondary.
        """
        leaving = next((node for node in configuration.secondaries if node in self.unwanted), None)
        if leaving is not None:
            remaining = tuple(node for node in configuration.secondaries if node != leaving)
            return replace(
                configuration,
                ballot=configuration.ballot + 1,
                secondaries=remaining,
                last_committed_decree=committed,
            )
        for node, learner in sorted(self.learners.items()):
            if learner.has_learned and learner.acknowledged >= max(committed, self.tail) and node not in self.unwanted:
                return replace(
                    configuration,
                    ballot=configuration.ballot + 1,
                    secondaries=(*configuration.secondaries, node),
                    last_committed_decree=committed,
                )
        return None

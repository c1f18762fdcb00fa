"""One member of a partition's replica group: PacificA without its network, disk and clock (protocol §13.2).

Feed a `Replica` with `step`; carry out the effects it returns in order, and only then feed it again. Writes, of which
there are many, come as calls: `give_decree` and `logged`. What it decides - who is primary under which ballot, which
decree a write gets, when a decree is committed - is decided here and nowhere else. It knows no rows.

Configurations have one member so far. One that names secondaries is believed, but takes no writes: a decree is
committed only when every member has logged it, and there is nobody yet who would ask a secondary to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.metadata import PartitionStatus


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who holds a partition, as the metaserver has decided it (§1).

    Attributes:
        ballot: Grows by one with every change.
        primary: None while there is none.
        secondaries: The other members.
        max_replica_count: How many members there should be.
        last_committed_decree: The highest decree that was reported to the metaserver.
    """

    ballot: int = 0
    primary: HostPort | None = None
    secondaries: tuple[HostPort, ...] = ()
    max_replica_count: int = 1
    last_committed_decree: int = 0

    @property
    def members(self) -> int:
        """How many members there are."""
        return (self.primary is not None) + len(self.secondaries)


# -- messages ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assign:
    """The metaserver proposes that this replica become the primary of a configuration."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Granted:
    """The metaserver has made a proposed configuration durable."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Observed:
    """The metaserver says which configuration is in force, by itself or because it rejected a proposal."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The metaserver no longer counts this replica among the members of its partition."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A proposal got no answer; it may have been made durable all the same."""


@dataclass(frozen=True, slots=True)
class LogFailed:
    """This replica's disk did not take what it was given; a start may find it there all the same."""


@dataclass(frozen=True, slots=True)
class LogRecovered:
    """The disk takes writes again, and no start will find what it did not take."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The metaserver has not acknowledged a beacon for so long that another primary may be about to be made."""


@dataclass(frozen=True, slots=True)
class LeaseHeld:
    """The metaserver acknowledges beacons."""


Message = Assign | Granted | Observed | Forgotten | Unanswered | LogFailed | LogRecovered | LeaseLost | LeaseHeld

# -- effects ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask the metaserver to make a configuration durable; answer with `Granted`, `Observed` or `Unanswered`.

    Attributes:
        configuration: Its ballot is one more than that of the configuration it replaces.
        is_restart: This replica was the primary already and comes back from a restart.
    """

    configuration: Configuration
    is_restart: bool


@dataclass(frozen=True, slots=True)
class SaveBallot:
    """Note the ballot on disk before any write of it."""

    ballot: int


Effect = Propose | SaveBallot


class Replica:
    """One member of a partition's replica group.

    Args:
        node: Who this is.
        ballot: The ballot that was last saved.
        decree: The last decree on disk.
        min_members: Members below which writes are rejected (`mutation_2pc_min_replica_count`); 0 takes the formula
            of §11.1.
        window: How many decrees may be logged and not committed (`staleness_for_commit`).
        may_serve: Whether the lease of this node goes on at this moment.

    Attributes:
        status: The role. A replica begins inactive, whatever it was before.
        configuration: The one in force, as far as is known.
        last_prepared: The highest decree that was given out.
        last_committed: The highest decree that is committed.
        has_lease: Whether what is known of the configuration is from after the lease was last lost.
        has_failed: The disk did not take a write: none is taken until it has recovered. What was acknowledged can be
            read all the same, because nothing is acknowledged that the lost write could come before.
    """

    def __init__(
        self,
        node: HostPort,
        ballot: int,
        decree: int,
        *,
        min_members: int,
        window: int,
        may_serve: Callable[[], bool] = lambda: True,
    ) -> None:
        self.node = node
        self.status = PartitionStatus.INACTIVE
        self.configuration = Configuration(ballot=ballot)
        self.last_prepared = decree
        self.last_committed = decree
        self.has_lease = True
        self.has_failed = False
        self._min_members = min_members
        self._window = window
        self._may_serve = may_serve
        self._proposed: Configuration | None = None

    @property
    def ballot(self) -> int:
        """The ballot of the configuration in force."""
        return self.configuration.ballot

    @property
    def is_primary(self) -> bool:
        """Whether this replica is the primary and may act as one."""
        return self.status is PartitionStatus.PRIMARY and self.has_lease and self._may_serve()

    @property
    def has_room(self) -> bool:
        """Whether one more write fits before some are committed."""
        return self.last_prepared - self.last_committed < self._window

    def reading_error(self) -> ErrorCode | None:
        """Why nothing can be read here now; None when it can (§11.1)."""
        return None if self.is_primary else ErrorCode.ERR_INVALID_STATE

    def writing_error(self) -> ErrorCode | None:
        """Why nothing can be written here now; None when it can (§11.1)."""
        if not self.is_primary:
            return ErrorCode.ERR_INVALID_STATE
        if self.configuration.members < self._required_members() or self.configuration.secondaries:
            return ErrorCode.ERR_NOT_ENOUGH_MEMBER
        return ErrorCode.ERR_DISK_IO_ERROR if self.has_failed else None

    def step(self, message: Message) -> list[Effect]:
        """Take a message and decide."""
        match message:
            case Assign(configuration):
                return self._assign(configuration)
            case Granted(configuration):
                self._proposed = None
                return self._adopt(configuration)
            case Observed(configuration):
                return self._observe(configuration)
            case Forgotten():
                if self.status is not PartitionStatus.ERROR:
                    self.status = PartitionStatus.INACTIVE
                return []
            case Unanswered():
                self._proposed = None
                return []
            case LogFailed():
                self.has_failed = True
                self.last_prepared = self.last_committed
                if self.configuration.secondaries:  # somebody else can do better
                    self.status = PartitionStatus.ERROR
                return []
            case LogRecovered():
                self.has_failed = False
                return []
            case LeaseLost():
                self.has_lease = False
                return []
            case LeaseHeld():
                self.has_lease = True
                return []

    def _required_members(self) -> int:
        if self._min_members > 0:
            return self._min_members
        # the formula of §11.1 counts copies that replication would make; with one member a configuration is complete
        return 1

    def give_decree(self) -> int | ErrorCode:
        """The decree of one more write, or why it is rejected."""
        error = self.writing_error()
        if error is not None:
            return error
        if not self.has_room:
            return ErrorCode.ERR_CAPACITY_EXCEEDED
        self.last_prepared += 1
        return self.last_prepared

    def give_back(self, decree: int) -> None:
        """Nothing of the decrees that were given out after this one is on its way to a disk: give them out again."""
        self.last_prepared = decree

    def logged(self, decree: int) -> bool:
        """Everything up to a decree is on this replica's disk; whether more is committed now."""
        if decree <= self.last_committed:
            return False
        self.last_committed = min(decree, self.last_prepared)
        return True

    def _assign(self, configuration: Configuration) -> list[Effect]:
        if configuration.ballot < self.ballot or self.status is PartitionStatus.ERROR:
            return []
        is_news = configuration.ballot > self.ballot  # a primary may not have heard yet that it was taken out
        if configuration.primary not in (None, self.node) or (self.status is PartitionStatus.PRIMARY and not is_news):
            return []
        if configuration.last_committed_decree > self.last_prepared:
            return []  # writes that were acknowledged are not here: somebody else must be found
        if self.status is PartitionStatus.PRIMARY:
            self.status = PartitionStatus.INACTIVE
        return self._propose(configuration, is_restart=False)

    def _observe(self, configuration: Configuration) -> list[Effect]:
        self._proposed = None
        if configuration.ballot < self.ballot or self.status is PartitionStatus.ERROR:
            return []
        if configuration.primary == self.node and self.status is not PartitionStatus.PRIMARY:
            # this was the primary before a restart, or its grant got lost: only a new ballot makes it one again
            return self._propose(configuration, is_restart=True)
        return self._adopt(configuration) if configuration.ballot > self.ballot else []

    def _propose(self, base: Configuration, *, is_restart: bool) -> list[Effect]:
        if self._proposed is not None:
            return []
        self._proposed = replace(
            base,
            ballot=base.ballot + 1,
            primary=self.node,
            secondaries=tuple(node for node in base.secondaries if node != self.node),
            last_committed_decree=self.last_committed,
        )
        return [Propose(self._proposed, is_restart)]

    def _adopt(self, configuration: Configuration) -> list[Effect]:
        if configuration.ballot < self.ballot or self.status is PartitionStatus.ERROR:
            return []
        is_new = configuration.ballot > self.ballot
        self.configuration = configuration
        if configuration.primary == self.node:
            self.status = PartitionStatus.PRIMARY
        else:
            self.status = PartitionStatus.INACTIVE
        return [SaveBallot(configuration.ballot)] if is_new else []

"""What the members of a replica group tell each other, what a member is told by its node, and what it wants done.

Plain values: `Member.step` takes `Input`s and returns `Effect`s, which are to be carried out in their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from replicaserver.replication.prepare_list import Entry
from replicaserver.replication.replica import Configuration
from replicaserver.replication.replica import Granted as Granted
from replicaserver.replication.replica import LogFailed as LogFailed
from replicaserver.replication.replica import Observed as Observed
from replicaserver.replication.replica import Propose as Propose
from replicaserver.replication.replica import Unanswered as Unanswered
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import HostPort

# -- between members ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """The primary wants entries on the disk of a follower.

    Attributes:
        configuration: The one in force at the primary; its ballot is the ballot of the message.
        term: The ballot under which the primary became one.
        committed: Everything up to this decree is committed.
        entries: Consecutive; empty to tell the committed point alone.
        signature: Which attempt at learning a learner must be in; 0 for a secondary.
    """

    configuration: Configuration
    term: int
    committed: int
    entries: tuple[Entry, ...]
    signature: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A follower answers a `Prepare`.

    Attributes:
        ballot: The ballot that the follower follows.
        decree: Everything up to this decree is on its disk as this ballot's primary has it.
        expected: The decree that it takes next.
        is_follower: Whether it follows the primary that asked.
        has_gap: Whether entries between were lost on the way, or are not known to be this primary's.
    """

    ballot: int
    decree: int
    expected: int
    is_follower: bool
    has_gap: bool = False
    signature: int = 0


@dataclass(frozen=True, slots=True)
class GroupCheck:
    """The primary tells a member the configuration, its role and the committed point.

    Attributes:
        signature: Above 0 for a learner: which attempt at learning this is.
    """

    configuration: Configuration
    term: int
    committed: int
    signature: int = 0


@dataclass(frozen=True, slots=True)
class LearnRequest:
    """A learner asks for the state.

    Attributes:
        committed: What it has applied and on its disk.
    """

    ballot: int
    signature: int
    committed: int


class LearnKind(Enum):
    """Where the state comes from that a learner gets."""

    CACHE = "cache"
    LOG = "log"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class LearnReply:
    """The state, or its end.

    Attributes:
        kind: What the entries and the checkpoint came from.
        checkpoint: Decree of the checkpoint that the node was sent beside this; None without one.
        entries: Committed entries that follow, consecutive.
    """

    ballot: int
    signature: int
    kind: LearnKind
    checkpoint: int | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class LearnDone:
    """A learner has the state up to a decree, on its disk."""

    ballot: int
    signature: int
    decree: int


PeerMessage = Prepare | Prepared | GroupCheck | LearnRequest | LearnReply | LearnDone

# -- from the node -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FromPeer:
    """A message of another member."""

    sender: HostPort
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class ClientWrite:
    """A client wants something written; `token` is how the answer finds it."""

    token: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Logged:
    """Every `Log` up to this sequence number is on the disk."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Installed:
    """A checkpoint is this replica's state now, on its disk."""

    signature: int
    decree: int


@dataclass(frozen=True, slots=True)
class StateRead:
    """What `ReadState` asked for: a reply for the learner, or None when it could not be read."""

    learner: HostPort
    reply: LearnReply | None


@dataclass(frozen=True, slots=True)
class Assigned:
    """The metaserver wants this replica to be the primary of what follows a configuration."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class AddLearner:
    """The metaserver wants a node to become a secondary of this primary."""

    node: HostPort


@dataclass(frozen=True, slots=True)
class RemoveMember:
    """The metaserver wants a node to be a member no longer."""

    node: HostPort


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed.

    Attributes:
        now: Seconds of a clock that only goes forward.
    """

    now: float


Input = (
    FromPeer
    | ClientWrite
    | Logged
    | LogFailed
    | Installed
    | StateRead
    | Assigned
    | AddLearner
    | RemoveMember
    | Granted
    | Observed
    | Unanswered
    | Tick
)

# -- effects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to another member; it may be lost, doubled, or overtaken."""

    to: HostPort
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Log:
    """Append to the log of this replica, in this order; answer with `Logged` when it is on the disk.

    Attributes:
        sequence: Grows by one with every `Log`.
        ballot: The ballot to start from after a restart.
        committed: What a restart may take for committed.
        last: Entries after this decree that the log holds already are void.
        entries: Consecutive, the first after `last`.
    """

    sequence: int
    ballot: int
    committed: int
    last: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Apply an entry to the rows, and answer whoever waits for it.

    Attributes:
        token: The client's write that it was, if it came here and has not been given up.
    """

    entry: Entry
    token: int | None


@dataclass(frozen=True, slots=True)
class Reject:
    """A write is not taken: nothing of it will be found."""

    token: int
    error: ErrorCode


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody here will know what became of a write: another primary may commit it."""

    token: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """Read the committed state after a decree for a learner, from the log or a checkpoint; answer with `StateRead`."""

    learner: HostPort
    ballot: int
    signature: int
    after: int


@dataclass(frozen=True, slots=True)
class Install:
    """Make the checkpoint that came with a `LearnReply` this replica's state; answer with `Installed`."""

    signature: int
    decree: int


Effect = Send | Log | Commit | Reject | GiveUp | Propose | ReadState | Install

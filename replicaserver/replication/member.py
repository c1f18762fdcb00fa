"""One member of a replica group: PacificA with its data path, without network, disk and clock (§13.2).

Feed a `Member` with `step` and carry out the effects in order. Everything that makes a write durable on all members
is decided here: which decree it gets, who must have it, when it is committed, what a new primary does with the tail
of the old one, and how a learner catches up. It knows no rows: a write is bytes to it.

The rules that everything else follows from:

- A secondary acknowledges a decree when its own disk has it, under the ballot of the primary that asked.
- A decree is committed when the primary and all secondaries have acknowledged it; never before, never by a majority.
- Members change only through the metaserver, one change at a time, each with the next ballot.
- A new primary prepares everything again that it has beyond the committed point before it serves anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from replicaserver.replication import messages as m
from replicaserver.replication.prepare_list import Entry, PrepareList
from replicaserver.replication.primary import Follower, Primary, Timing
from replicaserver.replication.replica import Configuration
from shared.pegasus.wire.errors import ErrorCode
from shared.pegasus.wire.structures.base import HostPort
from shared.pegasus.wire.structures.metadata import PartitionStatus


@dataclass(frozen=True, slots=True)
class Limits:
    """What a member holds at most.

    Attributes:
        window: Entries that are prepared and not committed (`staleness_for_commit`).
        window_bytes: The same, in bytes.
        cached_count: Committed entries kept for learners.
        cached_bytes: The same, in bytes.
        batch_bytes: What one `Prepare` carries at most, beyond its first entry.
        min_members: Members below which writes are refused.
    """

    window: int = 110
    window_bytes: int = 16 * 2**20
    cached_count: int = 110
    cached_bytes: int = 4 * 2**20
    batch_bytes: int = 2**20
    min_members: int = 1


@dataclass(frozen=True, slots=True)
class Stored:
    """What a replica's disk holds when its process starts.

    Attributes:
        ballot: The highest ballot in the log.
        committed: What may be taken for committed, and is in the rows.
        tail: Entries after it, consecutive.
    """

    ballot: int = 0
    committed: int = 0
    tail: Sequence[Entry] = ()


class Member:
    """One member of a partition's replica group. It begins inactive, whatever it was before.

    Args:
        node: Who this is.
        stored: What its disk holds.
        may_serve: Whether the lease of this node goes on at this moment.

    Attributes:
        status: The role.
        configuration: The one in force, as far as is known.
        prepared: The newest entries.
        logged: Everything up to this decree is on the disk.
    """

    def __init__(
        self,
        node: HostPort,
        stored: Stored,
        limits: Limits,
        timing: Timing,
        *,
        may_serve: Callable[[], bool] = lambda: True,
    ) -> None:
        self.node = node
        self.status = PartitionStatus.INACTIVE
        self.configuration = Configuration(ballot=stored.ballot)
        self.prepared = PrepareList(
            stored.committed, cached_count=limits.cached_count, cached_bytes=limits.cached_bytes
        )
        for entry in stored.tail:
            self.prepared.append(entry)
        self.logged = self.prepared.last
        self.now = 0.0
        self._limits = limits
        self._timing = timing
        self._may_serve = may_serve
        self._primary: Primary | None = None
        self._asked: Configuration | None = None
        self._term = 0
        self._matched = self.committed
        self._told = 0
        self._seen_ballot = stored.ballot
        self._signature = 0
        self._has_learned = False
        self._learned_to: int | None = None
        self._learned: tuple[Entry, ...] = ()
        self._sequence = 0
        self._unlogged: dict[int, tuple[int, int]] = {}

    # -- what can be asked -----------------------------------------------------------------------

    @property
    def ballot(self) -> int:
        """The ballot of the configuration in force."""
        return self.configuration.ballot

    @property
    def committed(self) -> int:
        """The highest committed decree."""
        return self.prepared.committed

    def reading_error(self) -> ErrorCode | None:
        """Why nothing can be read here now; None when it can. Asked before a read, and again before its answer."""
        primary = self._primary
        if primary is None or not self._may_serve() or self.committed < primary.tail:
            return ErrorCode.ERR_INVALID_STATE
        return None

    def writing_error(self) -> ErrorCode | None:
        """Why nothing can be written here now; None when it can."""
        error = self.reading_error()
        if error is not None:
            return error
        if self.configuration.members < self._limits.min_members:
            return ErrorCode.ERR_NOT_ENOUGH_MEMBER
        if (
            self.prepared.uncommitted_count >= self._limits.window
            or self.prepared.uncommitted_bytes >= self._limits.window_bytes
        ):
            return ErrorCode.ERR_CAPACITY_EXCEEDED
        return None

    # -- inputs ----------------------------------------------------------------------------------

    def step(self, given: m.Input) -> list[m.Effect]:
        """Take an input and decide."""
        if isinstance(given, m.Tick):
            self.now = given.now
            return self._tick()
        if self.status is PartitionStatus.ERROR:
            return [m.Reject(given.token, ErrorCode.ERR_INVALID_STATE)] if isinstance(given, m.ClientWrite) else []
        match given:
            case m.FromPeer(sender, message):
                return self._from_peer(sender, message)
            case m.ClientWrite(token, data):
                return self._write(token, data)
            case m.Logged(sequence):
                return self._log_done(sequence)
            case m.LogFailed():
                return self._fail()
            case m.Installed(signature, decree):
                return self._installed(signature, decree)
            case m.StateRead(learner, reply):
                return self._state_read(learner, reply)
            case m.Assigned(configuration):
                return self._assigned(configuration)
            case m.AddLearner(node):
                return self._add_learner(node)
            case m.RemoveMember(node):
                if self._primary is not None and self._primary.follower(node):
                    self._primary.unwanted.add(node)
                return self._settle()
            case m.Granted(configuration):
                return self._granted(configuration)
            case m.Observed(configuration):
                return self._observed(configuration)
            case m.Unanswered():
                self._asked = None
                if self._primary is not None:
                    self._primary.is_asking = False  # asked again at the next tick: it may be durable
                return []

    def _from_peer(self, sender: HostPort, message: m.PeerMessage) -> list[m.Effect]:
        match message:
            case m.Prepare():
                return self._prepare(sender, message)
            case m.Prepared():
                return self._answered(sender, message)
            case m.GroupCheck():
                return self._group_check(sender, message)
            case m.LearnRequest():
                return self._learn_request(sender, message)
            case m.LearnReply():
                return self._learn_reply(message)
            case m.LearnDone():
                return self._learn_done(sender, message)

    # -- the log ---------------------------------------------------------------------------------

    def _log(self, last: int, entries: Sequence[Entry]) -> list[m.Effect]:
        """Log entries after a decree, with the ballot and the committed point."""
        self._sequence += 1
        self.logged = min(self.logged, last)
        self._unlogged[self._sequence] = (last, entries[-1].decree if entries else last)
        return [m.Log(self._sequence, self.ballot, self.committed, last, tuple(entries))]

    def _log_done(self, sequence: int) -> list[m.Effect]:
        done = [number for number in self._unlogged if number <= sequence]
        if not done:
            return []
        end = self._unlogged[done[-1]][1]
        for number in done:
            del self._unlogged[number]
        self.logged = min([end, *(last for last, _ in self._unlogged.values())])
        if self._primary is not None:
            return self._settle()
        if self.status is PartitionStatus.SECONDARY or (
            self.status is PartitionStatus.POTENTIAL_SECONDARY and self._has_learned
        ):
            return [self._acknowledge(), *self._commit_told()]
        learned_to = self._learned_to
        if self.status is not PartitionStatus.POTENTIAL_SECONDARY or learned_to is None or self._learned:
            return []
        is_here = self.logged >= learned_to and self.prepared.last >= learned_to
        return self._end_learning(learned_to) if is_here else []

    def _fail(self) -> list[m.Effect]:
        effects = self._step_down()
        self.status = PartitionStatus.ERROR
        return effects

    # -- roles -----------------------------------------------------------------------------------

    def _step_down(self) -> list[m.Effect]:
        """Be nobody; whoever waits for a write of this term will not hear of it here."""
        primary, self._primary = self._primary, None
        self.status = PartitionStatus.INACTIVE
        self._asked = None
        if primary is None:
            return []
        return [m.GiveUp(token) for token in primary.tokens.values()]

    def _assigned(self, configuration: Configuration) -> list[m.Effect]:
        if configuration.ballot < self.ballot or configuration.primary not in (None, self.node):
            return []
        if self._primary is not None and configuration.ballot <= self.ballot:
            return []
        is_learner = self.status is PartitionStatus.POTENTIAL_SECONDARY
        if is_learner or configuration.last_committed_decree > self.prepared.last:
            return []  # writes that were acknowledged are not here: somebody else must be found
        effects = self._step_down()
        return effects + self._ask(configuration, is_restart=False)

    def _observed(self, configuration: Configuration) -> list[m.Effect]:
        self._asked = None
        if self._primary is not None:
            self._primary.is_asking = False
        if configuration.ballot < self.ballot:
            return []
        if configuration.primary == self.node:
            if self._primary is not None:
                return [] if configuration.ballot == self.ballot else self._granted(configuration)
            return self._ask(configuration, is_restart=True)  # only a new ballot makes it the primary again
        # the ballot stays: it tells the metaserver how far this replica's history goes
        self._seen_ballot = max(self._seen_ballot, configuration.ballot)
        return self._step_down() if configuration.ballot > self.ballot or self._primary is not None else []

    def _ask(self, base: Configuration, *, is_restart: bool) -> list[m.Effect]:
        if self._asked is not None:
            return []
        self._asked = replace(
            base,
            ballot=base.ballot + 1,
            primary=self.node,
            secondaries=tuple(node for node in base.secondaries if node != self.node),
            last_committed_decree=self.committed,
        )
        return [m.Propose(self._asked, is_restart)]

    def _granted(self, configuration: Configuration) -> list[m.Effect]:
        asked, self._asked = self._asked, None
        if configuration.ballot <= self.ballot or configuration.primary != self.node:
            return []
        primary = self._primary
        if primary is not None:
            if primary.proposed is None or set(configuration.secondaries) - {*primary.secondaries, *primary.learners}:
                return []  # not one that this term has asked for
            self.configuration = configuration
            primary.adopt(configuration)
            return self._log(self.prepared.last, ()) + self._tell_all() + self._settle()
        is_latest = asked is not None and configuration.ballot >= max(asked.ballot, self._seen_ballot)
        return self._begin_term(configuration) if is_latest else []

    def _begin_term(self, configuration: Configuration) -> list[m.Effect]:
        self.configuration = configuration
        self.status = PartitionStatus.PRIMARY
        tail = [replace(entry, ballot=configuration.ballot) for entry in self.prepared.uncommitted()]
        self.prepared.truncate(self.committed)
        for entry in tail:
            self.prepared.append(entry)
        self._term = configuration.ballot
        self._primary = Primary(
            term=configuration.ballot,
            tail=self.prepared.last,
            secondaries={node: Follower(next=self.committed + 1) for node in configuration.secondaries},
        )
        return self._log(self.committed, tail) + self._tell_all() + self._settle()

    # -- the primary -----------------------------------------------------------------------------

    def _write(self, token: int, data: bytes) -> list[m.Effect]:
        error = self.writing_error()
        if error is not None or self._primary is None:
            return [m.Reject(token, error or ErrorCode.ERR_INVALID_STATE)]
        entry = Entry(self.prepared.last + 1, self.ballot, data)
        self.prepared.append(entry)
        self._primary.tokens[entry.decree] = token
        return self._log(entry.decree - 1, (entry,)) + self._settle()

    def _settle(self) -> list[m.Effect]:
        """What a primary can do now: commit, send, propose."""
        primary = self._primary
        if primary is None:
            return []
        effects = self._commit(primary.committable(self.logged))
        for followers in (primary.secondaries, primary.learners):
            for node, follower in followers.items():
                if follower.has_learned and follower.next <= self.prepared.last:
                    effects += self._send_entries(node, follower)
        return effects + self._propose_change()

    def _commit(self, decree: int) -> list[m.Effect]:
        tokens = self._primary.tokens if self._primary is not None else {}
        return [m.Commit(entry, tokens.pop(entry.decree, None)) for entry in self.prepared.commit(decree)]

    def _send_entries(self, node: HostPort, follower: Follower) -> list[m.Effect]:
        if follower.next < self.prepared.first:  # it lacks what is not held any more
            return self._lost(node)
        effects: list[m.Effect] = []
        while follower.next <= self.prepared.last:
            batch: list[Entry] = []
            size = 0
            for entry in self.prepared.between(follower.next, self.prepared.last):
                if batch and size + entry.size > self._limits.batch_bytes:
                    break
                batch.append(entry)
                size += entry.size
            follower.next = batch[-1].decree + 1
            effects.append(self._prepare_for(node, follower, tuple(batch)))
        if follower.waiting_since is None:
            follower.waiting_since = self.now
        follower.sent_at = self.now
        return effects

    def _prepare_for(self, node: HostPort, follower: Follower, entries: tuple[Entry, ...]) -> m.Effect:
        return m.Send(node, m.Prepare(self.configuration, self._term, self.committed, entries, follower.signature))

    def _lost(self, node: HostPort) -> list[m.Effect]:
        """A follower cannot be brought up from what is held: a learner learns again, a secondary is taken out."""
        primary = self._primary
        if primary is None:
            return []
        if node in primary.learners:
            return self._start_learning(node, primary)
        primary.unwanted.add(node)
        return []

    def _answered(self, sender: HostPort, answer: m.Prepared) -> list[m.Effect]:
        primary, resend_s = self._primary, self._timing.resend_s
        follower = None if primary is None else primary.follower(sender)
        if primary is None or follower is None:
            return []
        if answer.ballot > self.ballot:
            return []  # somebody else is the primary; the metaserver will say so
        if answer.ballot < primary.term or answer.signature != follower.signature:
            return []
        if not answer.is_follower:
            return self._lost(sender) + self._propose_change()
        if answer.decree > follower.acknowledged:
            follower.acknowledged = min(answer.decree, self.prepared.last)
            follower.waiting_since = self.now
        if answer.has_gap and not (follower.gap == answer.expected and self.now - follower.sent_at < resend_s):
            follower.gap = answer.expected
            follower.next = min(follower.next, answer.expected)
        if follower.acknowledged >= self.prepared.last:
            follower.waiting_since = None
        return self._settle()

    def _propose_change(self) -> list[m.Effect]:
        primary = self._primary
        if primary is None or primary.is_asking:
            return []
        if primary.proposed is None:
            primary.proposed = primary.change(self.configuration, self.committed)
        if primary.proposed is None:
            return []
        primary.is_asking = True
        return [m.Propose(primary.proposed, is_restart=False)]

    def _tell_all(self) -> list[m.Effect]:
        primary = self._primary
        if primary is None:
            return []
        primary.checked_at = self.now
        followers = [*primary.secondaries.items(), *primary.learners.items()]
        return [
            m.Send(node, m.GroupCheck(self.configuration, self._term, self.committed, follower.signature))
            for node, follower in followers
        ]

    def _tick(self) -> list[m.Effect]:
        primary = self._primary
        if primary is None:
            return []
        effects: list[m.Effect] = []
        if self.now - primary.checked_at >= self._timing.group_check_s:
            effects += self._tell_all()
        for node, follower in primary.secondaries.items():
            waited = 0.0 if follower.waiting_since is None else self.now - follower.waiting_since
            if waited >= self._timing.prepare_timeout_s:
                primary.unwanted.add(node)
            elif waited and self.now - follower.sent_at >= self._timing.resend_s:
                follower.next = max(follower.acknowledged + 1, self.committed + 1)
        for node, learner in list(primary.learners.items()):
            effects += self._tick_learner(node, learner, primary)
        return effects + self._settle()

    def _tick_learner(self, node: HostPort, learner: Follower, primary: Primary) -> list[m.Effect]:
        is_joining = primary.proposed is not None and node in primary.proposed.secondaries
        if self.now - learner.began_at >= self._timing.learn_timeout_s and not is_joining:
            del primary.learners[node]
            return []
        if self.now - learner.sent_at < self._timing.resend_s:
            return []
        learner.sent_at = self.now
        if not learner.has_learned:
            return [m.Send(node, m.GroupCheck(self.configuration, self._term, self.committed, learner.signature))]
        learner.next = learner.acknowledged + 1
        return []

    # -- learning, at the primary ----------------------------------------------------------------

    def _add_learner(self, node: HostPort) -> list[m.Effect]:
        primary = self._primary
        if primary is None or node == self.node or primary.follower(node):
            return []
        primary.learners[node] = Follower(next=self.prepared.last + 1, began_at=self.now)
        return self._start_learning(node, primary)

    def _start_learning(self, node: HostPort, primary: Primary) -> list[m.Effect]:
        if primary.proposed is not None and node in primary.proposed.secondaries:
            return []  # it may be a secondary already
        primary.signatures += 1
        learner = primary.learners[node]
        learner.signature = self.ballot * 2**20 + primary.signatures
        learner.has_learned, learner.acknowledged, learner.waiting_since = False, 0, None
        learner.sent_at = self.now
        return [m.Send(node, m.GroupCheck(self.configuration, self._term, self.committed, learner.signature))]

    def _learner(self, node: HostPort, signature: int) -> Follower | None:
        learner = None if self._primary is None else self._primary.learners.get(node)
        return learner if learner is not None and learner.signature == signature else None

    def _learn_request(self, sender: HostPort, request: m.LearnRequest) -> list[m.Effect]:
        learner = self._learner(sender, request.signature)
        if learner is None or learner.has_learned:
            return []
        if request.committed + 1 >= self.prepared.first and request.committed <= self.committed:
            entries = tuple(self.prepared.between(request.committed + 1, self.committed))
            reply = m.LearnReply(self.ballot, request.signature, m.LearnKind.CACHE, None, entries)
            return [m.Send(sender, reply)]
        return [m.ReadState(sender, self.ballot, request.signature, request.committed)]

    def _state_read(self, node: HostPort, reply: m.LearnReply | None) -> list[m.Effect]:
        if reply is None or self._learner(node, reply.signature) is None:
            return []
        return [m.Send(node, reply)]

    def _learn_done(self, sender: HostPort, done: m.LearnDone) -> list[m.Effect]:
        learner = self._learner(sender, done.signature)
        if learner is None or learner.has_learned:
            return []
        learner.has_learned = True
        learner.acknowledged, learner.next = min(done.decree, self.prepared.last), done.decree + 1
        return self._settle()

    # -- followers -------------------------------------------------------------------------------

    def _follow(self, configuration: Configuration, term: int, signature: int) -> list[m.Effect] | None:
        """Follow a primary; None when it is none to follow.

        A replica that restarted may go on as a secondary: its disk has everything that it has acknowledged.
        """
        if configuration.ballot < max(self.ballot, self._seen_ballot) or configuration.primary == self.node:
            return None
        if self._primary is not None and configuration.ballot == self.ballot:
            return None
        if signature:
            if self.status is not PartitionStatus.POTENTIAL_SECONDARY or signature != self._signature:
                return None
        elif self.node not in configuration.secondaries or (
            self.status is PartitionStatus.POTENTIAL_SECONDARY and not self._has_learned
        ):
            return None
        role = PartitionStatus.POTENTIAL_SECONDARY if signature else PartitionStatus.SECONDARY
        is_news = configuration.ballot > self.ballot
        effects: list[m.Effect] = []
        if self.status is not role:
            effects += self._step_down()
            self.status = role
        self.configuration = configuration
        if term != self._term:
            self._term, self._matched = term, self.committed
        return effects + (self._log(self.prepared.last, ()) if is_news else [])

    def _prepare(self, sender: HostPort, prepare: m.Prepare) -> list[m.Effect]:
        effects = self._follow(prepare.configuration, prepare.term, prepare.signature)
        if effects is None:
            if prepare.configuration.ballot < self.ballot or self._primary is not None:
                return []
            answer = m.Prepared(prepare.configuration.ballot, 0, 0, False, False, prepare.signature)
            return [m.Send(sender, answer)]
        if self.status is PartitionStatus.POTENTIAL_SECONDARY and not self._has_learned:
            return effects
        fresh: list[Entry] = []
        has_gap = False
        for entry in prepare.entries:
            if entry.decree > self._matched + 1:
                has_gap = True
                break
            known = self.prepared.get(entry.decree)
            if entry.decree > self.committed and (known is None or known.ballot != entry.ballot):
                self.prepared.truncate(entry.decree - 1)  # what another primary prepared and this one does not know
                self.prepared.append(entry)
                fresh.append(entry)
            self._matched = max(self._matched, entry.decree)
        if fresh:
            effects += self._log(fresh[0].decree - 1, fresh)
        else:
            effects.append(self._acknowledge(has_gap=has_gap))
        self._told = max(self._told, prepare.committed)
        return effects + self._commit_told()

    def _acknowledge(self, *, has_gap: bool = False) -> m.Effect:
        """Tell the primary what of its entries is on the disk here, and which decree is expected next."""
        primary = self.configuration.primary
        assert primary is not None
        decree = min(self.logged, self._matched)
        signature = self._signature if self.status is PartitionStatus.POTENTIAL_SECONDARY else 0
        answer = m.Prepared(self.ballot, decree, self._matched + 1, True, has_gap, signature)
        return m.Send(primary, answer)

    def _commit_told(self) -> list[m.Effect]:
        """Commit what the primary has committed, as far as it is here, from this primary and on the disk."""
        return self._commit(min(self._told, self._matched, self.logged))

    def _group_check(self, sender: HostPort, check: m.GroupCheck) -> list[m.Effect]:
        if check.signature:
            return self._begin_learning(sender, check)
        effects = self._follow(check.configuration, check.term, 0)
        if effects is None:
            return []
        self._told = max(self._told, check.committed)
        return effects + self._commit_told()

    # -- learning, at the learner ----------------------------------------------------------------

    def _begin_learning(self, sender: HostPort, check: m.GroupCheck) -> list[m.Effect]:
        configuration = check.configuration
        if configuration.ballot < self.ballot or self.node in (configuration.primary, *configuration.secondaries):
            return []
        if self._primary is not None and configuration.ballot == self.ballot:
            return []
        effects: list[m.Effect] = []
        if self.status is PartitionStatus.POTENTIAL_SECONDARY and check.signature == self._signature:
            if configuration.ballot > self.ballot:
                self.configuration = configuration
                effects += self._log(self.prepared.last, ())
            if self._has_learned:
                return [
                    *effects,
                    m.Send(sender, m.LearnDone(self.ballot, self._signature, min(self.logged, self._matched))),
                ]
            if self._learned_to is not None:
                return effects  # what was asked for is here, and on its way to the disk
        elif check.signature <= self._signature:
            return []
        else:
            effects += self._step_down()
            self.status, self.configuration = PartitionStatus.POTENTIAL_SECONDARY, configuration
            self._signature, self._has_learned, self._learned_to = check.signature, False, None
            self._term, self._matched = check.term, self.committed
            self.prepared.truncate(self.committed)  # whatever else is here was never committed, or will be learned
            effects += self._log(self.committed, ())
        return [*effects, m.Send(sender, m.LearnRequest(self.ballot, self._signature, self.committed))]

    def _learn_reply(self, reply: m.LearnReply) -> list[m.Effect]:
        is_expected = self.status is PartitionStatus.POTENTIAL_SECONDARY and reply.signature == self._signature
        if not is_expected or self._learned_to is not None:
            return []
        start = self.committed if reply.checkpoint is None else max(reply.checkpoint, self.committed)
        if reply.entries and reply.entries[0].decree > start + 1:
            return []  # it does not go on from what is here
        self._learned_to = max(start, reply.entries[-1].decree if reply.entries else 0)
        self._learned = reply.entries
        if reply.checkpoint is not None and reply.checkpoint > self.committed:
            return [m.Install(self._signature, reply.checkpoint)]
        return self._take_learned()

    def _installed(self, signature: int, decree: int) -> list[m.Effect]:
        """The rows are those of a checkpoint now, whatever became of the learning meanwhile."""
        if decree > self.committed:
            self.prepared.restart(decree)
            self.logged = decree
            for number in self._unlogged:
                self._unlogged[number] = (decree, decree)
        is_expected = self.status is PartitionStatus.POTENTIAL_SECONDARY and signature == self._signature
        effects = self._log(self.prepared.last, ())
        return effects + (self._take_learned() if is_expected else [])

    def _take_learned(self) -> list[m.Effect]:
        """Log what was learned; it is committed, so it is applied when the disk has it."""
        fresh = [replace(entry, ballot=self.ballot) for entry in self._learned if entry.decree > self.committed]
        self._learned = ()
        for entry in fresh:
            self.prepared.append(entry)
        return self._log(self.committed, fresh)

    def _end_learning(self, decree: int) -> list[m.Effect]:
        """Everything that was learned is on the disk: apply it, and tell the primary."""
        self._has_learned = True
        self._matched = decree
        primary = self.configuration.primary
        assert primary is not None
        effects = self._commit(decree)
        return [*effects, m.Send(primary, m.LearnDone(self.ballot, self._signature, decree))]

"""Replica servers and a metaserver of one partition, made of the real cores, in a `World`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from metaserver.cluster.configurations import Proposed, decide, lost_secondaries, remove_dead
from metaserver.cluster.metadata import Metadata, Partition, Rejected, Table
from metaserver.cluster.nodes import Nodes
from metaserver.cluster.placement import Action, repair
from replicaserver.replication import messages as m
from replicaserver.replication.member import Limits, Member, Stored
from replicaserver.replication.prepare_list import Entry
from replicaserver.replication.primary import Timing
from replicaserver.replication.replica import Configuration
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType
from shared.pegasus.wire.structures.metadata import ReplicaInfo
from tests.simulation.audit import Audit, Data, Operation, decoded
from tests.simulation.world import Disk, Network, World

GPID = Gpid(1, 0)
BEACON_S, LEASE_S, GRACE_S = 1.0, 4.0, 5.0
Rows = dict[str, str | None]


@dataclass(frozen=True)
class Checkpoint:
    """A record of a disk: the rows after a decree."""

    decree: int
    rows: Rows
    ballot: int


@dataclass
class Content:
    """What a disk's records amount to."""

    ballot: int = 0
    committed: int = 0
    base: int = 0
    rows: Rows = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)

    def take(self, record: Any) -> None:
        """Read one more record."""
        self.ballot = max(self.ballot, record.ballot)
        if isinstance(record, Checkpoint):
            if record.decree > self.base:
                self.base, self.rows = record.decree, dict(record.rows)
                self.committed = max(self.committed, record.decree)
                self.entries = {decree: e for decree, e in self.entries.items() if decree > record.decree}
            return
        while self.entries and (last := next(reversed(self.entries))) > record.last:
            del self.entries[last]
        for entry in record.entries:
            if entry.decree > self.base:
                self.entries[entry.decree] = entry
        self.committed = max(self.committed, record.committed)

    def stored(self) -> tuple[Stored, Rows]:
        """What a process finds that starts on it."""
        rows = dict(self.rows)
        decree = self.base
        while decree + 1 in self.entries and decree < self.committed:
            decree += 1
            write(rows, self.entries[decree])
        tail = []
        last = decree
        while last + 1 in self.entries:
            last += 1
            tail.append(self.entries[last])
        return Stored(self.ballot, decree, tail), rows


def write(rows: Rows, entry: Entry) -> None:
    """Apply an entry."""
    found = decoded(entry.data)
    if found.changes:
        rows[found.key] = found.value


class ReplicaNode:
    """One replica server."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.world, self.name = cluster, cluster.world, name
        self.node = HostPort(name, 1)
        self.disk = Disk(cluster.world)
        self.content = Content()
        self.incarnation = 0
        self.is_up = False
        self.is_paused = False
        self._backlog: list[Callable[[], None]] = []

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process."""
        self.incarnation += 1
        self.is_up = True
        self.content = Content()
        for record in self.disk.records:
            self.content.take(record)
        stored, self.rows = self.content.stored()
        self.lease_until = 0.0
        self.incoming: dict[int, Rows] = {}
        self.waiting: dict[int, tuple[Operation, str]] = {}
        self.member = Member(self.node, stored, LIMITS, TIMING, may_serve=lambda: self.world.now < self.lease_until)
        found = f"ballot {stored.ballot}, {stored.committed} committed, {len(stored.tail)} more prepared"
        self.world.say(f"{self.name} starts with {found}")
        work = {self._tick: 0.25, self._beacon: BEACON_S, self._report: 2.0, self._checkpoint: 7.0}
        for what, interval in work.items():
            self._every(interval, what, self.incarnation)

    def crash(self) -> None:
        """Kill the process."""
        self.world.say(f"{self.name} crashes")
        self.is_up = self.is_paused = False
        self.incarnation += 1
        self._backlog = []
        self.disk.crash()

    def pause(self) -> None:
        """Stop the process without ending it."""
        self.world.say(f"{self.name} is paused")
        self.is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        self.is_paused = False
        self.world.say(f"{self.name} goes on")
        backlog, self._backlog = self._backlog, []
        for action in backlog:
            action()

    def _every(self, interval: float, work: Callable[[], None], incarnation: int) -> None:
        def again() -> None:
            if self.incarnation != incarnation:
                return
            self._do(work, incarnation)
            self.world.after(interval * self.world.chance.uniform(0.9, 1.1), again)

        self.world.after(self.world.chance.uniform(0, interval), again)

    def _do(self, work: Callable[[], None], incarnation: int) -> None:
        if self.incarnation != incarnation:
            return
        if self.is_paused:
            if len(self._backlog) < 1000:
                self._backlog.append(lambda: self._do(work, incarnation))
            return
        work()

    def deliver(self, message: Any) -> None:
        """A message from anybody."""
        if self.is_up:
            self._do(lambda: self._receive(message), self.incarnation)

    # -- messages --------------------------------------------------------------------------------

    def _receive(self, message: Any) -> None:
        match message:
            case m.FromPeer():
                self.feed(message)
            case ("state", sender, reply, rows):
                self.incoming[reply.signature] = rows
                self.feed(m.FromPeer(sender, reply))
            case ("beacon ack", sent_at, allowed):
                if allowed:
                    self.lease_until = max(self.lease_until, sent_at + LEASE_S)
            case ("input", given):
                self.feed(given)
            case Operation():
                self._serve(message)

    def _tick(self) -> None:
        self.feed(m.Tick(self.world.now))

    def _beacon(self) -> None:
        self.cluster.to_meta(self, ("beacon", self.node, self.incarnation, self.world.now))

    def _report(self) -> None:
        info = ReplicaInfo(
            pid=GPID,
            ballot=self.member.ballot,
            last_committed_decree=self.member.committed,
            last_prepared_decree=self.member.prepared.last,
        )
        has_replica = self.member.ballot > 0
        self.cluster.to_meta(self, ("report", self.node, [info] if has_replica else []))

    def _checkpoint(self) -> None:
        if self.disk.pending or self.member.committed == self.content.base or self.world.chance.random() < 0.5:
            return
        record = Checkpoint(self.member.committed, dict(self.rows), self.member.ballot)
        incarnation = self.incarnation

        def done() -> None:
            if self.incarnation == incarnation:
                self.content.take(record)
                kept = tuple(self.content.entries[d] for d in sorted(self.content.entries))
                rest = m.Log(0, self.content.ballot, self.content.committed, record.decree, kept)
                self.disk.records = [record, rest]

        self.disk.append(record, done)

    # -- operations of clients -------------------------------------------------------------------

    def _serve(self, operation: Operation) -> None:
        error = self.member.reading_error() if operation.kind == "read" else self.member.writing_error()
        if error is not None:
            self.cluster.answer(self, operation, ("error", error))
            return
        if operation.kind == "read":
            value = self.rows.get(operation.key)
            incarnation = self.incarnation

            def later() -> None:
                error = self.member.reading_error()
                self.cluster.answer(self, operation, ("error", error) if error else ("ok", value))

            self.world.after(self.world.chance.uniform(0, 0.002), lambda: self._do(later, incarnation))
            return
        rows = dict(self.rows)
        for entry in self.member.prepared.uncommitted():
            write(rows, entry)
        changes, value, result = operation.effect(rows.get(operation.key))
        self.waiting[operation.id] = (operation, result)
        self.feed(m.ClientWrite(operation.id, Data(operation.id, operation.key, changes, value).encoded()))

    # -- the member ------------------------------------------------------------------------------

    def feed(self, given: m.Input) -> None:
        """Give the core an input, and do what it wants."""
        for effect in self.member.step(given):
            self._carry_out(effect)

    def _carry_out(self, effect: m.Effect) -> None:
        incarnation = self.incarnation
        match effect:
            case m.Send(to, message):
                self.cluster.between(self, to, m.FromPeer(self.node, message))
            case m.Log():

                def logged() -> None:
                    if self.incarnation == incarnation:
                        self.content.take(effect)
                        self._do(lambda: self.feed(m.Logged(effect.sequence)), incarnation)

                self.disk.append(effect, logged)
            case m.Commit(entry, token):
                self.cluster.audit.committed(self, entry)
                write(self.rows, entry)
                if token is not None and token in self.waiting:
                    operation, result = self.waiting.pop(token)
                    self.cluster.answer(self, operation, ("ok", result))
            case m.Reject(token, error):
                operation, _ = self.waiting.pop(token)
                self.cluster.answer(self, operation, ("error", error))
            case m.GiveUp(token):
                self.waiting.pop(token, None)
            case m.Propose(configuration):
                self.cluster.to_meta(self, ("propose", self.node, configuration))
                self.world.after(2.0, lambda: self._do(lambda: self.feed(m.Unanswered()), incarnation))
            case m.ReadState():
                self.world.after(0.05, lambda: self._do(lambda: self._read_state(effect), incarnation))
            case m.Install(signature, decree):
                rows = self.incoming.pop(signature)
                record = Checkpoint(decree, rows, self.member.ballot)

                def installed() -> None:
                    if self.incarnation == incarnation:
                        self.content.take(record)
                        if decree > self.member.committed:
                            self.rows = dict(rows)
                        self._do(lambda: self.feed(m.Installed(signature, decree)), incarnation)

                self.disk.append(record, installed)

    def _read_state(self, asked: m.ReadState) -> None:
        committed = self.member.committed
        wanted = range(asked.after + 1, committed + 1)
        if all(decree in self.content.entries for decree in wanted):
            entries = tuple(self.content.entries[decree] for decree in wanted)
            reply = m.LearnReply(asked.ballot, asked.signature, m.LearnKind.LOG, None, entries)
            self.feed(m.StateRead(asked.learner, reply))
            return
        reply = m.LearnReply(asked.ballot, asked.signature, m.LearnKind.CHECKPOINT, committed, ())
        self.cluster.between(self, asked.learner, ("state", self.node, reply, dict(self.rows)))


LIMITS = Limits(window=20, cached_count=8, batch_bytes=2000)
TIMING = Timing(prepare_timeout_s=1.0, resend_s=0.2, group_check_s=2.0, learn_timeout_s=10.0)


class MetaNode:
    """The metaserver: its cores, its memory, and what it has made durable."""

    def __init__(self, cluster: Cluster, replicas: int) -> None:
        self.cluster, self.world = cluster, cluster.world
        self.metadata = Metadata()
        self.metadata.tables[1] = Table(1, "t", AppStatus.CREATING, replicas, (Partition(),))
        self.history: list[Partition] = []
        self.start()

    def start(self) -> None:
        """Start, knowing what is durable."""
        self.nodes = Nodes()
        self.nodes.expect(self.partition.members(), self.world.now)
        self.pending_until = 0.0
        self.dropped_at = self.world.now
        self.started_at = self.world.now

    @property
    def partition(self) -> Partition:
        """The configuration in force."""
        return self.metadata.tables[1].partitions[0]

    def configuration(self) -> Configuration:
        """The same, as replica servers see it."""
        partition = self.partition
        return Configuration(
            partition.ballot,
            partition.primary or None,
            partition.secondaries,
            3,
            partition.last_committed_decree,
        )

    def deliver(self, message: Any) -> None:
        """A message of a replica server."""
        match message:
            case ("beacon", node, start_time, sent_at):
                self.nodes.beacon(node, node, start_time, self.world.now)
                self.cluster.from_meta(node, ("beacon ack", sent_at, True))
            case ("report", node, stored):
                self.nodes.report(node, stored)
                self.cluster.from_meta(node, ("input", m.Observed(self.configuration())))
            case ("propose", node, configuration):
                self._propose(node, configuration)

    def _propose(self, node: HostPort, asked: Configuration) -> None:
        current = self.configuration()
        if asked.ballot == current.ballot and _members(asked) == _members(current):
            self.cluster.from_meta(node, ("input", m.Granted(current)))
            return
        kind, about = _change(node, self.partition, asked)
        try:
            change = decide(self.metadata, Proposed(GPID, kind, about, asked.ballot, asked.last_committed_decree))
        except Rejected:
            self.cluster.from_meta(node, ("input", m.Observed(current)))
            return
        self._apply(change)
        self.cluster.from_meta(node, ("input", m.Granted(self.configuration())))

    def _apply(self, change: Any) -> None:
        for table_id, table in change.tables.items():
            self.metadata.tables[table_id] = replace(table, partitions=self.metadata.tables[table_id].partitions)
        for partition in change.partitions.values():
            if partition.last_drops != self.partition.last_drops:
                self.dropped_at = self.world.now
            self.metadata.tables[1] = replace(self.metadata.tables[1], partitions=(partition,))
            self.history.append(partition)
            self.pending_until = 0.0
            self.world.say("the metaserver decides:", shown(partition))
            self.cluster.audit.decided(partition)

    def work(self) -> None:
        """Find the dead, and repair."""
        dead = self.nodes.expire(self.world.now, GRACE_S)
        everybody_dead = [name for name in self.partition.members() if not self.nodes.is_alive(name)]
        self._apply(remove_dead(self.metadata, [*dead, *everybody_dead]))
        for _, node in lost_secondaries(self.metadata, everybody_dead):
            self.cluster.from_meta(self.partition.primary, ("input", m.RemoveMember(node)))
        if self.world.now - self.started_at < GRACE_S:
            return
        pending = [GPID] if self.world.now < self.pending_until else []
        actions, _ = repair(
            self.metadata,
            self.nodes,
            pending,
            adds_secondaries=True,
            may_add=lambda *_: self.world.now - self.dropped_at > 6.0,
        )
        for action in actions:
            self._ask(action)

    def _ask(self, action: Action) -> None:
        self.pending_until = self.world.now + 3.0
        match action.type:
            case ConfigType.ASSIGN_PRIMARY | ConfigType.UPGRADE_TO_PRIMARY:
                given: m.Input = m.Assigned(self.configuration())
            case ConfigType.ADD_SECONDARY:
                given = m.AddLearner(action.node)
            case _:
                given = m.RemoveMember(action.node)
        self.cluster.from_meta(action.target, ("input", given))


def shown(partition: Partition) -> str:
    """A configuration in words."""
    names = " ".join(node.host for node in partition.secondaries)
    return f"ballot {partition.ballot}, primary {partition.primary.host or 'none'}, secondaries {names or 'none'}"


def _members(configuration: Configuration) -> tuple[Any, ...]:
    return (configuration.primary, frozenset(configuration.secondaries))


def _change(node: HostPort, stored: Partition, asked: Configuration) -> tuple[ConfigType, HostPort]:
    """What a configuration that a replica server proposes changes."""
    if stored.primary != node:
        return (ConfigType.UPGRADE_TO_PRIMARY if node in stored.secondaries else ConfigType.ASSIGN_PRIMARY), node
    added = [other for other in asked.secondaries if other not in stored.secondaries]
    removed = [other for other in stored.secondaries if other not in asked.secondaries]
    if added:
        return ConfigType.UPGRADE_TO_SECONDARY, added[0]
    if removed:
        return ConfigType.DOWNGRADE_TO_INACTIVE, removed[0]
    return ConfigType.PRIMARY_FORCE_UPDATE_BALLOT, node


class Cluster:
    """A metaserver, replica servers and clients."""

    def __init__(self, world: World, servers: int, replicas: int = 3) -> None:
        self.world = world
        self.network = Network(world)
        self.audit = Audit(self)
        self.servers = {f"r{number}": ReplicaNode(self, f"r{number}") for number in range(1, servers + 1)}
        self.meta = MetaNode(self, replicas)
        for server in self.servers.values():
            server.start()
        self._work()

    def _work(self) -> None:
        self.meta.work()
        self.world.after(0.5, self._work)

    def to_meta(self, sender: ReplicaNode, message: Any) -> None:
        """Send to the metaserver."""
        self.network.send(sender.name, "meta", self.meta.deliver, message)

    def from_meta(self, node: HostPort, message: Any) -> None:
        """Send from the metaserver."""
        self.network.send("meta", node.host, self.servers[node.host].deliver, message)

    def between(self, sender: ReplicaNode, to: HostPort, message: Any) -> None:
        """Send from one replica server to another."""
        self.network.send(sender.name, to.host, self.servers[to.host].deliver, message)

    def answer(self, server: ReplicaNode, operation: Operation, answer: tuple[str, Any]) -> None:
        """Send an answer to a client."""
        self.network.send(server.name, "client", lambda found: self.audit.answered(operation, found), answer)

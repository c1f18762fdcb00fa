"""One run of a simulated cluster: clients with mixed operations, faults of every kind, and a judgement at the end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tests.simulation.audit import Operation
from tests.simulation.cluster import Cluster, ReplicaNode
from tests.simulation.world import World

CLIENTS, KEYS = 4, ("a", "b", "c")
TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        acknowledged: Operations that were answered with success.
        committed: Decrees.
        simulated_s: How much time passed in the simulation.
        trace: Lines, when asked for.
    """

    acknowledged: int
    committed: int
    simulated_s: float
    steps: int
    fingerprint: str
    trace: list[str]


def simulate(seed: int, *, seconds: float = 60.0, is_traced: bool = False) -> Result:
    """Run a cluster under faults, heal it, and judge.

    Raises:
        HistoryError: Something happened that must not, or the healed cluster does not take a write.
    """
    world = World(seed, is_traced=is_traced)
    cluster = Cluster(world, servers=world.chance.choice([3, 4, 5]))
    clients = [Client(cluster, number) for number in range(CLIENTS)]
    world.run(12.0)
    faults = Faults(cluster)
    for client in clients:
        client.start()
    try:
        world.run(12.0 + seconds)
        faults.stop()
        world.run(world.now + 60.0)
        for client in clients:
            client.stop()
        world.run(world.now + TIMEOUT_S + 1)
        cluster.audit.check()
        healed(cluster)
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        for line in world.trace[-400:]:
            error.add_note(line)
        raise
    acknowledged = sum(op.answer is not None and op.answer[0] == "ok" for op in cluster.audit.operations.values())
    text = repr([(op.id, op.answer, op.ended_at) for op in cluster.audit.operations.values()]) + repr(world.steps)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Result(acknowledged, len(cluster.audit.order), world.now, world.steps, digest, world.trace)


def healed(cluster: Cluster) -> None:
    """A cluster without faults has a primary and all its members, and they hold the same rows."""
    partition = cluster.meta.partition
    assert len(partition.members()) == 3, f"after everything has healed the configuration is {partition}"
    servers = [cluster.servers[node.host] for node in partition.members()]
    assert servers[0].member.writing_error() is None, f"{servers[0].member.writing_error()} at the primary"
    last = servers[0].member.committed
    assert cluster.audit.last == last, "the primary lacks what was committed"
    for server in servers[1:]:
        assert server.member.prepared.last == last, f"{server.name} has {server.member.prepared.last} of {last}"


class Client:
    """Asks for one thing after the other; what is not answered in time stays unknown."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster, self.number = cluster, number
        self.world = cluster.world
        self.is_running = False

    def start(self) -> None:
        """Begin to ask."""
        self.is_running = True
        self._next()

    def stop(self) -> None:
        """Ask no more."""
        self.is_running = False

    def _next(self) -> None:
        if not self.is_running:
            return
        chance, audit = self.world.chance, self.cluster.audit
        number = len(audit.operations) + 1
        kind = chance.choices(["put", "remove", "incr", "cas", "read"], [4, 1, 2, 2, 4])[0]
        key = chance.choice(KEYS)
        expected = None
        if kind == "cas":
            puts = [op.value for op in audit.recent if op.key == key and op.kind == "put"]
            expected = chance.choice([*puts, None])
        operation = Operation(number, self.number, kind, key, f"v{number}", expected)
        audit.started(operation)
        primary = self.cluster.meta.partition.primary
        server = self.cluster.servers.get(primary.host) if chance.random() < 0.9 else None
        server = server or chance.choice(list(self.cluster.servers.values()))
        self.cluster.network.send("client", server.name, server.deliver, operation, is_request=True)
        self._wait(operation, self.world.now + TIMEOUT_S)

    def _wait(self, operation: Operation, deadline: float) -> None:
        if operation.answer is not None or self.world.now >= deadline:
            if operation.answer is None:
                operation.ended_at = self.world.now
            is_served = operation.answer is not None and operation.answer[0] == "ok"
            self.world.after(self.world.chance.expovariate(4.0 if is_served else 40.0), self._next)
        else:
            self.world.after(0.1, lambda: self._wait(operation, deadline))


class Faults:
    """Makes everything go wrong that may, until it is stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.world = cluster, cluster.world
        chance = self.world.chance
        cluster.network.loss = chance.choice([0.0, 0.0, 0.01, 0.05])
        cluster.network.twice = chance.choice([0.0, 0.02])
        self.rate = chance.uniform(0.1, 0.6)
        self.is_running = True
        self._later()

    def _later(self) -> None:
        self.world.after(self.world.chance.expovariate(self.rate), self._strike)

    def _strike(self) -> None:
        if not self.is_running:
            return
        chance = self.world.chance
        server = chance.choice(list(self.cluster.servers.values()))
        duration = chance.choice([0.3, 2.0, 6.0, 12.0])
        primary = self.cluster.servers.get(self.cluster.meta.partition.primary.host)
        match chance.choice(["crash", "pause", "cut", "one-way", "slow", "slow crash", "half a write", "meta"]):
            case "slow crash" if server.is_up:
                server.disk.is_slow = True
                self.world.after(chance.uniform(0.1, 0.6), lambda: self._crash(server, duration))
            case "half a write" if primary is not None and primary.is_up and self.cluster.meta.partition.secondaries:
                other = chance.choice(self.cluster.meta.partition.secondaries)
                self._cut([(primary.name, other.host)], chance.uniform(0.3, 1.5))
                self.world.after(chance.uniform(0.1, 0.6), lambda: self._crash(primary, duration))
            case "crash":
                self._crash(server, duration)
            case "pause" if server.is_up and not server.is_paused:
                server.pause()
                incarnation = server.incarnation
                self.world.after(duration, lambda: server.resume() if server.incarnation == incarnation else None)
            case "cut":
                others = [*self.cluster.servers, "meta", "client"]
                chosen = [other for other in others if other != server.name and chance.random() < 0.6]
                pairs = [(server.name, other) for other in chosen] + [(other, server.name) for other in chosen]
                self._cut(pairs, duration)
            case "one-way":
                other = chance.choice([name for name in [*self.cluster.servers, "meta"] if name != server.name])
                self._cut([(server.name, other)], duration)
            case "slow":
                server.disk.is_slow = True
                self.world.after(duration, lambda: setattr(server.disk, "is_slow", False))
            case "meta":
                self.world.say("the metaserver restarts")
                self.cluster.meta.start()
        self._later()

    def _crash(self, server: ReplicaNode, duration: float) -> None:
        server.disk.is_slow = False
        if server.is_up:
            server.crash()
            self.world.after(duration, server.start)

    def _cut(self, pairs: list[tuple[str, str]], duration: float) -> None:
        self.world.say("cut", pairs)
        self.cluster.network.cut |= set(pairs)
        self.world.after(duration, lambda: self.cluster.network.cut.difference_update(pairs))

    def stop(self) -> None:
        """Heal everything."""
        self.is_running = False
        self.world.say("everything heals")
        self.cluster.network.loss = self.cluster.network.twice = 0.0
        self.cluster.network.cut.clear()
        for server in self.cluster.servers.values():
            server.disk.is_slow = False

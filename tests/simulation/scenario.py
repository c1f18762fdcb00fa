"""Scenarios: text files in which commands to a cluster alternate with what was seen, rewritten by ``--rewrite``.

A line that begins with ``> `` is a command. The lines under it are what the client was answered and what the
metaserver and the servers decided until the cluster was quiet again. Everything else is prose.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.simulation.audit import Operation
from tests.simulation.cluster import Cluster, ReplicaNode, shown
from tests.simulation.run import healed
from tests.simulation.world import World

FOLDER = Path(__file__).parent / "scenarios"


class Stage:
    """A cluster that obeys the commands of a scenario."""

    def __init__(self) -> None:
        self.world = World(7, is_traced=True)
        self.cluster: Cluster | None = None
        self._said = 0

    def obey(self, command: str) -> list[str]:
        """Carry out a command.

        Returns:
            What was seen meanwhile.
        """
        name, *words = command.split()
        outcome: str | None = getattr(self, "do_" + name.replace("-", "_"))(*words)
        seen = [line[11:] for line in self.world.trace[self._said :] if " -> " not in line and " -x " not in line]
        self._said = len(self.world.trace)
        return seen + ([outcome] if outcome else [])

    @property
    def _running(self) -> Cluster:
        assert self.cluster is not None, "the first command is 'servers'"
        return self.cluster

    def _server(self, name: str) -> ReplicaNode:
        """A server by its name, or by its role: primary, secondary, other-secondary, outsider."""
        partition = self._running.meta.partition
        outside = [n for n in self._running.servers if n not in [node.host for node in partition.members()]]
        roles = {
            "primary": partition.primary.host,
            **dict(zip(("secondary", "other-secondary"), [node.host for node in partition.secondaries], strict=False)),
            **dict(zip(("outsider", "other-outsider"), outside, strict=False)),
        }
        return self._running.servers[roles.get(name, name)]

    def _settle(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def do_servers(self, number: str) -> str:
        """Start a cluster with a partition of three replicas, and wait until it has them."""
        self.cluster = Cluster(self.world, int(number))
        self._settle(20)
        self.world.trace.clear()
        return self.do_configuration()

    def do_wait(self, seconds: str) -> None:
        """Let time pass."""
        self._settle(float(seconds))

    def _client(self, operation: Operation, server: ReplicaNode, patience_s: float) -> str:
        self._running.audit.started(operation)
        self._running.network.send("client", server.name, server.deliver, operation, is_request=True)
        deadline = self.world.now + patience_s
        while operation.answer is None and self.world.now < deadline:
            self._settle(0.05)
        if operation.answer is None:
            operation.ended_at = self.world.now
            return "no answer"
        kind, result = operation.answer
        return f"{kind}" + (
            "" if result is None and operation.kind != "read" else f" {getattr(result, 'value', result)}"
        )

    def _operation(self, kind: str, key: str, value: str | None = None, expected: str | None = None) -> Operation:
        return Operation(len(self._running.audit.operations) + 1, 0, kind, key, value, expected)

    def do_put(self, key: str, value: str, at: str = "primary") -> str:
        """Put a value."""
        return self._client(self._operation("put", key, value), self._server(at), 3)

    def do_send(self, key: str, value: str, at: str = "primary") -> None:
        """Put a value, and do not wait for the answer."""
        operation = self._operation("put", key, value)
        self._running.audit.started(operation)
        server = self._server(at)
        self._running.network.send("client", server.name, server.deliver, operation, is_request=True)

    def do_burst(self, number: str, at: str = "primary") -> str:
        """Many puts at once, of which the answers are counted."""
        operations = [self._operation("put", "k", f"b{n}") for n in range(int(number))]
        for n, operation in enumerate(operations):
            operation.id += n
            self._running.audit.started(operation)
            server = self._server(at)
            self._running.network.send("client", server.name, server.deliver, operation, is_request=True)
        self._settle(3)
        answers = [operation.answer[0] if operation.answer else "no answer" for operation in operations]
        return ", ".join(f"{answers.count(kind)} {kind}" for kind in ("ok", "error", "no answer") if kind in answers)

    def do_incr(self, key: str, at: str = "primary") -> str:
        """Add one."""
        return self._client(self._operation("incr", key), self._server(at), 3)

    def do_cas(self, key: str, expected: str, value: str) -> str:
        """Put a value if another is there."""
        return self._client(self._operation("cas", key, value, expected), self._server("primary"), 3)

    def do_remove(self, key: str) -> str:
        """Remove a row."""
        return self._client(self._operation("remove", key), self._server("primary"), 3)

    def do_read(self, key: str, at: str = "primary") -> str:
        """Read a row."""
        return self._client(self._operation("read", key), self._server(at), 3)

    def do_crash(self, name: str) -> None:
        """Kill a server."""
        self._server(name).crash()

    def do_start(self, name: str) -> None:
        """Start it again."""
        self._server(name).start()

    def do_pause(self, name: str) -> None:
        """Stop a server without killing it."""
        self._server(name).pause()

    def do_resume(self, name: str) -> None:
        """Let it go on."""
        self._server(name).resume()

    def do_cut(self, one: str, *others: str) -> None:
        """Cut a server off from others, in both directions; without others from everybody."""
        name = self._server(one).name
        names = [other if other in ("meta", "client") else self._server(other).name for other in others]
        for other in names or [n for n in (*self._running.servers, "meta", "client") if n != name]:
            self._running.network.cut |= {(name, other), (other, name)}

    def do_cut_towards(self, one: str, other: str) -> None:
        """Let nothing pass from one to the other; the other direction stays."""
        ends = [name if name in ("meta", "client") else self._server(name).name for name in (one, other)]
        self._running.network.cut.add((ends[0], ends[1]))

    def do_join(self) -> None:
        """Repair the network."""
        self._running.network.cut.clear()
        self._running.network.loss = 0.0

    def do_lose(self, share: str) -> None:
        """Lose this share of all messages between servers."""
        self._running.network.loss = float(share)
        self._running.network.spared = {"client"}

    def do_slow_disk(self, name: str) -> None:
        """Make the disk of a server slow."""
        self._server(name).disk.is_slow = True

    def do_fast_disk(self, name: str) -> None:
        """Make it fast again."""
        self._server(name).disk.is_slow = False

    def do_empty_disk(self, name: str) -> None:
        """Put an empty disk into a server that does not run."""
        self._server(name).disk.records = []

    def do_restart_meta(self) -> None:
        """Start the metaserver again."""
        self._running.meta.start()

    def do_configuration(self) -> str:
        """Show the configuration in force."""
        return shown(self._running.meta.partition)

    def do_decrees(self) -> str:
        """Show what every server has prepared and committed."""
        servers = [server for server in self._running.servers.values() if server.is_up]
        return ", ".join(f"{s.name} {s.member.prepared.last}/{s.member.committed}" for s in servers)

    def do_judge(self) -> str:
        """Judge everything that has happened, and that the cluster is whole."""
        self._running.audit.check()
        healed(self._running)
        return "everything holds"


def play(text: str) -> str:
    """The scenario with what is seen now."""
    stage = Stage()
    lines: list[str] = []
    is_output = False
    for line in text.splitlines():
        if line.startswith("> "):
            lines += [line, *(f"    {seen}" for seen in stage.obey(line[2:]))]
            is_output = True
        elif not (is_output and line.startswith("    ")):
            lines.append(line)
            is_output = False
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write what is seen now into the scenarios that are named, or into all."""
    for path in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.txt")):
        path.write_text(play(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

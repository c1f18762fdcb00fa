"""The engine of the metaserver: connects the pure decisions of `cluster` with the disk, the clock and the network.

A request becomes a change by a function of `cluster`; the change becomes durable, and only then visible and answered.
After every change the placement of partitions is checked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import structlog

from metaserver.cluster import balance, configurations, health, messages, placement, tables
from metaserver.cluster.leadership import Leadership
from metaserver.cluster.metadata import Change, Metadata, Partition, Rejected, Table
from metaserver.cluster.nodes import Nodes
from metaserver.storage import MetadataStore
from metaserver.storage.transactions import Decide, Transactions
from shared.pegasus.settings.flags import Flags
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.layer2 import AppStatus
from shared.pegasus.wire.structures.meta_admin import ConfigType, MetaFunctionLevel, UpdateConfigurationRequest
from shared.tasks import Supervisor

__all__ = ["MetaService"]

log = structlog.get_logger("metaserver")

R = TypeVar("R")
Send = Callable[[HostPort, UpdateConfigurationRequest], Awaitable[None]]

PROPOSAL_TIMEOUT_S = 10.0
PROPOSALS_AT_ONCE = 200
"""The most proposals sent, or partition changes logged one by one, in one iteration of the event loop."""
ASK_AGAIN_S = 600.0
"""How long a server that declined to leave a partition is not asked again."""
TICK_S = 1.0
OPEN_TIMEOUT_S = 4.0
"""How long the answer to a creation waits for the primaries; clients give a metaserver at least five seconds."""


class MetaService:
    """The state of a metaserver and everything that changes it.

    Args:
        store: Where metadata is kept.
        flags: The settings of the process.
        leadership: Who leads.
        send: Delivers a proposal to a replica server; raises `RpcError` when it cannot.
        tasks: Runs the background work; by default a supervisor of its own.
        adds_secondaries: Whether replica servers can make secondaries; also an attribute.
        repair_delay_s: How long to collect changes before the placement is looked at again.
        open_timeout_s: How long a creation is waited for at most.
        clock: Seconds that never jump, for liveness.
        wall_clock: Unix seconds, for times that are kept.

    Attributes:
        level: The function level that was set (§1).
        counts: What has happened to partitions in this process's life.
        moves: What the balancer would do, as it was last looked at.
    """

    def __init__(
        self,
        store: MetadataStore,
        flags: Flags,
        leadership: Leadership,
        send: Send,
        *,
        tasks: Supervisor | None = None,
        adds_secondaries: bool = False,
        repair_delay_s: float = 0.05,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.flags = flags
        self.leadership = leadership
        self.metadata = Metadata()
        self.nodes = Nodes()
        self.level = MetaFunctionLevel[flags.text("meta_function_level_on_start").upper()]
        self.counts = health.Counts()
        self.diagnoses: dict[Gpid, str] = {}
        self.moves: list[balance.Move] = []
        self.wall_clock = wall_clock
        self._clock = clock
        self._store = store
        self._send = send
        self.adds_secondaries = adds_secondaries
        self._repair_delay_s = repair_delay_s
        self._repair_timer: asyncio.TimerHandle | None = None
        self._waiters = TableWaiters(open_timeout_s)
        self._transactions = Transactions(store, lambda: self.metadata, self._apply)
        self._pending: dict[Gpid, float] = {}
        self._asked_to_leave: dict[Gpid, float] = {}
        self._preferred: dict[Gpid, HostPort] = {}
        self._dropped_since: dict[Gpid, float] = {}
        self._tasks = tasks or Supervisor()

    # life

    async def start(self, first_tables: Iterable[tables.NewTable] = ()) -> None:
        """Load the metadata, create the first tables of an empty cluster, and start the watch of replica servers."""
        self.metadata = await self._store.load()
        if self.metadata.last_app_id == 0:
            wanted = list(first_tables)
            await self.change(lambda _empty: (tables.first_tables(wanted, int(self.wall_clock())), None))
        members = {node for table in self.metadata.served() for _, p in table for node in p.members()}
        self.nodes.expect(members, self._clock())
        self._tasks.periodic("watch of replica servers", TICK_S, self._watch)

    async def close(self) -> None:
        """Finish the change under way, then close the store."""
        if self._repair_timer is not None:
            self._repair_timer.cancel()
        await self._tasks.stop()
        await self._transactions.settled()
        await self._store.close()

    # changes

    async def change(self, decide: Decide[R]) -> R:
        """Carry out a decision: durable first, visible after.

        Args:
            decide: Looks at the metadata and returns a change with the answer to give, or raises `Rejected`.

        Raises:
            Rejected: As decided, or ERR_DISK_IO_ERROR when the change cannot be stored; then nothing has changed.
        """
        return await self._transactions.run(decide)

    def _apply(self, change: Change) -> None:
        """Make a durable change visible."""
        before = {gpid: self._configuration(gpid) for gpid in change.partitions}
        required = health.required_members(self.flags.integer("mutation_2pc_min_replica_count"))
        self._log_tables(change)
        self.metadata.apply(change)
        for gpid, after in change.partitions.items():
            self.counts.changed(gpid, before[gpid], after, required)
            self._pending.pop(gpid, None)
            self._dropped_since.pop(gpid, None)
            self._note_move(gpid)
        self._log_changes(change)
        for app_id, table in change.tables.items():
            is_opening = table.status in (AppStatus.CREATING, AppStatus.RECALLING)
            (self._waiters.begin if is_opening else self._waiters.end)(app_id)
        self._repair_soon()

    def _log_changes(self, change: Change) -> None:
        if len(change.partitions) > PROPOSALS_AT_ONCE:
            log.info("partitions changed", partitions=len(change.partitions))
            return
        for gpid in change.partitions:
            log.info("partition changed", partition=str(gpid), configuration=self._shown(gpid))

    def _log_tables(self, change: Change) -> None:
        """Log what a change, which is about to be applied, does to tables."""
        for app_id, table in change.tables.items():
            before = self.metadata.tables.get(app_id)
            shown = log.bind(table=table.name, app_id=app_id)
            if before is None:
                count, replicas = table.partition_count, table.max_replica_count
                shown.info("table created", partitions=count, replicas=replicas)
            elif before.status != table.status:
                shown.info("table changed", status=table.status.name.lower(), before=before.status.name.lower())
            elif before.name != table.name:
                shown.info("table renamed", before=before.name)
        for app_id in sorted(change.forgotten):
            log.info("table forgotten", app_id=app_id)

    def _configuration(self, gpid: Gpid) -> Partition:
        _, partition = self.metadata.partition(gpid) or (None, Partition())
        return partition

    def _note_move(self, gpid: Gpid) -> None:
        """A partition that a server was asked to leave, and that has another primary now, has moved."""
        wanted = self._preferred.get(gpid)
        partition = self._configuration(gpid)
        if wanted is not None and partition.primary:
            self._asked_to_leave.pop(gpid, None)
            del self._preferred[gpid]
            self.counts.moved[gpid] += partition.primary == wanted

    def _shown(self, gpid: Gpid) -> str:
        partition = self._configuration(gpid)
        members = ", ".join(map(str, partition.secondaries))
        return f"ballot {partition.ballot}, primary {partition.primary or 'none'}, secondaries [{members}]"

    async def opened(self, app_id: int) -> Table:
        """Wait a while until a table that is being made or recalled is in service; return it as it is then (§12.3).

        It is not waited for when a replica server that is to hold a part of it cannot be reached.
        """
        table = self.metadata.tables[app_id]
        await self._waiters.wait(app_id)
        return self.metadata.tables.get(app_id, table)

    async def drop_table(self, name: str, hold_s: int, *, success_if_not_exist: bool) -> None:
        """Drop a table, and notify its primaries at once instead of at their next report."""
        before = self.metadata.named(name)
        now_s = int(self.wall_clock())

        def decide(metadata: Metadata) -> tuple[Change, None]:
            return tables.drop(metadata, name, hold_s, now_s, success_if_not_exist=success_if_not_exist), None

        await self.change(decide)
        for gpid, partition in before or ():
            if gpid.partition_index % PROPOSALS_AT_ONCE == PROPOSALS_AT_ONCE - 1:
                await asyncio.sleep(0)
            if partition.primary:
                leave = ConfigType.DOWNGRADE_TO_INACTIVE
                self.notify(placement.Action(gpid, leave, partition.primary, partition.primary))

    # liveness

    def limits(self) -> tables.Limits:
        """What the cluster allows at this moment."""
        return tables.Limits(
            is_frozen=self.current_level() <= MetaFunctionLevel.FREEZED,
            alive_nodes=len(self.nodes.alive()),
            min_replica_count=self.flags.integer("min_allowed_replica_count"),
            max_replica_count=self.flags.integer("max_allowed_replica_count"),
        )

    def current_level(self) -> MetaFunctionLevel:
        """The function level in force: the one that was set, or frozen while too many servers are missing."""
        frozen = self.nodes.is_frozen(
            self.flags.integer("min_live_node_count_for_unfreeze"),
            self.flags.integer("node_live_percentage_threshold_for_update"),
        )
        return min(self.level, MetaFunctionLevel.FREEZED) if frozen else self.level

    def set_level(self, level: MetaFunctionLevel) -> None:
        """Set the function level, until the process ends."""
        log.info("function level set", level=level.name.lower(), before=self.level.name.lower())
        self.level = level
        self.repair()

    def beacon(self, node: HostPort, address: HostPort, start_time: int) -> None:
        """Record a beacon of a replica server."""
        if self.nodes.beacon(node, address, start_time, self._clock()):
            log.info("replica server is up", node=str(node))
            self._repair_soon()

    def report(self, node: HostPort, stored: Iterable[Any]) -> None:
        """Record which replicas a server holds."""
        self.nodes.report(node, stored)
        self._repair_soon()

    async def _watch(self) -> None:
        with contextlib.suppress(Rejected):  # what cannot be stored now is tried again
            await self.tick()

    async def tick(self) -> None:
        """Detect dead servers and expired tables, and repair partitions."""
        dead = self.nodes.expire(self._clock(), self.flags.integer("fd_grace_seconds"))
        for node in dead:
            log.warning("replica server is dead", node=str(node))
        if self.level > MetaFunctionLevel.BLIND:
            silent = {node for node, state in self.nodes.known.items() if not state.is_alive}
            await self.change(lambda metadata: (configurations.remove_dead(metadata, silent), None))
        await self.change(lambda metadata: (tables.expired(metadata, self.wall_clock()), None))
        self.repair()

    # placement

    def _repair_soon(self) -> None:
        """Check the placement once for several changes."""
        if self._repair_delay_s == 0:
            self.repair()
        elif self._repair_timer is None:
            self._repair_timer = asyncio.get_running_loop().call_later(self._repair_delay_s, self._repair_late)

    def _repair_late(self) -> None:
        self._repair_timer = None
        self.repair()

    def repair(self) -> None:
        """Send replica servers the proposals that would repair partitions (§13.4)."""
        if self.current_level() < MetaFunctionLevel.STEADY:
            return
        now = self._clock()
        self._pending = {gpid: since for gpid, since in self._pending.items() if now - since < PROPOSAL_TIMEOUT_S}
        actions, diagnoses = placement.repair(
            self.metadata,
            self.nodes,
            self._pending.keys(),
            adds_secondaries=self.adds_secondaries,
            may_add=self._may_add,
            preferred=self._preferred,
        )
        self.counts.undecided.update(diagnosis.gpid for diagnosis in diagnoses)
        before, self.diagnoses = self.diagnoses, {diagnosis.gpid: diagnosis.reason for diagnosis in diagnoses}
        if before != self.diagnoses:
            for reason, count in Counter(self.diagnoses.values()).items():
                log.warning("partitions have no primary", partitions=count, reason=reason)
        dead = {node for node, state in self.nodes.known.items() if not state.is_alive}
        for gpid, node in configurations.lost_secondaries(self.metadata, dead):
            if gpid not in self._pending:
                primary = self._configuration(gpid).primary
                actions.append(placement.Action(gpid, ConfigType.DOWNGRADE_TO_INACTIVE, primary, node))
        for action in actions[:PROPOSALS_AT_ONCE]:
            self.propose(action)
        if len(actions) > PROPOSALS_AT_ONCE:
            self._repair_soon()
        if not (self._pending or self.diagnoses):
            self._balance()

    def _balance(self) -> None:
        """Spread partitions that were never written over the servers that are alive; count what else should move."""
        self._asked_to_leave = {
            gpid: since for gpid, since in self._asked_to_leave.items() if self._clock() - since < ASK_AGAIN_S
        }
        self.moves = balance.plan(
            self.metadata,
            self.nodes.alive(),
            self._is_empty,
            spreads_cluster=self.flags.boolean("balance_cluster"),
        )
        free = [move for move in self.moves if move.is_free]
        for move in free[: self.flags.integer("balance_op_count_per_round")]:
            self.move(move)

    def move(self, move: balance.Move) -> None:
        """Ask a server to leave a partition that was never written, so that another one gets it; it may decline."""
        self._preferred[move.gpid] = move.taker
        self._asked_to_leave[move.gpid] = self._clock()
        self.propose(placement.Action(move.gpid, ConfigType.REMOVE, move.giver, move.giver))

    def hand_over(self, gpid: Gpid, taker: HostPort) -> bool:
        """Give a partition to another server, as an operator asks.

        Returns:
            False if there are rows in it, or there may be.
        """
        found = self.metadata.partition(gpid)
        if found is None or found[1].members() != (found[1].primary,) or not self._is_empty(gpid, found[1]):
            return False
        if not self.nodes.is_alive(taker) or taker == found[1].primary:
            return False
        self.move(balance.Move(gpid, found[1].primary, taker, True))
        return True

    async def restart_empty(self, gpid: Gpid, taker: HostPort) -> None:
        """Give a partition that none of its last members can serve to a server that lacks its rows.

        Raises:
            Rejected: ERR_INVALID_STATE when it is not lost, ERR_OBJECT_NOT_FOUND when the server is not alive.
        """
        if not self.nodes.is_alive(taker):
            raise Rejected(ErrorCode.ERR_OBJECT_NOT_FOUND, f"replica server {taker} is not alive")
        self._preferred[gpid] = taker
        log.warning("the rows of a partition are given up", partition=str(gpid), taker=str(taker))
        await self.change(lambda metadata: (configurations.give_up(metadata, gpid), None))

    def _is_empty(self, gpid: Gpid, partition: Partition) -> bool:
        """Whether the primary of a partition last said that it has seen no write, and need not be asked."""
        node = self.nodes.known.get(partition.primary)
        info = node.stored.get(gpid) if node is not None and node.stored is not None else None
        if info is None or gpid in self._asked_to_leave or partition.last_committed_decree or partition.last_drops:
            return False
        return info.last_committed_decree == 0 and info.last_prepared_decree == 0

    def propose(self, action: placement.Action) -> None:
        """Send a proposal to a replica server; it is not repeated while the change that follows is pending."""
        self._pending[action.gpid] = self._clock()
        self.notify(action)

    def notify(self, action: placement.Action) -> None:
        """Send a proposal to a replica server; whether it arrives does not matter."""
        self._tasks.once(f"proposal {action.type.name} for {action.gpid}", partial(self._propose, action))

    async def _propose(self, action: placement.Action) -> None:
        if self.metadata.partition(action.gpid) is None:
            return
        request = messages.proposal(self.metadata, self.nodes, action.gpid, action.type, action.node)
        try:
            await self._send(action.target, request)
        except RpcError as error:
            log.info("proposal not delivered", node=str(action.target), reason=str(error))
            self._pending.pop(action.gpid, None)  # the next look at the placement may ask again
            self._waiters.end(action.gpid.app_id)

    def _may_add(self, gpid: Gpid, partition: Partition) -> bool:
        """Whether a partition has waited long enough for a dropped member to come back."""
        found = self.metadata.partition(gpid)
        if found is None or found[0].status != AppStatus.AVAILABLE:
            return False
        since = self._dropped_since.setdefault(gpid, self._clock())
        waited_ms = (self._clock() - since) * 1000
        return not partition.last_drops or waited_ms >= self.flags.integer("replica_assign_delay_ms_for_dropouts")


class TableWaiters:
    """Requests that are answered when their table is in service.

    Clients ask for a table's partitions as soon as its creation is answered, and take ERR_BUSY_CREATING for a
    failure. So the answer waits for the primaries; but not for long, as what was decided is durable already.

    Args:
        longest_s: After how many seconds a request is answered all the same.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._waiting: dict[int, asyncio.Event] = {}

    def begin(self, app_id: int) -> None:
        """A table is being created or recalled."""
        self._waiting.setdefault(app_id, asyncio.Event())

    def end(self, app_id: int) -> None:
        """The table is in service, or it is unknown when it will be: answer the requests."""
        event = self._waiting.pop(app_id, None)
        if event is not None:
            event.set()

    async def wait(self, app_id: int) -> None:
        """Wait until the table is in service, at most the longest time."""
        event = self._waiting.get(app_id)
        if event is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._longest_s):
                    await event.wait()

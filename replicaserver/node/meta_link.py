"""The node and its metaservers: beacons, what it shall serve, and changes it asks for.

The lease is counted from when an acknowledged beacon was sent. When it is lost, every replica stops serving before
the metaserver may make another primary; when it is back, the node asks what it shall serve before it serves again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import structlog

from replicaserver.node.meta_calls import BEACON, CONFIG_SYNC, TIMEOUT_S, UPDATE, configuration, wire
from replicaserver.node.replicas import Node
from replicaserver.partition.partition import Partition
from replicaserver.replication.replica import (
    Assign,
    Configuration,
    Effect,
    Forgotten,
    Granted,
    LeaseHeld,
    LeaseLost,
    Message,
    Observed,
    Propose,
    Unanswered,
)
from replicaserver.storage.engine import StoreError
from replicaserver.storage.folders import FolderError
from shared.pegasus.client.connection import RpcConnections
from shared.pegasus.wire.errors import ErrorCode, RpcError
from shared.pegasus.wire.structures.base import Gpid, HostPort
from shared.pegasus.wire.structures.failure_detector import BeaconAck, BeaconMessage
from shared.pegasus.wire.structures.layer2 import AppInfo
from shared.pegasus.wire.structures.meta_admin import (
    ConfigSyncRequest,
    ConfigSyncResponse,
    ConfigType,
    ReplicaServerInfo,
    UpdateConfigurationRequest,
    UpdateConfigurationResponse,
)
from shared.tasks import cancel_and_wait

log = structlog.get_logger("replicaserver.meta_link")


class MetaLink:
    """The connection of a node to the leading metaserver.

    Args:
        node: The replicas.
        metas: Where metaservers are; the leader is found by asking them.
        start_time_ms: When this process started; by it a metaserver notices a restart.
        described: Called with every replica whose table the metaserver has described.
        tls: How metaservers are called over TLS; None calls them without.
    """

    def __init__(
        self,
        node: Node,
        metas: Sequence[HostPort],
        start_time_ms: int,
        described: Callable[[Partition], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._node = node
        self._metas = list(metas)
        self._leader: HostPort | None = None
        self._start_time_ms = start_time_ms
        self._described = described
        self._flags = node.context.flags
        self._connections = RpcConnections(tls=tls)
        self._lease = node.context.lease
        self._has_lease = True
        self._is_acked = True
        self._knows_leader = asyncio.Event()
        self._is_synced = False
        self._wanted = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._failed_beacons = node.context.registry.server().counter("beacon_failed_count")
        self._changed_s: dict[Gpid, float] = {}
        self._leaving: set[Gpid] = set()

    @property
    def is_synced(self) -> bool:
        """Whether the leader has said what this node shall serve, and still acknowledges it."""
        return self._is_synced and self._has_lease and self._lease.is_held()

    def start(self) -> None:
        """Begin to beat and to ask."""
        tasks = self._node.context.tasks
        self._running += [
            tasks.loop("beacons", self._beat),
            tasks.loop("lease", self._watch_lease),
            tasks.loop("config sync", self._sync_regularly),
        ]
        self._flags.on_change("config_sync_interval_ms", self._wanted.set)

    async def close(self) -> None:
        """Stop; what is under way is given up."""
        await cancel_and_wait(*self._running)
        await self._connections.close()

    def sync_soon(self) -> None:
        """Ask what to serve without waiting for the next time."""
        self._wanted.set()

    def _spawn(self, name: str, work: Callable[[], Awaitable[object]]) -> None:
        self._running = [task for task in self._running if not task.done()]
        self._running.append(self._node.context.tasks.once(name, work))

    # -- beacons ------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            sent_s = time.monotonic()
            await self._beacon()
            await asyncio.sleep(max(0.0, sent_s + self._flags.integer("fd_beacon_interval_seconds") - time.monotonic()))

    async def _beacon(self) -> None:
        """Send a beacon to the leader; when it does not acknowledge it, to all metaservers at once."""
        leader = self._leader
        if leader is not None and not await self._why_unacknowledged(leader):
            return
        metas = list(self._metas)
        reasons = await asyncio.gather(*map(self._why_unacknowledged, metas))
        if not all(reasons):
            return
        self._leader = None
        self._knows_leader.clear()
        self._failed_beacons.value += 1
        if self._is_acked:
            self._is_acked = False
            shown = {str(meta): reason for meta, reason in zip(metas, reasons, strict=True)}
            log.warning("no metaserver acknowledges this node", metas=shown)

    async def _why_unacknowledged(self, meta: HostPort) -> str:
        """Send a beacon to a metaserver; why it is not acknowledged, or nothing when it is."""
        sent_s = self._lease.now_s()
        interval_s = self._flags.integer("fd_beacon_interval_seconds")
        try:
            ack: BeaconAck = await self._connections.call(meta, BEACON, self._message(meta), interval_s)
        except RpcError as error:
            return str(error)
        if ack.is_master and ack.allowed:
            self._leader = meta
            self._knows_leader.set()
            self._acknowledged(sent_s)
            return ""
        leader = ack.hp_primary_node or ack.primary_node
        if leader and leader not in self._metas:
            self._metas.append(leader)
        return (
            "it does not allow this node to join" if ack.is_master else f"it does not lead, {leader or 'nobody'} does"
        )

    def _message(self, meta: HostPort) -> BeaconMessage:
        node = self._node.context.node
        return BeaconMessage(int(time.time() * 1000), node, meta, self._start_time_ms, node, meta)

    def _acknowledged(self, sent_s: float) -> None:
        self._check_lease()  # one that ended unnoticed, while the process was stopped, is lost all the same
        self._lease.renew(sent_s)
        if not self._is_acked:
            self._is_acked = True
            log.info("a metaserver acknowledges this node again", meta=str(self._leader))
        if not (self._is_synced and self._has_lease):
            self._wanted.set()

    async def _watch_lease(self) -> None:
        while True:
            self._check_lease()
            await asyncio.sleep(min(1.0, max(0.05, self._lease.remaining_s())))

    def _check_lease(self) -> None:
        """When the lease has ended, serve nobody until it is known again what to serve."""
        if self._has_lease and not self._lease.is_held():
            lease_s, metas = self._flags.integer("fd_lease_seconds"), ", ".join(map(str, self._metas))
            log.error("no metaserver acknowledges this node, it stops serving", seconds=lease_s, metas=metas)
            self._has_lease = False
            self._lease.losses += 1
            self._notify_all(LeaseLost())

    def _regain(self) -> None:
        """It is known what to serve, from after the lease was lost."""
        if not self._has_lease and self._lease.is_held():
            log.info("this node serves again", meta=str(self._leader))
            self._has_lease = True
            self._notify_all(LeaseHeld())

    def _notify_all(self, message: Message) -> None:
        for partition in tuple(self._node.partitions.values()):
            partition.step(message)

    # -- what to serve --------------------------------------------------------------------------------

    async def _sync_regularly(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._flags.integer("config_sync_interval_ms") / 1000):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            is_needed = not self._flags.boolean("config_sync_disabled") or not self._has_lease
            if self._leader is not None and is_needed:
                await self._sync()

    async def _sync(self) -> bool:
        """Ask the leader what to serve, and do it; whether it has answered."""
        leader, asked_s, losses = self._leader, time.monotonic(), self._lease.losses
        if leader is None:
            return False
        node = self._node.context.node
        capacity = sum(disk.measure()[0] for disk in self._node.disks) >> 20
        request = ConfigSyncRequest(node, self._node.report(), ReplicaServerInfo({}, capacity), node)
        try:
            answer: ConfigSyncResponse = await self._connections.call(leader, CONFIG_SYNC, request, TIMEOUT_S)
        except RpcError as error:
            log.warning("the metaserver does not say what to serve", meta=str(leader), reason=str(error))
            return False
        if answer.err != ErrorCode.ERR_OK:
            log.info("the metaserver does not say what to serve", meta=str(leader), reason=answer.err)
            return False
        await self._take(answer, asked_s)
        self._is_synced = True
        if losses == self._lease.losses:
            self._regain()
        return True

    async def _take(self, answer: ConfigSyncResponse, asked_s: float) -> None:
        named = set()
        for wanted in answer.partitions:
            gpid = wanted.config.pid
            named.add(gpid)
            partition = self._node.partitions.get(gpid)
            if partition is None:
                self._missing(wanted)
                continue
            try:
                await self._node.describe(partition, wanted.info)
            except (StoreError, OSError) as error:
                log.error("a table's settings cannot be taken over", gpid=str(gpid), reason=str(error))
            if gpid not in self._leaving:
                self._handle(partition, partition.step(Observed(configuration(wanted.config))))
            self._described(partition)
        unwanted = {info.pid for info in answer.gc_replicas or ()}
        for partition in tuple(self._node.partitions.values()):
            is_stale = self._changed_s.get(partition.gpid, 0.0) >= asked_s
            if partition.gpid in unwanted and not is_stale:
                await self._node.remove(partition.gpid)
            elif partition.gpid not in named and not is_stale:
                partition.step(Forgotten())

    def _missing(self, wanted: UpdateConfigurationRequest) -> None:
        """The metaserver thinks that a replica is here that is not: its data is lost, and the metaserver must know."""
        if wanted.config.primary_node() == self._node.context.node:
            log.error("a replica that should be here is lost", gpid=str(wanted.config.pid))
            lost = configuration(wanted.config)
            change = Configuration(
                lost.ballot + 1, None, lost.secondaries, lost.max_replica_count, lost.last_committed_decree
            )
            request = self._update(wanted.info, wanted.config.pid, change, ConfigType.DOWNGRADE_TO_INACTIVE)
            self._spawn(f"loss of {wanted.config.pid}", partial(self._send_update, request))

    # -- proposals ------------------------------------------------------------------------------------

    async def proposed(self, request: UpdateConfigurationRequest) -> None:
        """Do what the metaserver proposes.

        Raises:
            RpcError: It cannot be done here.
        """
        gpid = request.config.pid
        try:
            type = ConfigType(request.type)
        except ValueError as error:
            raise RpcError(ErrorCode.ERR_INVALID_PARAMETERS, f"no proposal has the type {request.type}") from error
        self._changed_s[gpid] = time.monotonic()
        partition = self._node.partitions.get(gpid)
        match type:
            case ConfigType.ASSIGN_PRIMARY | ConfigType.UPGRADE_TO_PRIMARY:
                partition = await self._opened(gpid, request, partition)
                self._handle(partition, partition.step(Assign(configuration(request.config))))
            case ConfigType.DOWNGRADE_TO_INACTIVE | ConfigType.DOWNGRADE_TO_SECONDARY:
                await self._leaving_it(gpid, self._leave(request, type))
            case ConfigType.REMOVE:
                await self._leaving_it(gpid, self._vacate(request))
            case _:
                raise RpcError(ErrorCode.ERR_NOT_IMPLEMENTED, f"{type.name}: there are no secondaries yet")

    async def _opened(self, gpid: Gpid, request: UpdateConfigurationRequest, partition: Partition | None) -> Partition:
        if partition is not None:
            await self._node.describe(partition, request.info)
            return partition
        if request.config.last_committed_decree > 0:
            raise RpcError(ErrorCode.ERR_OBJECT_NOT_FOUND, f"{gpid} has been written, and is not here")
        self._changed_s[gpid] = time.monotonic()
        try:
            return await self._node.create(gpid, request.info)
        except (StoreError, FolderError) as error:
            log.error("a replica cannot be made", gpid=str(gpid), reason=str(error))
            raise RpcError(ErrorCode.ERR_LOCAL_APP_FAILURE, str(error)) from error

    async def _leave(self, request: UpdateConfigurationRequest, type: ConfigType) -> None:
        """Take this node out of a configuration, as its primary."""
        partition = self._led(request)
        held = partition.core.configuration
        partition.step(Forgotten())
        await partition.batches.drained()
        without = Configuration(
            held.ballot + 1, None, held.secondaries, held.max_replica_count, partition.core.last_committed
        )
        answer = await self._send_update(self._update(request.info, partition.gpid, without, type))
        if answer is not None:
            self._handle(partition, partition.step(Observed(answer)))
        else:
            self.sync_soon()

    async def _vacate(self, request: UpdateConfigurationRequest) -> None:
        """Leave a partition that was never written to others: to say so, this node takes no write any more.

        Without an answer, or against a rejection, it asks what is in force; only a new ballot lets it serve again.
        """
        partition = self._led(request)
        if not partition.is_untouched():
            self.sync_soon()  # the metaserver does not know yet
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "there are rows in it")
        held = partition.core.configuration
        partition.step(Forgotten())
        await partition.batches.drained()
        answer = None
        if partition.is_untouched():
            vacated = Configuration(held.ballot + 1, None, (), held.max_replica_count, 0)
            answer = await self._send_update(self._update(request.info, partition.gpid, vacated, ConfigType.REMOVE))
        if answer is not None:
            self._handle(partition, partition.step(Observed(answer)))
        self.sync_soon()

    async def _leaving_it(self, gpid: Gpid, work: Coroutine[Any, Any, None]) -> None:
        """Leave a partition, whatever a sync that was asked before says meanwhile."""
        self._leaving.add(gpid)
        try:
            await work
        finally:
            self._leaving.discard(gpid)

    def _led(self, request: UpdateConfigurationRequest) -> Partition:
        """The replica that this node shall leave, which it must be the primary of."""
        partition = self._node.partitions.get(request.config.pid)
        me = self._node.context.node
        if partition is None or not partition.core.is_primary or (request.hp_node or request.node) != me:
            raise RpcError(ErrorCode.ERR_INVALID_STATE, "not the primary here")
        return partition

    def _handle(self, partition: Partition, effects: Iterable[Effect]) -> None:
        self._changed_s[partition.gpid] = time.monotonic()
        for effect in effects:
            if isinstance(effect, Propose):
                self._spawn(f"change of {partition.gpid}", partial(self._propose, partition, effect))

    async def _propose(self, partition: Partition, proposal: Propose) -> None:
        if proposal.is_restart:
            type = ConfigType.PRIMARY_FORCE_UPDATE_BALLOT
        elif proposal.configuration.secondaries:
            type = ConfigType.UPGRADE_TO_PRIMARY
        else:
            type = ConfigType.ASSIGN_PRIMARY
        request = self._update(partition.app, partition.gpid, proposal.configuration, type)
        answer = await self._send_update(request)
        if answer is None:
            partition.step(Unanswered())
        elif answer == proposal.configuration or answer.ballot == proposal.configuration.ballot:
            partition.step(Granted(answer))
        else:
            partition.step(Observed(answer))
        self._changed_s[partition.gpid] = time.monotonic()

    def _update(self, app: AppInfo, gpid: Gpid, wanted: Configuration, type: ConfigType) -> UpdateConfigurationRequest:
        me = self._node.context.node
        return UpdateConfigurationRequest(app, wire(gpid, wanted), type, me, me, None, me)

    async def _send_update(self, request: UpdateConfigurationRequest) -> Configuration | None:
        """Ask for a change; the configuration that is in force now, None without an answer."""
        gpid = request.config.pid
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self._knows_leader.wait()
        leader = self._leader
        if leader is None:
            return None
        try:
            answer: UpdateConfigurationResponse = await self._connections.call(leader, UPDATE, request, TIMEOUT_S)
        except RpcError as error:
            log.warning("a change of configuration is not answered", gpid=str(gpid), reason=str(error))
            return None
        if answer.err == ErrorCode.ERR_OK:
            log.info("configuration changed", gpid=str(gpid), ballot=answer.config.ballot)
            return configuration(answer.config)
        log.info("a change of configuration is rejected", gpid=str(gpid), reason=answer.err)
        return configuration(answer.config) if answer.err == ErrorCode.ERR_INVALID_VERSION else None

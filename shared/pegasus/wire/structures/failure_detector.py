"""Beacons between replica servers and the metaserver."""

from __future__ import annotations

from shared.pegasus.wire.structures.base import NO_NODE, Address, HostPortField
from shared.pegasus.wire.thrift import I64, struct


@struct
class BeaconMessage:
    time: I64 = 0
    from_node: Address = NO_NODE
    to_node: Address = NO_NODE
    start_time: I64 | None = None
    hp_from_node: HostPortField | None = None
    hp_to_node: HostPortField | None = None


@struct
class BeaconAck:
    time: I64 = 0
    this_node: Address = NO_NODE
    primary_node: Address = NO_NODE
    is_master: bool = False
    allowed: bool = False
    hp_this_node: HostPortField | None = None
    hp_primary_node: HostPortField | None = None

"""The opaque types of Pegasus: table partitions and node addresses (protocol §10.5)."""

from __future__ import annotations

import functools
import ipaddress
import struct as binary
from typing import Annotated, NamedTuple

from shared.pegasus.wire.thrift_kinds import TAG_STRUCT, Append, Fixed, Opaque, ThriftError

_LENGTH = binary.Struct(">i")
_PORT_AND_TYPE = binary.Struct(">HB")
_VALID = 1


class Gpid(NamedTuple):
    """A partition of a table, written `2.0`."""

    app_id: int
    partition_index: int

    def __str__(self) -> str:
        return f"{self.app_id}.{self.partition_index}"


class HostPort(NamedTuple):
    """A node of the cluster, written `host:port`; the empty host stands for no node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __bool__(self) -> bool:
        return bool(self.host)

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read `host:port`.

        Raises:
            ValueError: There is no host, or the port is not a number from 1 to 65535.
        """
        host, colon, port = text.strip().rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"'{text}' is not an address of the form host:port")
        return cls(host, int(port))


NO_NODE = HostPort("", 0)


def _gpid_to_wire(gpid: Gpid) -> int:
    return (gpid[1] << 32) | (gpid[0] & 0xFFFFFFFF)


def _gpid_from_wire(number: int) -> Gpid:
    app_id = number & 0xFFFFFFFF
    return Gpid(app_id - 0x100000000 if app_id & 0x80000000 else app_id, number >> 32)


@functools.lru_cache(maxsize=4096)
def _address_to_wire(node: HostPort) -> int:
    """The i64 of an rpc_address; a host that is not an IPv4 address has none and travels as invalid."""
    try:
        ip = int(ipaddress.IPv4Address(node.host))
    except ValueError:
        return 0
    return ip << 32 | node.port << 16 | _VALID


@functools.lru_cache(maxsize=4096)
def _address_from_wire(number: int) -> HostPort:
    if number & 0x3 != _VALID:
        return NO_NODE
    return HostPort(str(ipaddress.IPv4Address(number >> 32)), number >> 16 & 0xFFFF)


def _write_host_port(node: HostPort, append: Append) -> None:
    host = node.host.encode()
    append(_LENGTH.pack(len(host)) + host + _PORT_AND_TYPE.pack(node.port, _VALID if host else 0))


def _read_host_port(data: bytes, position: int) -> tuple[HostPort, int]:
    stop = position + 4 + _LENGTH.unpack_from(data, position)[0]
    if not position + 4 <= stop <= len(data):
        raise ThriftError("a host name is longer than the message")
    port, kind = _PORT_AND_TYPE.unpack_from(data, stop)
    host = data[position + 4 : stop].decode()
    return (HostPort(host, port) if kind == _VALID else NO_NODE), stop + 3


GPID = Annotated[Gpid, Fixed(TAG_STRUCT, "q", _gpid_to_wire, _gpid_from_wire)]
Address = Annotated[HostPort, Fixed(TAG_STRUCT, "Q", _address_to_wire, _address_from_wire)]
"""rpc_address: an IPv4 address and a port."""
HostPortField = Annotated[HostPort, Opaque(_write_host_port, _read_host_port, is_host_port=True, least_bytes=7)]
"""host_port: a name or an address, and a port; unknown to clients older than 2.5."""

"""GET and PUT as nearly all of them come, from the bytes of the request straight to the row (protocol §10.1, §11).

A request is taken here when its bytes stand exactly as clients write them, it is for a partition that serves plainly,
and it is not too large. Every other one is left to the table of RPCs, which knows all that may be in a request; what
both take, both answer with the same bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence

import structlog

from replicaserver.handlers import encoding
from replicaserver.handlers.rrdb import PREFIX, answer_get
from replicaserver.partition.partition import Partition
from replicaserver.partition.write_queue import PlainPut
from shared.pegasus.serving.rpc import RpcCaller
from shared.pegasus.wire.errors import RpcError
from shared.pegasus.wire.framing import PLAIN, plain_call, reply_front
from shared.pegasus.wire.keys import is_key
from shared.pegasus.wire.structures.rrdb import UpdateResponse

log = structlog.get_logger("replicaserver.fast_path")

_GET, _PUT = PREFIX + "GET", PREFIX + "PUT"
_GET_CALL, _PUT_CALL = plain_call(_GET), plain_call(_PUT)

_read_front = struct.Struct(">12s4xI4xii16x25s4s").unpack_from
"""Start of the header, length of the body, table, partition, code, sequence number."""
_HEADER_BYTES, _FRONT_BYTES = 48, 77
_read_get = struct.Struct(">3sI").unpack_from
_GET_KEY, _GET_BYTES = b"\x0c\0\x01", 7
_read_put = struct.Struct(">6sI").unpack_from
_PUT_KEY, _PUT_BYTES = b"\x0c\0\x01\x0c\0\x01", 10
_read_value = struct.Struct(">3sI").unpack_from
_PUT_VALUE, _VALUE_BYTES = b"\x0c\0\x02", 7
_read_end = struct.Struct(">3si2s").unpack_from
_PUT_EXPIRY, _END, _END_BYTES = b"\x08\0\x03", b"\0\0", 9


class FastPath:
    """Takes requests past the table of RPCs.

    Args:
        partitions: The open replicas; looked up at every request.
    """

    def __init__(self, partitions: Mapping[tuple[int, int], Partition]) -> None:
        self._partitions = partitions

    def take(self, data: bytes, start: int, caller: RpcCaller) -> int:
        """Take a GET or a PUT; see `shared.pegasus.serving.rpc.Shortcut`."""
        if len(data) - start < _FRONT_BYTES + _PUT_BYTES:
            return 0
        plain, body_length, app_id, index, call, seqid = _read_front(data, start)
        stop: int = start + _HEADER_BYTES + body_length
        if plain != PLAIN or stop > len(data):
            return 0
        partition = self._partitions.get((app_id, index))
        if partition is None:
            return 0
        if call == _PUT_CALL and partition.admission.writes_plainly:
            return _put(partition, data, start + _FRONT_BYTES, stop, seqid, caller)
        if call == _GET_CALL and partition.admission.reads_plainly:
            return _get(partition, data, start + _FRONT_BYTES, stop, seqid, caller)
        return 0


def _get(partition: Partition, data: bytes, start: int, stop: int, seqid: bytes, caller: RpcCaller) -> int:
    """Answer a GET whose arguments stand in a place; where it ends, 0 for another shape."""
    field, size = _read_get(data, start)
    start += _GET_BYTES
    if field != _GET_KEY or start + size + 1 != stop or data[stop - 1]:
        return 0
    result = answer_get(partition, data[start : stop - 1])
    caller.answer(reply_front(_GET, len(result)) + seqid + result)
    return stop


def _put(partition: Partition, data: bytes, start: int, stop: int, seqid: bytes, caller: RpcCaller) -> int:
    """Take a PUT whose arguments stand in a place; where it ends, 0 for another shape."""
    if stop - start > partition.admission.max_write_bytes:
        return 0
    field, key_size = _read_put(data, start)
    start += _PUT_BYTES
    value_start: int = start + key_size + _VALUE_BYTES
    value_end = stop - _END_BYTES
    if field != _PUT_KEY or value_start > value_end:
        return 0
    key = data[start : start + key_size]
    field, size = _read_value(data, start + key_size)
    expiry_field, expire, end = _read_end(data, value_end)
    if field != _PUT_VALUE or value_start + size != value_end or expiry_field != _PUT_EXPIRY or end != _END:
        return 0
    put = (key, data[value_start:value_end], expire, time.perf_counter_ns(), seqid, caller)
    return stop if is_key(key) and partition.batches.submit_put(put, value_end - start) else 0


def answer_puts(puts: Sequence[PlainPut], response: UpdateResponse | None, error: RpcError | None) -> None:
    """Answer the puts of a decree, or fail them; one that cannot be answered holds up no other."""
    result = b"" if response is None else encoding.update_response(response)
    front = reply_front(_PUT, len(result))
    for _, _, _, _, seqid, caller in puts:
        try:
            if error is None:
                caller.answer(front + seqid + result)
            else:
                caller.reject(_PUT, int.from_bytes(seqid, "big", signed=True), error)
        except Exception as failure:
            log.error("a put cannot be answered", exc_info=failure)

"""Requests and responses of the data plane: rrdb.thrift."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated

from shared.pegasus.wire.thrift import I32, I64, AtMost, struct

ASKED = AtMost(16_384)
"""How many rows or keys one request may name: what is decided about them in one go holds up all other requests."""
ANSWERED = AtMost(1 << 20)
"""How many rows a response may have; how many it has is for the settings of its server to say."""


class FilterType(IntEnum):
    """How a key is matched against a pattern."""

    NO_FILTER = 0
    MATCH_ANYWHERE = 1
    MATCH_PREFIX = 2
    MATCH_POSTFIX = 3


class CheckType(IntEnum):
    """What check_and_set and check_and_mutate require of the value they look at (§11.2)."""

    NO_CHECK = 0
    VALUE_NOT_EXIST = 1
    VALUE_NOT_EXIST_OR_EMPTY = 2
    VALUE_EXIST = 3
    VALUE_NOT_EMPTY = 4
    VALUE_MATCH_ANYWHERE = 5
    VALUE_MATCH_PREFIX = 6
    VALUE_MATCH_POSTFIX = 7
    VALUE_BYTES_LESS = 8
    VALUE_BYTES_LESS_OR_EQUAL = 9
    VALUE_BYTES_EQUAL = 10
    VALUE_BYTES_GREATER_OR_EQUAL = 11
    VALUE_BYTES_GREATER = 12
    VALUE_INT_LESS = 13
    VALUE_INT_LESS_OR_EQUAL = 14
    VALUE_INT_EQUAL = 15
    VALUE_INT_GREATER_OR_EQUAL = 16
    VALUE_INT_GREATER = 17


class MutateOperation(IntEnum):
    """What one step of check_and_mutate does."""

    PUT = 0
    DELETE = 1


class UpdateType(IntEnum):
    """Which operation an update_request was made from, when a primary made it idempotent."""

    PUT = 0
    INCR = 1
    CHECK_AND_SET = 2
    CHECK_AND_MUTATE_PUT = 3
    CHECK_AND_MUTATE_REMOVE = 4


@struct
class UpdateRequest:
    key: bytes = b""
    value: bytes = b""
    expire_ts_seconds: I32 = 0
    type: I32 | None = None
    check_value_returned: bool | None = None
    check_value_exist: bool | None = None
    check_value: bytes | None = None


@struct
class UpdateResponse:
    error: I32 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    decree: I64 = 0
    server: str = ""


@struct(ids=(1, 2, 3, 4, 6))
class ReadResponse:
    error: I32 = 0
    value: bytes = b""
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""


@struct(ids=(1, 2, 3, 4, 6))
class TtlResponse:
    error: I32 = 0
    ttl_seconds: I32 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""


@struct(ids=(1, 2, 3, 4, 6))
class CountResponse:
    error: I32 = 0
    count: I64 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""


@struct
class KeyValue:
    key: bytes = b""
    value: bytes = b""
    expire_ts_seconds: I32 | None = None


@struct
class MultiPutRequest:
    hash_key: bytes = b""
    kvs: Annotated[Sequence[KeyValue], ASKED] = ()
    expire_ts_seconds: I32 = 0


@struct
class MultiRemoveRequest:
    hash_key: bytes = b""
    sort_keys: Annotated[Sequence[bytes], ASKED] = ()
    max_count: I64 = 0


@struct
class MultiRemoveResponse:
    error: I32 = 0
    count: I64 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    decree: I64 = 0
    server: str = ""


@struct
class MultiGetRequest:
    hash_key: bytes = b""
    sort_keys: Annotated[Sequence[bytes], ASKED] = ()
    max_kv_count: I32 = 0
    max_kv_size: I32 = 0
    no_value: bool = False
    start_sortkey: bytes = b""
    stop_sortkey: bytes = b""
    start_inclusive: bool = False
    stop_inclusive: bool = False
    sort_key_filter_type: I32 = 0
    sort_key_filter_pattern: bytes = b""
    reverse: bool = False


@struct(ids=(1, 2, 3, 4, 6))
class MultiGetResponse:
    error: I32 = 0
    kvs: Annotated[Sequence[KeyValue], ANSWERED] = ()
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""


@struct
class FullKey:
    hash_key: bytes = b""
    sort_key: bytes = b""


@struct
class BatchGetRequest:
    keys: Annotated[Sequence[FullKey], ASKED] = ()


@struct
class FullData:
    hash_key: bytes = b""
    sort_key: bytes = b""
    value: bytes = b""


@struct(ids=(1, 2, 3, 4, 6))
class BatchGetResponse:
    error: I32 = 0
    data: Annotated[Sequence[FullData], ANSWERED] = ()
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""


@struct
class IncrRequest:
    key: bytes = b""
    increment: I64 = 0
    expire_ts_seconds: I32 = 0


@struct
class IncrResponse:
    error: I32 = 0
    new_value: I64 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    decree: I64 = 0
    server: str = ""


@struct
class CheckAndSetRequest:
    hash_key: bytes = b""
    check_sort_key: bytes = b""
    check_type: I32 = 0
    check_operand: bytes = b""
    set_diff_sort_key: bool = False
    set_sort_key: bytes = b""
    set_value: bytes = b""
    set_expire_ts_seconds: I32 = 0
    return_check_value: bool = False


@struct
class CheckAndSetResponse:
    error: I32 = 0
    check_value_returned: bool = False
    check_value_exist: bool = False
    check_value: bytes = b""
    app_id: I32 = 0
    partition_index: I32 = 0
    decree: I64 = 0
    server: str = ""


@struct
class Mutate:
    operation: I32 = 0
    sort_key: bytes = b""
    value: bytes = b""
    set_expire_ts_seconds: I32 = 0


@struct
class CheckAndMutateRequest:
    hash_key: bytes = b""
    check_sort_key: bytes = b""
    check_type: I32 = 0
    check_operand: bytes = b""
    mutate_list: Annotated[Sequence[Mutate], ASKED] = ()
    return_check_value: bool = False


@struct
class CheckAndMutateResponse:
    error: I32 = 0
    check_value_returned: bool = False
    check_value_exist: bool = False
    check_value: bytes = b""
    app_id: I32 = 0
    partition_index: I32 = 0
    decree: I64 = 0
    server: str = ""


@struct
class GetScannerRequest:
    start_key: bytes = b""
    stop_key: bytes = b""
    start_inclusive: bool = False
    stop_inclusive: bool = False
    batch_size: I32 = 0
    no_value: bool = False
    hash_key_filter_type: I32 = 0
    hash_key_filter_pattern: bytes = b""
    sort_key_filter_type: I32 = 0
    sort_key_filter_pattern: bytes = b""
    validate_partition_hash: bool | None = None
    return_expire_ts: bool | None = None
    full_scan: bool | None = None
    only_return_count: bool | None = None


@struct
class ScanRequest:
    context_id: I64 = 0


@struct
class ScanResponse:
    error: I32 = 0
    kvs: Annotated[Sequence[KeyValue], ANSWERED] = ()
    context_id: I64 = 0
    app_id: I32 = 0
    partition_index: I32 = 0
    server: str = ""
    kv_count: I32 | None = None

"""Control messages: MessagePack with one extension, the datetime map (protocol §2, §4.2).

`plain` turns what catalogs and drivers hold into what MessagePack can carry, and `unpack` reads what a
stranger sent without ever building anything but plain data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import msgpack
import numpy as np
import pandas as pd

UNSERIALIZABLE = "UNSERIALIZABLE_VALUE"
DATETIME_FORMAT = "%Y%m%dT%H:%M:%S.%f%z"
MAX_DEPTH = 32
MAX_ITEMS = 100_000
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1


class MalformedMessage(Exception):  # noqa: N818 - the caller's mistake, answered as 400
    """The bytes are not one acceptable MessagePack value; the text says why."""


def datetime_map(value: datetime) -> dict[str, Any]:
    """A datetime as it travels (§4.2)."""
    return {"__datetime__": True, "as_str": value.strftime(DATETIME_FORMAT)}


def plain(value: Any, *, otherwise: Callable[[Any], Any] = str) -> Any:
    """Convert a value to one that MessagePack holds and the client reads (§4.2).

    Args:
        value: Anything.
        otherwise: What becomes of an object that has no natural form.

    Returns:
        Maps with text keys, lists, text, bytes, numbers, booleans and None only.
    """
    if value is None or isinstance(value, (bool, str, bytes)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if _SMALLEST <= value <= _LARGEST else str(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {key_text(key): plain(item, otherwise=otherwise) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [plain(item, otherwise=otherwise) for item in items]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain_numpy(value, otherwise)
    return _plain_object(value, otherwise)


def _plain_numpy(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    if value.dtype.kind in "mM":
        if value.ndim:
            return [_plain_numpy(item, otherwise) for item in value]
        if np.isnat(value):
            return None
        if value.dtype.kind == "M":
            return datetime_map(pd.Timestamp(value).to_pydatetime(warn=False))
        return str(value)
    if value.dtype.kind == "V":
        return otherwise(value)
    return plain(value.tolist(), otherwise=otherwise)


def _plain_object(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, datetime):
        return datetime_map(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, timedelta) or type(value).__module__ in ("decimal", "uuid", "pathlib", "fractions"):
        return str(value)
    return otherwise(value)


def key_text(key: Any) -> str:
    """A map key as the text that clients require (§2)."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    if isinstance(key, (date, time)):
        return key.isoformat()
    return str(key)


def pack(value: Any) -> bytes:
    """One MessagePack value; anything unusual in it goes through `plain`."""
    packed: bytes = msgpack.packb(plain(value), use_bin_type=True)
    return packed


def unpack(data: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Read one MessagePack value that a caller sent.

    Args:
        data: The whole body.
        max_depth: How deep maps and lists may nest.

    Raises:
        MalformedMessage: It is empty, cut off, followed by more bytes, nested too deep, has extension types,
            keys that are not text, or strings that are not UTF-8.
    """
    if not data:
        raise MalformedMessage("the body is empty: expected one MessagePack map")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            timestamp=0,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessage(f"the body is not one MessagePack value: {_reason(error)}") from error
    return _from_wire(value, max_depth)


def _reason(error: Exception) -> str:
    if isinstance(error, msgpack.exceptions.ExtraData):
        return "there are bytes after its end"
    if isinstance(error, msgpack.exceptions.StackError):
        return "it is nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return "a string is not UTF-8"
    if isinstance(error, msgpack.exceptions.FormatError):
        return "it has a byte that MessagePack does not know"
    return str(error) or type(error).__name__


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not accepted")


def _from_wire(value: Any, depth: int) -> Any:
    if isinstance(value, (dict, list)) and depth <= 0:
        raise MalformedMessage("the body is nested too deep")
    if isinstance(value, dict):
        if "__datetime__" in value:
            return _read_datetime(value)
        for key in value:
            if not isinstance(key, str):
                raise MalformedMessage("the body has a map key that is not text")
        return {key: _from_wire(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_wire(item, depth - 1) for item in value]
    if isinstance(value, msgpack.Timestamp):
        raise MalformedMessage("the body has an extension type")
    if isinstance(value, float) and math.isnan(value):
        return math.nan
    return value


def _read_datetime(value: Mapping[Any, Any]) -> datetime:
    text = value.get("as_str")
    for form in (DATETIME_FORMAT, DATETIME_FORMAT.removesuffix("%z")):
        try:
            return datetime.strptime(text or "", form)
        except (ValueError, TypeError):
            continue
    raise MalformedMessage("a datetime is not of the form YYYYMMDDTHH:MM:SS.ffffff")

"""A data set as a Zarr store of version 2, the form in which an answer to ``open`` describes one (protocol §4.6).

The store has the metadata of all variables and the values of coordinates; the values of the others are read by
block. Nothing in it asks to be decoded: types are those of the blocks, and there is no fill value.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intake_server.serialization.control import plain

Store = Mapping[str, bytes]
_DECODED_BY = frozenset({"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype"})
_DURATIONS = frozenset(
    unit + plural
    for unit in ("day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond")
    for plural in ("", "s")
)
_KEPT_AS = "encoded_"


@dataclass(frozen=True, slots=True, eq=False)
class StoredVariable:
    """One variable of a store.

    Attributes:
        name: Its name.
        dimensions: The names of its axes.
        shape: Their lengths.
        chunks: The lengths of its blocks, the last one along an axis maybe shorter.
        dtype: The type of its elements.
        attributes: Free attributes.
        values: All of its values, for a coordinate; None when they are read by block.
    """

    name: str
    dimensions: Sequence[str]
    shape: Sequence[int]
    chunks: Sequence[int]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any]
    values: np.ndarray[Any, Any] | None = None


def store(attributes: Mapping[str, Any], variables: Sequence[StoredVariable]) -> dict[str, bytes]:
    """The keys of a store and their bytes.

    Args:
        attributes: Of the data set.
        variables: In their order; those with values and without an axis are listed as coordinates.
    """
    scalars = " ".join(item.name for item in variables if item.values is not None and not item.dimensions)
    found = {
        ".zgroup": _json({"zarr_format": 2}),
        ".zattrs": _json({**_harmless(attributes), **({"coordinates": scalars} if scalars else {})}),
    }
    for item in variables:
        found[f"{item.name}/.zarray"] = _json(
            {
                "zarr_format": 2,
                "shape": [int(length) for length in item.shape],
                "chunks": [max(1, int(length)) for length in item.chunks],
                "dtype": item.dtype.str,
                "compressor": None,
                "fill_value": None,
                "order": "C",
                "filters": None,
            }
        )
        found[f"{item.name}/.zattrs"] = _json(
            {**_harmless(item.attributes), "_ARRAY_DIMENSIONS": list(item.dimensions)}
        )
        if item.values is not None and item.values.size:
            found[f"{item.name}/{'.'.join('0' for _ in item.shape) or '0'}"] = item.values.tobytes()
    return found


def as_url(content: Store) -> str:
    """A store as one address that holds all of it: a ZIP archive in a ``data:`` URL, as fsspec opens them."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for key, value in content.items():
            member = zipfile.ZipInfo(key)  # without the present time: equal stores have equal addresses
            packed.writestr(member, value, zipfile.ZIP_DEFLATED)
    return f"zip::data:application/zip;base64,{base64.b64encode(archive.getvalue()).decode()}"


def _harmless(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes, with those renamed that would make a client decode values which are decoded already."""
    kept = {}
    for name, value in attributes.items():
        is_unit = name == "units" and isinstance(value, str) and (" since " in value or value in _DURATIONS)
        is_reserved = name in _DECODED_BY or name in ("coordinates", "_ARRAY_DIMENSIONS") or is_unit
        kept[_KEPT_AS + name if is_reserved else name] = value
    return kept


def _json(value: Any) -> bytes:
    return json.dumps(_text_only(plain(value)), ensure_ascii=False).encode("utf-8", "replace")


def _text_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _text_only(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_text_only(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

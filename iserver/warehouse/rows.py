"""The rows of finished sessions, as Arrow record batches.

A `Rows` object gathers the sessions or memo records of one table under one program and turns them
into columns at once; it knows no files and no partitions.

A session that was running while the program changed may have an event, or a value of a type, that its own program
does not know. Such a value has no column: it is skipped and counted, and the rest of the batch is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from iserver.fdl.model import EventDefinition, FeatureDefinition, FieldDefinition, Program
from iserver.fdl.values import InvalidValueError, reader
from iserver.sessions.finished import Event, FinishedRecord, FinishedSession
from iserver.warehouse.arrow import arrow_schema, fdl_array, list_array, struct_array, times_array
from iserver.warehouse.tables import feature_table, session_table

Unfit: TypeAlias = Counter[str]
"""How many values were skipped, by the name of the event or field."""


@dataclass(slots=True)
class SessionRows:
    """Rows of the session table of one program.

    Attributes:
        unfit: What was skipped so far.
    """

    program: Program
    schema: pa.Schema = field(init=False)
    unfit: Unfit = field(init=False, default_factory=Counter)
    _sessions: list[FinishedSession] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.schema = arrow_schema(session_table(self.program))

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: FinishedSession) -> None:
        """Take one session."""
        self._sessions.append(session)

    def take(self) -> pa.RecordBatch:
        """All rows since the last call."""
        sessions, self._sessions = self._sessions, []
        definition = self.program.session
        columns: list[pa.Array] = [_history(sessions, key, self.unfit) for key in definition.keys if key.mutable]
        columns.append(pa.array([item.persistent_key for item in sessions], pa.string()))
        columns += [_column([item.args for item in sessions], key, self.unfit) for key in definition.session_keys]
        columns += _session_system_columns(sessions)
        for source, fields in (
            ([item.args for item in sessions], definition.args),
            ([item.plugin_outputs for item in sessions], definition.plugin_outputs),
        ):
            for item in fields:
                columns.append(_column(source, item, self.unfit))
                if item.mutable:
                    columns.append(_history(sessions, item, self.unfit))
        columns += _event_columns([item.events for item in sessions], definition.events.values(), self.unfit)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


@dataclass(slots=True)
class FeatureRows:
    """Rows of the table of one feature of one program.

    Attributes:
        unfit: What was skipped so far.
    """

    program: Program
    feature: FeatureDefinition
    schema: pa.Schema = field(init=False)
    unfit: Unfit = field(init=False, default_factory=Counter)
    _sessions: list[FinishedSession] = field(init=False, default_factory=list)
    _records: list[FinishedRecord] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.schema = arrow_schema(feature_table(self.program, self.feature))

    def __len__(self) -> int:
        return len(self._records)

    def add(self, session: FinishedSession, record: FinishedRecord) -> None:
        """Take one memo record."""
        self._sessions.append(session)
        self._records.append(record)

    def take(self) -> pa.RecordBatch:
        """All rows since the last call."""
        sessions, self._sessions = self._sessions, []
        records, self._records = self._records, []
        columns: list[pa.Array] = [
            pa.array([item.session_id for item in sessions], pa.string()),
            pa.array([item.persistent_key for item in sessions], pa.string()),
            *_impression_columns(records),
        ]
        sources = self._sources(records)
        columns += [_column(sources[item.name], item, self.unfit) for item in self.feature.columns]
        columns += _event_columns([item.events for item in records], self.feature.events.values(), self.unfit)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _sources(self, records: Sequence[FinishedRecord]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Where each column's values are, by FDL name."""
        args = [item.args for item in records]
        outputs = [item.outputs for item in records]
        plugin_outputs = [item.plugin_outputs for item in records]
        return {
            **{item.name: args for item in self.feature.args},
            **{item.name: outputs for item in self.feature.outputs},
            **{item.name: plugin_outputs for item in self.feature.plugin_outputs},
        }


def _column(values: Sequence[Mapping[str, Any]], item: FieldDefinition, unfit: Unfit) -> pa.Array:
    name = item.name
    return _array([value.get(name) for value in values], item, unfit)


def _array(values: Sequence[Any], item: FieldDefinition, unfit: Unfit) -> pa.Array:
    try:
        return fdl_array(values, item.type)
    except (pa.ArrowException, TypeError, AttributeError, OverflowError):
        return fdl_array([_fitting(value, item, unfit) for value in values], item.type)


def _fitting(value: Any, item: FieldDefinition, unfit: Unfit) -> Any:
    """The value, or null in its place when it is not of the declared type."""
    if value is None:
        return None
    try:
        return reader(item.type, item.name)(value)
    except InvalidValueError:
        unfit[item.name] += 1
        return None


def _texts(lists: Sequence[tuple[str, ...]]) -> pa.Array:
    items = pa.array(list(chain.from_iterable(lists)), pa.string())
    return list_array([len(item) for item in lists], items)


def _session_system_columns(sessions: Sequence[FinishedSession]) -> list[pa.Array]:
    return [
        pa.array([item.session_id for item in sessions], pa.string()),
        times_array([item.start_ms for item in sessions]),
        pa.array([item.last_activity_ms - item.start_ms for item in sessions], pa.int64()),
        pa.array([item.user_agent for item in sessions], pa.string()),
        pa.array([item.entry_url for item in sessions], pa.string()),
        _texts([item.variants for item in sessions]),
        _texts([item.audiences for item in sessions]),
    ]


def _impression_columns(records: Sequence[FinishedRecord]) -> list[pa.Array]:
    """`impression_ids`, `impressions`, `first_time` and `impression_count`."""
    lists = [item.impressions for item in records]
    counts = [len(item) for item in lists]
    impressions = list(chain.from_iterable(lists))
    ids = pa.array([item.id for item in impressions], pa.string())
    times = times_array([item.time_ms for item in impressions])
    return [
        list_array(counts, ids),
        list_array(counts, struct_array(("impression_id", "impression_time"), (ids, times))),
        times_array([item[0].time_ms for item in lists]),
        pa.array(counts, pa.int64()),
    ]


def _history(sessions: Sequence[FinishedSession], item: FieldDefinition, unfit: Unfit) -> pa.Array:
    lists = [session.histories.get(item.name, ()) for session in sessions]
    entries = list(chain.from_iterable(lists))
    parts = (
        times_array([entry.start_ms for entry in entries]),
        times_array([entry.end_ms for entry in entries]),
        _array([entry.value for entry in entries], item, unfit),
    )
    return list_array([len(entry) for entry in lists], struct_array(("start_time", "end_time", "value"), parts))


def _event_columns(
    lists: Sequence[tuple[Event, ...]], definitions: Collection[EventDefinition], unfit: Unfit
) -> list[pa.Array]:
    """One column per event: the events of that name of every row, in the order in which they happened."""
    by_name: dict[str, tuple[list[int], list[Event]]] = {item.name: ([], []) for item in definitions}
    for row, events in enumerate(lists):
        for event in events:
            known = by_name.get(event.name)
            if known is None:
                unfit[event.name] += 1
                continue
            known[0].append(row)
            known[1].append(event)
    return [_event_column(item, *by_name[item.name], len(lists), unfit) for item in definitions]


def _event_column(
    definition: EventDefinition, rows: list[int], events: list[Event], count: int, unfit: Unfit
) -> pa.Array:
    names = ["event_time", "impression_id", "event_id", *(item.column for item in definition.columns)]
    parts = [
        times_array([event.time_ms for event in events]),
        pa.array([event.impression_id for event in events], pa.string()),
        pa.array([event.event_id for event in events], pa.string()),
        *(_column([event.fields for event in events], item, unfit) for item in definition.columns),
    ]
    lengths = np.bincount(np.asarray(rows, dtype=np.int64), minlength=count)
    return list_array(lengths, struct_array(names, parts))

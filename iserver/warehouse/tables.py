"""Which tables and views a program has, and their columns in order (protocol §12.3, §12.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from iserver.fdl.model import (
    IMPRESSION_TIME,
    EnumType,
    EventDefinition,
    FeatureDefinition,
    FieldDefinition,
    ListType,
    ObjectType,
    Program,
    Scalar,
    ScalarType,
    TypeRef,
)

# --- column types ---------------------------------------------------------------------------------


FileFormat = Literal["parquet", "orc"]


class Primitive(Enum):
    """A column type without parts. The value is what Hive calls it."""

    STRING = "string"
    BIGINT = "bigint"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True)
class Array:
    """A list of one type."""

    element: ColumnType


@dataclass(frozen=True, slots=True)
class Struct:
    """Named parts in order."""

    fields: tuple[tuple[str, ColumnType], ...]


ColumnType: TypeAlias = Primitive | Array | Struct

_SCALARS = {
    Scalar.INT: Primitive.BIGINT,
    Scalar.FLOAT: Primitive.DOUBLE,
    Scalar.BOOLEAN: Primitive.BOOLEAN,
    Scalar.STRING: Primitive.STRING,
    Scalar.ID: Primitive.STRING,
}

IMPRESSIONS = Array(Struct((("impression_id", Primitive.STRING), ("impression_time", Primitive.TIMESTAMP))))
EVENT_SYSTEM_FIELDS: tuple[tuple[str, ColumnType], ...] = (
    ("event_time", Primitive.TIMESTAMP),
    ("impression_id", Primitive.STRING),
    ("event_id", Primitive.STRING),
)


def column_type(type_: TypeRef) -> ColumnType:
    """The column type of an FDL type (§12.3)."""
    match type_:
        case ScalarType(scalar=scalar):
            return _SCALARS[scalar]
        case EnumType():
            return Primitive.STRING
        case ListType(element=element):
            return Array(column_type(element))
        case ObjectType(definition=definition):
            if definition is IMPRESSION_TIME:
                return IMPRESSIONS.element
            return Struct(tuple((item.column, column_type(item.type)) for item in definition.fields))


def history_type(type_: TypeRef) -> Array:
    """The type of `<name>_history`, which has every value of a mutable."""
    return Array(
        Struct(
            (
                ("start_time", Primitive.TIMESTAMP),
                ("end_time", Primitive.TIMESTAMP),
                ("value", column_type(type_)),
            )
        )
    )


def event_type(event: EventDefinition) -> Array:
    """The type of an event's column."""
    own = tuple((item.column, column_type(item.type)) for item in event.columns)
    return Array(Struct((*EVENT_SYSTEM_FIELDS, *own)))


# --- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        length: The longest text, in characters, where `@hint(length: …)` says so.
        comment: Description and deprecation, for people.
        is_history: Whether it has the history of a mutable.
    """

    name: str
    type: ColumnType
    comment: str | None = None
    length: int | None = None
    is_history: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One partitioned table.

    Attributes:
        name: Its folder under `tables/`.
        columns: In the order in which they are stored; the partition columns `ds` and `hh` are not repeated here.
        comment: What a row is, for people.
        feature: The FDL name of the feature, `None` for the session table.
    """

    name: str
    columns: tuple[Column, ...]
    comment: str
    feature: str | None = None


def tables(program: Program) -> list[Table]:
    """The session table, then one table per feature that is not abstract, in declaration order."""
    features = (feature for feature in program.features.values() if not feature.abstract)
    return [session_table(program), *(feature_table(program, feature) for feature in features)]


def session_table(program: Program) -> Table:
    """One row per session."""
    session = program.session
    # The original compiler puts the histories of mutable keys before the keys; readers match by name.
    columns = [_history(key) for key in session.keys if key.mutable]
    columns += [_column(key) for key in session.keys]
    columns += [
        Column("session_id", Primitive.STRING, "Unique identifier of the session, made by the server"),
        Column("start_time", Primitive.TIMESTAMP, "When the session started (UTC)"),
        Column("session_length", Primitive.BIGINT, "Milliseconds from the start to the last activity"),
        Column("user_agent", Primitive.STRING),
        Column("entry_url", Primitive.STRING, "The page the visit started on"),
        Column("variants", Array(Primitive.STRING), "Ids of the experiment variants that were active, not forced"),
        Column("audiences", Array(Primitive.STRING), "Ids of the audiences the visitor was found in"),
    ]
    for item in (*session.args, *session.plugin_outputs):
        columns.append(_column(item))
        if item.mutable:
            columns.append(_history(item))
    columns += [_event_column(event) for event in session.events.values()]
    return Table("session", tuple(columns), session.description or "One row per session")


def feature_table(program: Program, feature: FeatureDefinition) -> Table:
    """One row per memo record that was shown at least once."""
    columns = [
        Column("session_id", Primitive.STRING, "The session it was shown in"),
        _column(program.session.persistent_key),
        Column("impression_ids", Array(Primitive.STRING), "(deprecated: the ids are in impressions)"),
        Column("impressions", IMPRESSIONS, "Every time it was shown with these arguments"),
        Column("first_time", Primitive.TIMESTAMP, "Time of the first impression (UTC)"),
        Column("impression_count", Primitive.BIGINT, "Number of impressions"),
    ]
    columns += [_column(item) for item in feature.columns]
    columns += [_event_column(event) for event in feature.events.values()]
    comment = _comment(feature.description, feature.deprecated)
    return Table(feature.table, tuple(columns), comment or f"Impressions of {feature.name}", feature.name)


def _column(item: FieldDefinition) -> Column:
    comment = _comment(item.description, item.deprecated)
    return Column(item.column, column_type(item.type), comment, item.hint_length)


def _history(item: FieldDefinition) -> Column:
    comment = f"Every value of {item.column}"
    return Column(f"{item.column}_history", history_type(item.type), comment, is_history=True)


def _event_column(event: EventDefinition) -> Column:
    return Column(event.column, event_type(event), _comment(event.description, event.deprecated))


def _comment(description: str | None, deprecated: str | None) -> str | None:
    if deprecated is None:
        return description
    return f"{description or ''} (deprecated: {deprecated})".lstrip()


# --- views ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ViewSource:
    """One event column that a view unites.

    Attributes:
        table: The table it is in.
        column: The event column.
    """

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class View:
    """All events that import one abstract event, whichever table they are in.

    Attributes:
        name: Snake case name of the abstract event.
        fields: Names and types of the fields the abstract event declares.
        sources: The columns it unites; none when nothing imports the event.
    """

    name: str
    fields: tuple[tuple[str, ColumnType], ...]
    sources: tuple[ViewSource, ...]
    comment: str | None = None


def views(program: Program) -> list[View]:
    """One view per abstract event, in declaration order (§12.4)."""
    return [
        View(
            event.column,
            tuple((item.column, column_type(item.type)) for item in event.fields),
            tuple(_sources(program, event)),
            _comment(event.description, event.deprecated),
        )
        for event in program.events.values()
    ]


def _sources(program: Program, abstract: EventDefinition) -> Iterator[ViewSource]:
    """The session first, then the features in order."""
    owners: list[tuple[str, Sequence[EventDefinition]]] = [
        ("session", list(program.session.events.values())),
        *(
            (feature.table, list(feature.events.values()))
            for feature in program.features.values()
            if not feature.abstract
        ),
    ]
    for table, events in owners:
        for event in events:
            if abstract.name in event.imports:
                yield ViewSource(table, event.column)


# --- metadata -------------------------------------------------------------------------------------


def metadata_tables() -> list[Table]:
    """The unpartitioned tables that describe the configuration (§12.4)."""
    return [
        _metadata_table(
            "experiment",
            "Experiments and their states",
            experiment_id=Primitive.STRING,
            name=Primitive.STRING,
            description=Primitive.STRING,
            state=Primitive.STRING,
            start_ts=Primitive.TIMESTAMP,
            finish_ts=Primitive.TIMESTAMP,
            main_metric_id=Primitive.STRING,
            guardrail_metrics=Array(Primitive.STRING),
            audience_id=Primitive.STRING,
            rolled_out_ts=Primitive.TIMESTAMP,
            rolled_out_variant_id=Primitive.STRING,
        ),
        _metadata_table(
            "variant",
            "Variants of experiments; the control variant has no name",
            experiment_id=Primitive.STRING,
            variant_id=Primitive.STRING,
            name=Primitive.STRING,
        ),
        _metadata_table(
            "variant_value",
            "What each variant sets",
            experiment_id=Primitive.STRING,
            variant_id=Primitive.STRING,
            feature_name=Primitive.STRING,
            field_name=Primitive.STRING,
            field_value=Primitive.STRING,
        ),
        _metadata_table(
            "audience",
            "Audiences and the rules that define them, as JSON text",
            audience_id=Primitive.STRING,
            name=Primitive.STRING,
            description=Primitive.STRING,
            state=Primitive.STRING,
            last_changed_by=Primitive.STRING,
            last_changed_ts=Primitive.TIMESTAMP,
            definition=Primitive.STRING,
        ),
        _metadata_table(
            "metric",
            "Metrics of the configuration",
            metric_id=Primitive.STRING,
            metric_name=Primitive.STRING,
            state=Primitive.STRING,
            metric_description=Primitive.STRING,
            metric_def=Primitive.STRING,
        ),
    ]


def _metadata_table(table: str, comment: str, /, **columns: ColumnType) -> Table:
    return Table(table, tuple(Column(name, type_) for name, type_ in columns.items()), comment)

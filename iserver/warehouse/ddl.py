"""The statements that make the warehouse's tables and views known to a query engine."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from iserver.fdl.model import Program
from iserver.warehouse.tables import (
    Array,
    Column,
    ColumnType,
    FileFormat,
    Primitive,
    Struct,
    Table,
    View,
    metadata_tables,
    tables,
    views,
)

Dialect = Literal["hive", "snowflake", "redshift", "duckdb"]
DIALECTS: tuple[str, ...] = get_args(Dialect)

SEPARATOR = "\n----\n"

_HIVE_STORAGE = {
    "parquet": (
        "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
        "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
        "",
    ),
    "orc": (
        "org.apache.hadoop.hive.ql.io.orc.OrcSerde",
        "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat",
        "org.apache.hadoop.hive.ql.io.orc.OrcOutputFormat",
        "\nwith serdeproperties ('orc.column.index.access'='false')",
    ),
}


def ddl(
    program: Program,
    dialect: Dialect,
    location: str,
    *,
    schema: str | None = None,
    table_format: FileFormat = "parquet",
) -> str:
    """All statements for one program, separated by lines of `----`.

    Args:
        location: URL or path of the warehouse, without a trailing slash; for Snowflake the name of its stage.
        schema: Redshift's external schema, which must exist.
        table_format: How the tables are stored.
    """
    writer = _Writer(location.rstrip("/"), schema, table_format)
    statements = {
        "hive": writer.hive,
        "snowflake": writer.snowflake,
        "redshift": writer.redshift,
        "duckdb": writer.duckdb,
    }[dialect]
    return SEPARATOR.join(statements(program)) + "\n"


@dataclass(frozen=True, slots=True)
class _Writer:
    location: str
    schema: str | None
    table_format: FileFormat

    # --- hive -------------------------------------------------------------------------------------

    def hive(self, program: Program) -> Iterator[str]:
        for table in metadata_tables():
            yield f"drop table if exists {table.name};"
            yield self.hive_metadata(table, table.name, _hive_column)
        for table in tables(program):
            yield f"drop table if exists {_hive_name(table.name)};"
            yield self.hive_table(table)
        for view in views(program):
            yield _hive_view(view)

    def hive_metadata(self, table: Table, name: str, column: Callable[[Column], str]) -> str:
        return (
            f"create external table {name}(\n{_lines(column(item) for item in table.columns)})\n"
            "row format serde 'org.openx.data.jsonserde.JsonSerDe'\n"
            f"location '{self.location}/tables/{table.name}/';"
        )

    def hive_table(self, table: Table) -> str:
        return (
            f"create external table {_hive_name(table.name)}(\n"
            f"{_lines(_hive_column(item) for item in table.columns)})\n"
            f"comment {_hive_text(table.comment)}\n"
            "partitioned by (ds string, hh string)\n"
            f"{self.hive_storage(table)}"
        )

    def hive_storage(self, table: Table) -> str:
        serde, reader, writer, properties = _HIVE_STORAGE[self.table_format]
        return (
            f"row format serde '{serde}'{properties}\n"
            f"stored as inputformat '{reader}'\n"
            f"outputformat '{writer}'\n"
            f"location '{self.location}/tables/{table.name}/';"
        )

    # --- redshift ---------------------------------------------------------------------------------

    def redshift(self, program: Program) -> Iterator[str]:
        prefix = f"{self.schema}." if self.schema else ""
        for table in metadata_tables():
            yield f"drop table if exists {prefix}{table.name};"
            yield self.hive_metadata(table, prefix + table.name, _redshift_metadata_column)
        for table in tables(program):
            name = prefix + _quoted(table.name)
            yield f"drop table if exists {name};"
            yield (
                f"create external table {name}(\n"
                f"{_lines(_redshift_column(item) for item in table.columns)})\n"
                "partitioned by (ds varchar(10), hh varchar(2))\n"
                f"{self.hive_storage(table)}"
            )

    # --- snowflake --------------------------------------------------------------------------------

    def snowflake(self, program: Program) -> Iterator[str]:
        for table in metadata_tables():
            yield (
                f"create or replace external table {_snowflake_name(table.name)}(\n"
                f"{_lines(_snowflake_column(item) for item in table.columns)})\n"
                f"with location = @{self.location.lstrip('@')}/tables/{table.name}\n"
                f"file_format = (type = 'JSON')\ncomment = {_sql_text(table.comment)};"
            )
        for table in tables(program):
            yield self.snowflake_table(table)
        for view in views(program):
            yield _snowflake_view(view)

    def snowflake_table(self, table: Table) -> str:
        # File names start with tables/<table>/ds=YYYY-MM-DD/hh=HH/; positions count from 1.
        day = len(f"tables/{table.name}/ds=") + 1
        hour = day + len("YYYY-MM-DD/hh=")
        columns = [
            *(_snowflake_column(item) for item in table.columns),
            f"ds varchar as substr(metadata$filename, {day}, 10)",
            f"hh varchar as substr(metadata$filename, {hour}, 2)",
        ]
        return (
            f"create or replace external table {_snowflake_name(table.name)}(\n{_lines(columns)})\n"
            "partition by (ds, hh)\n"
            f"with location = @{self.location.lstrip('@')}/tables/{table.name}\n"
            f"file_format = (type = '{self.table_format.upper()}')\n"
            f"comment = {_sql_text(table.comment)};"
        )

    # --- duckdb -----------------------------------------------------------------------------------

    def duckdb(self, program: Program) -> Iterator[str]:
        for table in metadata_tables():
            yield self.duckdb_metadata(table)
        for table in tables(program):
            yield from self.duckdb_table(table)
        for view in views(program):
            yield _duckdb_view(view)

    def duckdb_metadata(self, table: Table) -> str:
        columns = ", ".join(f"{_sql_text(item.name)}: {_sql_text(_duckdb_type(item.type))}" for item in table.columns)
        path = _sql_text(f"{self.location}/tables/{table.name}/*.json")
        return (
            f"create or replace view {_quoted(table.name)} as\n"
            f"select * from read_json({path}, format = 'newline_delimited', columns = {{{columns}}});"
        )

    def duckdb_table(self, table: Table) -> Iterator[str]:
        path = _sql_text(f"{self.location}/tables/{table.name}/ds=*/hh=*/*.parquet")
        names = ", ".join(_quoted(item.name) for item in table.columns)
        options = "union_by_name = true, hive_partitioning = true, hive_types = {'ds': varchar, 'hh': varchar}"
        yield (
            f"create or replace view {_quoted(table.name)} as\n"
            f"select {names}, ds, hh from read_parquet({path}, {options});"
        )
        yield f"comment on view {_quoted(table.name)} is {_sql_text(table.comment)};"


# --- names, texts and types of the dialects -------------------------------------------------------


def _lines(items: Iterator[str] | list[str]) -> str:
    return textwrap.indent(",\n".join(items), "  ") + "\n"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _hive_name(name: str) -> str:
    return f"`{name}`"


_SNOWFLAKE_RESERVED = re.compile(
    r"""
    account | all | alter | and | any | as | between | by | case | cast | check | column | connect |
    connection | constraint | create | cross | current | current_date | current_time | current_timestamp
    | current_user | database | delete | distinct | drop | else | exists | false | following | for |
    from | full | grant | group | gscluster | having | ilike | in | increment | inner | insert |
    intersect | into | is | issue | join | lateral | left | like | localtime | localtimestamp | minus |
    natural | not | null | of | on | or | order | organization | qualify | regexp | revoke | right |
    rlike | row | rows | sample | schema | select | set | some | start | table | tablesample | then | to
    | trigger | true | try_cast | union | unique | update | using | values | view | when | whenever |
    where | with
    """,
    re.VERBOSE,
)


def _snowflake_name(name: str) -> str:
    """Unquoted, as in the queries of users; quoted only where it must be, and then in upper case as all other names."""
    return _quoted(name.upper()) if _SNOWFLAKE_RESERVED.fullmatch(name) else name


def _snowflake_key(name: str) -> str:
    """The same name in a path into a file, where case counts."""
    return _quoted(name) if _SNOWFLAKE_RESERVED.fullmatch(name) else name


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _hive_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace(";", "\\;")
    return f"'{escaped}'"


def _hive_type(type_: ColumnType, *, text: str = "string", double: str = "double") -> str:
    match type_:
        case Primitive.STRING:
            return text
        case Primitive.DOUBLE:
            return double
        case Primitive():
            return str(type_.value)
        case Array(element=element):
            return f"array<{_hive_type(element, text=text, double=double)}>"
        case Struct(fields=fields):
            parts = (f"{name}:{_hive_type(part, text=text, double=double)}" for name, part in fields)
            return f"struct<{','.join(parts)}>"


def _hive_column(column: Column) -> str:
    comment = f" comment {_hive_text(column.comment)}" if column.comment else ""
    return f"{_hive_name(column.name)} {_hive_type(column.type)}{comment}"


def _redshift_type(type_: ColumnType) -> str:
    return _hive_type(type_, text="varchar", double="double precision")


def _redshift_column(column: Column) -> str:
    length = f"({column.length})" if column.length and column.type is Primitive.STRING else ""
    return f"{_quoted(column.name)} {_redshift_type(column.type)}{length}"


def _redshift_metadata_column(column: Column) -> str:
    # Redshift's default length is 256; definitions of audiences and metrics are JSON texts.
    length = "(65535)" if column.name in ("definition", "metric_def", "field_value") else ""
    return f"{_quoted(column.name)} {_redshift_type(column.type)}{length}"


def _snowflake_type(column: Column) -> str:
    if column.is_history:
        return "variant"
    match column.type:
        case Primitive.STRING:
            return "varchar"
        case Primitive.DOUBLE:
            return "double precision"
        case Primitive() as primitive:
            return str(primitive.value)
        case Array():
            return "array"
        case Struct():
            return "object"


def _snowflake_column(column: Column) -> str:
    type_ = _snowflake_type(column)
    comment = f" comment {_sql_text(column.comment)}" if column.comment else ""
    return f"{_snowflake_name(column.name)} {type_} as (value:{_snowflake_key(column.name)}::{type_}){comment}"


def _duckdb_type(type_: ColumnType) -> str:
    match type_:
        case Primitive.STRING:
            return "varchar"
        case Primitive():
            return str(type_.value)
        case Array(element=element):
            return f"{_duckdb_type(element)}[]"
        case Struct(fields=fields):
            return f"struct({', '.join(f'{_quoted(name)} {_duckdb_type(part)}' for name, part in fields)})"


# --- views ----------------------------------------------------------------------------------------

_VIEW_COLUMNS: tuple[tuple[str, ColumnType], ...] = (
    ("ds", Primitive.STRING),
    ("hh", Primitive.STRING),
    ("session_id", Primitive.STRING),
    ("feature", Primitive.STRING),
    ("impression_id", Primitive.STRING),
    ("event_time", Primitive.TIMESTAMP),
)


def _hive_view(view: View) -> str:
    def select(table: str, column: str) -> str:
        fields = "".join(f", event.{_hive_name(name)}" for name, _ in view.fields)
        return (
            f"select ds, hh, session_id, '{table}' as feature, event.impression_id, event.event_time{fields}\n"
            f"from {_hive_name(table)} lateral view explode({_hive_name(column)}) unnested as event"
        )

    return _union(view, _hive_name(view.name), select, _hive_name, _hive_type)


def _snowflake_view(view: View) -> str:
    def select(table: str, column: str) -> str:
        fields = "".join(
            f", event.value:{_snowflake_key(name)}::{_snowflake_type(Column(name, type_))} as {_snowflake_name(name)}"
            for name, type_ in view.fields
        )
        return (
            f"select ds, hh, session_id, '{table}' as feature, event.value:impression_id::varchar as impression_id, "
            f"event.value:event_time::timestamp as event_time{fields}\n"
            f"from {_snowflake_name(table)}, table(flatten(input => {_snowflake_name(column)})) event"
        )

    return _union(
        view, _snowflake_name(view.name), select, _snowflake_name, lambda type_: _snowflake_type(Column("", type_))
    )


def _duckdb_view(view: View) -> str:
    def select(table: str, column: str) -> str:
        fields = "".join(f", event.{_quoted(name)}" for name, _ in view.fields)
        return (
            f"select ds, hh, session_id, '{table}' as feature, event.impression_id, event.event_time{fields}\n"
            f"from {_quoted(table)}, unnest({_quoted(column)}) as unnested(event)"
        )

    return _union(view, _quoted(view.name), select, _quoted, _duckdb_type)


def _union(
    view: View,
    name: str,
    select: Callable[[str, str], str],
    quoted: Callable[[str], str],
    type_text: Callable[[ColumnType], str],
) -> str:
    """A view over every source, or an empty one with the right columns when nothing imports the event."""
    selects = [select(source.table, source.column) for source in view.sources]
    if not selects:
        columns = ", ".join(
            f"cast(null as {type_text(type_)}) as {quoted(column)}" for column, type_ in (*_VIEW_COLUMNS, *view.fields)
        )
        selects = [f"select {columns}\nwhere 1 = 0"]
    return f"create or replace view {name} as\n" + "\nunion all\n".join(selects) + ";"

"""Reads experiments, exposures and metrics from the warehouse's tables with DuckDB.

A visitor is a value of the split key, or of the persistent key where a session has none: what traffic is split on.
A visitor is exposed to a variant by the first impression of a feature the experiment touches; only events from then on
count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import yaml

from iserver.fdl.names import snake_case
from iserver.report.model import Day, Exposure, Metric, ReportedExperiment, ReportError, Variant
from iserver.report.statistics import Sample

NO_OUTCOMES = "select null as unit, null::date as day, 0::double as x where false"

EVENT_FIELDS = ("event_time", "impression_id", "event_id")


class ReportWarehouse:
    """The tables of one warehouse, opened for reading."""

    def __init__(self, location: str) -> None:
        """
        Args:
            location: Path or URL of the folder with `catalog.yml`.

        Raises:
            ReportError: There is no warehouse, or its files are not Parquet.
        """
        self._location = location.rstrip("/")
        self._connection = duckdb.connect()
        try:
            files, _ = fsspec.url_to_fs(self._location)
            if "://" in self._location and not self._location.startswith("file://"):
                self._connection.register_filesystem(files)
            with fsspec.open(f"{self._location}/catalog.yml", "rt", encoding="utf-8") as file:
                catalog = yaml.safe_load(file)
            self._metadata: Mapping[str, Any] = catalog["metadata"]
            sources: Mapping[str, Any] = catalog["sources"]
            drivers = {entry["driver"] for entry in sources.values()}
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ReportError(f"no warehouse at {location}: {error}") from error
        if "orc" in drivers:
            raise ReportError("the report reads Parquet and Delta tables, and these are ORC")
        self._tables = [name for name, entry in sources.items() if entry["driver"] == "parquet"]
        self._open_views()

    # --- experiments ------------------------------------------------------------------------------

    def experiments(self) -> list[ReportedExperiment]:
        """Every experiment of the configuration, in its order."""
        rows = self._rows("select experiment_id, name, state from experiment")
        return [
            ReportedExperiment(str(id_), str(name), str(state), self._variants(str(id_)), self._features(str(id_)))
            for id_, name, state in rows
        ]

    def _variants(self, experiment_id: str) -> tuple[Variant, ...]:
        rows = self._rows("select variant_id, name, weight from variant where experiment_id = ?", [experiment_id])
        variants = [
            Variant(str(id_), "control" if name is None else str(name), float(weight or 1), name is None)
            for id_, name, weight in rows
        ]
        return tuple(sorted(variants, key=lambda variant: not variant.is_control))

    def _features(self, experiment_id: str) -> tuple[str, ...]:
        query = "select distinct feature_name from variant_value where experiment_id = ? order by 1"
        return tuple(str(name) for (name,) in self._rows(query, [experiment_id]))

    # --- exposures --------------------------------------------------------------------------------

    def expose(self, experiment: ReportedExperiment) -> Exposure:
        """Find the visitors of an experiment; `days` reads their metric."""
        self._connection.execute("create or replace temp table exposure as " + self._exposure_query(experiment))
        self._connection.execute(
            "create or replace temp table visitor as select unit, any_value(variant) as variant, "
            "min(exposed_at) as exposed_at from exposure group by unit having count(distinct variant) = 1"
        )
        counts = dict(self._rows("select variant, count(*) from visitor group by variant"))
        ((mixed,),) = self._rows(
            "select count(*) from (select unit from exposure group by unit having count(distinct variant) > 1)"
        )
        return Exposure({variant.id: counts.get(variant.id, 0) for variant in experiment.variants}, mixed)

    def _exposure_query(self, experiment: ReportedExperiment) -> str:
        """One row per session and variant, with the time of the first impression that counts."""
        tables = [table for name in experiment.features if (table := snake_case(name)) in self._tables]
        impressions = " union all ".join(
            f"select session_id, cast(first_time as timestamp) as first_time from {_quoted(table)}" for table in tables
        )
        shown = f"select session_id, min(first_time) as first_time from ({impressions}) group by 1"
        shown = shown if tables else "select null as session_id, null::timestamp as first_time where false"
        ids = ", ".join(_text(variant.id) for variant in experiment.variants)
        return (
            "select s.unit, v.variant, coalesce(i.first_time, s.start_time) as exposed_at "
            "from session_unit s, unnest(s.variants) as v(variant) "
            f"left join ({shown}) i on i.session_id = s.session_id "
            f"where v.variant in ({ids})"
        )

    # --- metrics ----------------------------------------------------------------------------------

    def days(self, experiment: ReportedExperiment, metric: Metric | None) -> list[Day]:
        """Samples at the end of each day since the first exposure; call `expose` first.

        Args:
            metric: Without one only the counts of visitors matter.

        Raises:
            ReportError: No table has that event or field.
        """
        is_rate = metric is not None and metric.is_rate
        outcomes = self._outcomes(metric) if metric else NO_OUTCOMES
        gained = "1::double" if is_rate else "sum(x)"
        first_day_only = "qualify row_number() over (partition by unit order by day) = 1" if is_rate else ""
        query = f"""
            with outcome as ({outcomes}),
            daily as (select unit, day, {gained} as gained from outcome group by unit, day {first_day_only}),
            growing as (
                select v.variant, d.day, d.gained, sum(d.gained) over (partition by d.unit order by d.day) as reached
                from daily d join visitor v using (unit)
            ),
            changes as (
                select variant, exposed_at::date as day, count(*) as visitors, 0::double as total, 0::double as squares
                from visitor group by all
                union all
                select variant, day, 0, sum(gained), sum(reached * reached - (reached - gained) * (reached - gained))
                from growing group by all
            )
            select day, variant, sum(visitors), sum(total), sum(squares) from changes group by all order by day
        """
        return list(_accumulate(self._rows(query), [variant.id for variant in experiment.variants]))

    def _outcomes(self, metric: Metric) -> str:
        """One row per event of an exposed visitor after the exposure."""
        selects = []
        for table, column, fields in self._event_columns(metric.event):
            value = "1::double"
            if metric.field is not None:
                name = snake_case(metric.field)
                if name not in fields:
                    known = ", ".join(sorted(fields - set(EVENT_FIELDS))) or "none"
                    raise ReportError(f"{metric}: {table}.{column} has no field {name} (its fields: {known})")
                value = f"coalesce(try_cast(e.{_quoted(name)} as double), 0)"
            selects.append(
                f"select v.unit, cast(cast(e.event_time as timestamp) as date) as day, {value} as x "
                f"from {_quoted(table)} t, unnest(t.{_quoted(column)}) as u(e) "
                "join session_unit s on s.session_id = t.session_id join visitor v on v.unit = s.unit "
                "where cast(e.event_time as timestamp) >= v.exposed_at"
            )
        return " union all ".join(selects)

    def _event_columns(self, event: str) -> list[tuple[str, str, set[str]]]:
        """Tables, columns and field names of an event, or of every event that imports an abstract one."""
        name = snake_case(event)
        view = self._metadata.get("views", {}).get(name, [])
        wanted = {(source["table"], source["column"]) for source in view}
        found = []
        columns = self._columns()
        for table, column, fields in columns:
            is_event = fields.issuperset(EVENT_FIELDS)
            if is_event and ((table, column) in wanted or (not view and column == name)):
                found.append((table, column, fields))
        if not found:
            known = sorted({column for _, column, fields in columns if fields.issuperset(EVENT_FIELDS)})
            raise ReportError(f"no table has the event {event} (events: {', '.join(known) or 'none'})")
        return found

    # --- reading ----------------------------------------------------------------------------------

    def _open_views(self) -> None:
        for table in self._tables:
            path = _text(f"{self._location}/tables/{table}/ds=*/hh=*/*.parquet")
            self._connection.execute(
                f"create view {_quoted(table)} as select * from read_parquet({path}, union_by_name = true)"
            )
        columns = {
            "experiment": "experiment_id: 'varchar', name: 'varchar', state: 'varchar'",
            "variant": "experiment_id: 'varchar', variant_id: 'varchar', name: 'varchar', weight: 'double'",
            "variant_value": "experiment_id: 'varchar', feature_name: 'varchar'",
        }
        for table, described in columns.items():
            path = _text(f"{self._location}/tables/{table}/{table}.json")
            self._connection.execute(
                f"create view {table} as select * from read_json({path}, format = 'newline_delimited', "
                f"columns = {{{described}}})"
            )
        persistent, split = (_quoted(self._metadata[key]) for key in ("persistent_key", "split_key"))
        self._connection.execute(
            "create view session_unit as select session_id, variants, cast(start_time as timestamp) as start_time, "
            f"coalesce(cast({split} as varchar), cast({persistent} as varchar)) as unit from session"
        )

    def _columns(self) -> list[tuple[str, str, set[str]]]:
        """Every table and column with the names of the fields in its structs, none for other types."""
        result = []
        for table in self._tables:
            schema = self._connection.sql(f"from {_quoted(table)} limit 0").to_arrow_table().schema
            result += [(table, field.name, _struct_fields(field.type)) for field in schema]
        return result

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, list(parameters)).fetchall()


def _accumulate(changes: Iterable[tuple[Any, ...]], variants: Sequence[str]) -> Iterable[Day]:
    """Running samples from what changed on each day; the changes are in the order of the days."""
    samples = dict.fromkeys(variants, Sample(0, 0.0, 0.0))
    current: date | None = None
    for day, variant, visitors, total, squares in changes:
        if current is not None and day != current:
            yield Day(current, dict(samples))
        current = day
        before = samples[variant]
        samples[variant] = Sample(before.count + visitors, before.total + total, before.squares + squares)
    if current is not None:
        yield Day(current, dict(samples))


def _struct_fields(type_: pa.DataType) -> set[str]:
    """The names in a list of structs, none for every other type."""
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        return {field.name for field in type_.value_type}
    return set()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

"""`catalog.yml`: the document that lets any Intake client open the warehouse's tables by name.

Entries of tables of earlier programs stay: their files are still there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from iserver.fdl.model import Program
from iserver.warehouse.tables import Table, metadata_tables, tables, views


def catalog_text(program: Program, schemas: Mapping[str, str], suffix: str, previous: str | None) -> str:
    """The catalog as YAML.

    Args:
        program: The program in force.
        schemas: Identifies the columns of each of its partitioned tables.
        suffix: How names of data files end, `parquet` or `orc`.
        previous: The catalog in place, if there is one.
    """
    session = program.session
    sources: dict[str, Any] = dict(_sources(previous))
    sources.update({table.name: _data_entry(table, schemas[table.name], suffix) for table in tables(program)})
    sources.update({table.name: _metadata_entry(table) for table in metadata_tables()})
    document = {
        "metadata": {
            "version": 1,
            "description": "Sessions and impressions recorded by iserver; times are UTC",
            "persistent_key": session.persistent_key.column,
            "split_key": session.split_key.column,
            "views": {
                view.name: [{"table": source.table, "column": source.column} for source in view.sources]
                for view in views(program)
            },
        },
        "sources": sources,
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _sources(previous: str | None) -> Mapping[str, Any]:
    document = yaml.safe_load(previous) if previous else None
    sources = document.get("sources") if isinstance(document, dict) else None
    return sources if isinstance(sources, dict) else {}


def _data_entry(table: Table, schema: str, suffix: str) -> dict[str, Any]:
    # The folder, and no pattern of files in it: the classic Parquet driver reads a whole table only by its folder.
    # CATALOG_DIR of a local catalog ends with a slash; two in a row do no harm there.
    return {
        "description": table.comment,
        "driver": suffix,
        "args": {"urlpath": f"{{{{ CATALOG_DIR }}}}/tables/{table.name}/"},
        "metadata": {
            "feature": table.feature,
            "schema": schema,
            "partitioned_by": ["ds", "hh"],
            "fields": {column.name: column.comment for column in table.columns if column.comment},
        },
    }


def _metadata_entry(table: Table) -> dict[str, Any]:
    return {
        "description": table.comment,
        "driver": "jsonl",
        "args": {"urlpath": f"{{{{ CATALOG_DIR }}}}/tables/{table.name}/{table.name}.json"},
    }

"""The metadata tables: what the configuration says about experiments, audiences and metrics (protocol §12.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

Row = dict[str, object]


def metadata_rows(document: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The rows of every metadata table for a configuration document (§9.3).

    Args:
        document: A document that is valid; absent parts are empty.
    """
    experiments: Sequence[Mapping[str, Any]] = document.get("experiments", ())
    return {
        "experiment": [_experiment(item) for item in experiments],
        "variant": [
            {
                "experiment_id": item["id"],
                "variant_id": variant["id"],
                "name": None if variant.get("control") else variant.get("name"),
                "weight": variant.get("weight"),  # no column: only the experiment report reads it
            }
            for item in experiments
            for variant in item["variants"]
        ],
        "variant_value": [
            _variant_value(item["id"], variant["id"], value)
            for item in experiments
            for variant in item["variants"]
            for value in variant.get("values", ())
        ],
        "audience": [_audience(item) for item in document.get("audiences", ())],
        "metric": [_metric(item) for item in document.get("metrics", ()) if isinstance(item, Mapping)],
    }


def json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Rows as JSON lines; an absent value is null."""
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def _experiment(item: Mapping[str, Any]) -> Row:
    return {
        "experiment_id": item["id"],
        "name": item.get("name"),
        "description": item.get("description"),
        "state": item.get("state", "published"),
        "start_ts": _timestamp(item.get("startTs")),
        "finish_ts": _timestamp(item.get("finishTs")),
        "main_metric_id": item.get("mainMetricId"),
        "guardrail_metrics": item.get("guardrailMetrics", []),
        "audience_id": item.get("audienceId"),
        "rolled_out_ts": _timestamp(item.get("rolledOutTs")),
        "rolled_out_variant_id": item.get("rolledOutVariantId"),
    }


def _variant_value(experiment_id: str, variant_id: str, value: Mapping[str, Any]) -> Row:
    """One value a variant sets; `field_name` is null where it switches the whole feature."""
    content = value["value"] if "value" in value else {"active": value.get("active")}
    return {
        "experiment_id": experiment_id,
        "variant_id": variant_id,
        "feature_name": value["feature"],
        "field_name": value.get("field"),
        "field_value": orjson.dumps(content).decode(),
    }


def _audience(item: Mapping[str, Any]) -> Row:
    return {
        "audience_id": item["id"],
        "name": item.get("name"),
        "description": item.get("description"),
        "state": item.get("state", "published"),
        "last_changed_by": item.get("lastChangedBy"),
        "last_changed_ts": _timestamp(item.get("lastChangedTs")),
        "definition": orjson.dumps(item["definition"]).decode(),
    }


def _metric(item: Mapping[str, Any]) -> Row:
    return {
        "metric_id": item.get("id"),
        "metric_name": item.get("name"),
        "state": item.get("state"),
        "metric_description": item.get("description"),
        "metric_def": orjson.dumps(item.get("definition")).decode(),
    }


def _timestamp(time_ms: object) -> str | None:
    """Epoch milliseconds as SQL timestamp text in UTC, which every engine's JSON reader understands."""
    if not isinstance(time_ms, int):
        return None
    instant = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{instant:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d}"

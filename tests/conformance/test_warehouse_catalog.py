"""The catalog beside the warehouse, opened by the classic intake with its own Parquet driver, without any server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iserver.etl.writer import Warehouse
from iserver.settings import TableFormat
from iserver.warehouse.metadata import metadata_rows
from tests.conformance.environments import client_python, run_client
from tests.iserver.warehouse.sessions import SHOP_PROGRAM, START_MS, visits
from tests.iserver.warehouse.test_tables import DOCUMENT

pytestmark = pytest.mark.timeout(600)  # the client's environment may have to be made first

READ = """
import json, sys
import intake
catalog = intake.open_catalog(sys.argv[1])
frames = {name: catalog[name].read() for name in ("session", "rating_box", "product_info", "new_checkout", "search")}
print(json.dumps({
    "description": catalog.rating_box.description,
    "rows": {name: len(frame) for name, frame in frames.items()},
    "lazy": len(catalog["search"].to_dask().compute()),
    "hours": sorted({f"{ds} {hh}" for ds, hh in zip(frames["session"]["ds"], frames["session"]["hh"])}),
    "stars": int(frames["rating_box"]["rating"][0][0]["stars"]),
    "columns": list(frames["product_info"].columns),
    "experiments": [row["name"] for row in catalog.experiment.read()],
}))
"""


@pytest.mark.parametrize("table_format", ["parquet", "delta"])
def test_the_classic_catalog_reads_every_table(tmp_path: Path, table_format: TableFormat):
    warehouse = Warehouse.open(str(tmp_path), table_format)
    warehouse.prepare(SHOP_PROGRAM, START_MS)
    warehouse.write_metadata(metadata_rows(DOCUMENT))
    warehouse.write(visits(3), "batch-1", {SHOP_PROGRAM.fingerprint: SHOP_PROGRAM}.__getitem__)
    python = client_python("intake-may-2023")
    assert json.loads(run_client(python, READ, str(tmp_path / "catalog.yml"))) == {
        "description": "Collects a star rating for a product",
        "rows": {"session": 3, "rating_box": 3, "product_info": 0, "new_checkout": 0, "search": 3},
        "lazy": 3,
        "hours": ["2023-11-14 22"],
        "stars": 4,
        "columns": [
            *("session_id", "device_id", "impression_ids", "impressions", "first_time", "impression_count"),
            *("ds", "hh"),
        ],
        "experiments": ["Button copy"],
    }
